"""What servers are paid: the plan in advance, the account of a run, the limit on it.

    DIR/usage.json    {"target": {"requests", "tokens_in", "cost", ...}, "judge": {...}}

counts what all processes of a run asked of the server of the target, and of that of a judge that is
behind one. Targets and judges in this process cost nothing and have no account.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tailbound.core.prompt import Prompt
from tailbound.core.steps import notice
from tailbound.errors import LedgerError, UsageError
from tailbound.runs.layout import USAGE
from tailbound.storage.documents import read_json, understood
from tailbound.targets.capabilities import PaidTarget, spent_by
from tailbound.targets.registry import provider

if TYPE_CHECKING:
    from tailbound.judges import Judge

Account = dict[str, float]

_SECONDS = 1.0
_NAMES = {"target": "endpoint", "judge": "judge_endpoint"}


class PlannedPart(Protocol):
    """Tokens of one part of a plan: of its prompts, once per draw, and of the responses."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def tokens(self) -> int: ...


class Planned(Protocol):
    """What a preview says of a plan, as far as it costs anything."""

    @property
    def streams(self) -> Sequence[PlannedPart]: ...

    @property
    def draws(self) -> int: ...

    @property
    def probe_draws(self) -> int: ...

    @property
    def samples(self) -> Sequence[tuple[Prompt, str]]: ...


class Costs:
    """The accounts of one process: of its target, and of its judge."""

    def __init__(self, target: object, judge: object) -> None:
        behind = {"target": target, "judge": judge}
        self._payers = {name: one for name, one in behind.items() if spent_by(one) is not None}

    def now(self, *, under_way: bool = False) -> dict[str, Account]:
        """What this process asked for, by payer; with what is `under_way` at its most."""
        asked = {n: spent_by(one, under_way=under_way) for n, one in self._payers.items()}
        return {name: account for name, account in asked.items() if account is not None}

    def report(self, folder: Path | None = None) -> dict[str, Account]:
        """{"endpoint", "judge_endpoint"} of this process, and "..._of_run" of that in `folder`."""
        found = {_NAMES[name]: account for name, account in self.now().items()}
        held = {} if folder is None else read_accounts(folder)
        whole = {f"{_NAMES[name]}_of_run": held[name] for name in self._payers if name in held}
        return {**found, **whole}

    @contextmanager
    def kept(self, folder: Path) -> Iterator[None]:
        """Keep DIR/usage.json up to date every second, for a process that is killed too."""
        if not self._payers:
            yield
            return
        from tailbound.storage.files import write_json

        before = read_accounts(folder)

        def write(accounts: Mapping[str, Account]) -> None:
            summed = {name: _sum(before.get(name, {}), one) for name, one in accounts.items()}
            write_json(folder / USAGE, {**before, **summed})

        ended = threading.Event()

        def keep() -> None:
            while not ended.wait(_SECONDS):
                # a disk that is full now may have room later; the last write reports
                with suppress(LedgerError):
                    write(self.now(under_way=True))

        keeper = threading.Thread(target=keep, name="accounts", daemon=True)
        keeper.start()
        clean = False
        try:
            yield
            clean = True
        finally:
            ended.set()
            keeper.join()
            # what was open when the run broke off may have been worked on
            write(self.now(under_way=not clean))


def read_accounts(folder: Path) -> dict[str, Account]:
    """The accounts of all processes of a run so far; `LedgerError` where they are damaged."""
    path = folder / USAGE
    cure = "restore it, or delete it to count from 0"
    try:
        held = read_json(path, cure=cure)
    except FileNotFoundError:
        return {}
    with understood(path, cure=cure):
        return {name: {k: float(v) for k, v in one.items()} for name, one in held.items()}


def spent_before(target: str, folder: Path) -> Account:
    """{"earlier_cost": what earlier processes of the run paid}, for the loader of an endpoint."""
    declared = provider(target)
    if not (declared.served and declared.takes("earlier_cost")):
        return {}
    return {"earlier_cost": read_accounts(folder).get("target", {}).get("cost", 0.0)}


def cost_of_plan(
    target: object, costs: Costs, before: Mapping[str, Account], preview: Planned
) -> Account:
    """{"cost", "judge_cost"} of a plan: all prompts of all parts, responses as in its preview.

    Behind a server that counts no tokens, draws are expected to cost what those of the preview did.
    `before` are the accounts from before the preview. The judge of a preview has judged some.
    """
    after = costs.now()
    found: Account = {}
    if "target" in after:
        spent = after["target"]["cost"] - before["target"]["cost"]
        if after["target"]["uncounted"] > before["target"]["uncounted"]:
            # the preview draws everything twice: the first time warms up
            found["cost"] = preview.draws * spent / (2 * preview.probe_draws)
        elif isinstance(target, PaidTarget):
            found["cost"] = target.price(
                sum(stream.prompt_tokens for stream in preview.streams),
                sum(stream.tokens for stream in preview.streams),
            )
    if "judge" in after and preview.samples:
        spent = after["judge"]["cost"] - before["judge"]["cost"]
        found["judge_cost"] = preview.draws * spent / len(preview.samples)
    return {name: cost for name, cost in found.items() if cost}


def judge_samples(judge: Judge, preview: Planned) -> None:
    """Let a judge that is paid judge the samples of a preview, to find out what verdicts cost."""
    from tailbound.judges import Exchange

    if spent_by(judge) is not None:
        judge.judge([Exchange(prompt, text) for prompt, text in preview.samples])


def cost_range(target: object, prompts: Sequence[Prompt], draws: int) -> Account:
    """{"cost_at_least", "cost_at_most"} of `draws` draws of each prompt, empty without prices."""
    if not isinstance(target, PaidTarget):
        return {}
    most = target.cost_at_most(prompts, draws)
    least = target.cost_at_least(prompts, draws)
    return {"cost_at_least": least, "cost_at_most": most} if most else {}


def check_plan(
    target: object,
    *,
    certain: Sequence[tuple[Sequence[Prompt], float]],
    at_most: Sequence[tuple[Sequence[Prompt], float]] = (),
) -> None:
    """Compare a plan, pairs of prompts and draws of each, with the limit on its cost.

    Raises `UsageError` where what is `certain` to be drawn exceeds the limit; says so where the
    whole may. What earlier processes drew is not known here: a resumed run is not checked.
    Nothing for targets that cost nothing.
    """
    if not isinstance(target, PaidTarget) or target.max_cost is None or target.earlier_cost:
        return
    limit = target.max_cost
    least = sum(target.cost_at_least(prompts, draws) for prompts, draws in certain)
    if least > limit:
        raise UsageError(
            f"the draws asked for cost at least {least:.4g}, more than --max-cost {limit:g}: "
            "ask for fewer, or raise the limit"
        )
    most = sum(target.cost_at_most(prompts, draws) for prompts, draws in (*certain, *at_most))
    if most > limit:
        notice(
            f"the plan may cost about {most:.4g} if every response is as long as it may be; the "
            f"run stops before it costs more than {limit:g}"
        )


def _sum(one: Mapping[str, float], other: Mapping[str, float]) -> Account:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}
