"""What splitting cannot do, found out before anything is spent."""

from __future__ import annotations

from typing import Any

from tailbound.errors import UsageError
from tailbound.judges import Judge
from tailbound.judges.base import Graded
from tailbound.targets.capabilities import Continuing
from tailbound.workflows.risk.settings import RiskSettings
from tailbound.workflows.risk.splitting.settings import SplittingOptions

SPLITTING = "splitting"
"""The spec that asks for it; it stands alone."""


def check_options(settings: RiskSettings, options: SplittingOptions) -> None:
    """Raise `UsageError` for options that do not go with splitting."""
    if settings.until_resolved:
        raise UsageError(
            "--until-resolved does not go with --proposal splitting: repeat the command with a "
            "larger --draws, which adds repeats"
        )
    if settings.family != "ladder":
        raise UsageError(
            f"--proposal-family {settings.family} does not go with --proposal splitting, which "
            "weights no proposal: remove it"
        )
    options.repeats(settings)


def check_judge(judge: Judge) -> None:
    """Raise `UsageError` for a judge that gives no grades."""
    if isinstance(judge, Graded) and not judge.graded:
        raise UsageError(
            f"--proposal splitting needs a judge that gives grades, and every score of {judge.id} "
            "is 0 or 1: use a rubric, a classifier or a function with scores between them, or "
            "--proposal refusal or none"
        )


def check_target(target: Any) -> None:
    """Raise `UsageError` for a target that cannot continue a beginning."""
    if not isinstance(target, Continuing):
        raise UsageError(
            "--proposal splitting needs a target that can continue a given beginning of a reply, "
            f"and {target.contract.target} cannot: use --proposal none"
        )
    target.check_continuing()
