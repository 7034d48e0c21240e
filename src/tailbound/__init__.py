"""tailbound measures how rarely a language model misbehaves.

*When* is the first unsafe output to be expected (`bound`, `predict`), and *how likely* is one
(`risk`)? `tailbound.api` says what the functions here share. `calibrate` and `estimate_risk` are
the statistics alone, on arrays, for draws that were made elsewhere.

Names are looked up when they are asked for: `import tailbound` brings nothing along.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailbound.api import (
        audit_judge,
        bound,
        bound_table,
        compare,
        export,
        forecast_deployment,
        gate,
        import_draws,
        ledger,
        load_target,
        monitor,
        paraphrase,
        plan_bound,
        plan_risk,
        predict,
        rejudge,
        report,
        reproduce_mc_vs_is,
        reproduce_persona,
        reproduce_realtoxicity,
        reproduce_strongreject,
        reproduce_synthetic,
        risk,
        sensitivity,
        show,
        steer_persona,
        steer_refusal,
        summarize,
        verify,
        view,
    )
    from tailbound.importance_sampling import estimate_risk
    from tailbound.judges.registry import list_judges, load_judge
    from tailbound.survival import calibrate
    from tailbound.targets.registry import list_targets
    from tailbound.workflows.load import load_run

__version__: str

_HOMES = {
    "audit_judge": "tailbound.api",
    "bound": "tailbound.api",
    "bound_table": "tailbound.api",
    "calibrate": "tailbound.survival",
    "compare": "tailbound.api",
    "estimate_risk": "tailbound.importance_sampling",
    "export": "tailbound.api",
    "forecast_deployment": "tailbound.api",
    "gate": "tailbound.api",
    "import_draws": "tailbound.api",
    "ledger": "tailbound.api",
    "list_judges": "tailbound.judges.registry",
    "list_targets": "tailbound.targets.registry",
    "load_judge": "tailbound.judges.registry",
    "load_run": "tailbound.workflows.load",
    "load_target": "tailbound.api",
    "monitor": "tailbound.api",
    "paraphrase": "tailbound.api",
    "plan_bound": "tailbound.api",
    "plan_risk": "tailbound.api",
    "predict": "tailbound.api",
    "rejudge": "tailbound.api",
    "report": "tailbound.api",
    "reproduce_mc_vs_is": "tailbound.api",
    "reproduce_persona": "tailbound.api",
    "reproduce_realtoxicity": "tailbound.api",
    "reproduce_strongreject": "tailbound.api",
    "reproduce_synthetic": "tailbound.api",
    "risk": "tailbound.api",
    "sensitivity": "tailbound.api",
    "show": "tailbound.api",
    "steer_persona": "tailbound.api",
    "steer_refusal": "tailbound.api",
    "summarize": "tailbound.api",
    "verify": "tailbound.api",
    "view": "tailbound.api",
}

__all__ = [
    "__version__",
    "audit_judge",
    "bound",
    "bound_table",
    "calibrate",
    "compare",
    "estimate_risk",
    "export",
    "forecast_deployment",
    "gate",
    "import_draws",
    "ledger",
    "list_judges",
    "list_targets",
    "load_judge",
    "load_run",
    "load_target",
    "monitor",
    "paraphrase",
    "plan_bound",
    "plan_risk",
    "predict",
    "rejudge",
    "report",
    "reproduce_mc_vs_is",
    "reproduce_persona",
    "reproduce_realtoxicity",
    "reproduce_strongreject",
    "reproduce_synthetic",
    "risk",
    "sensitivity",
    "show",
    "steer_persona",
    "steer_refusal",
    "summarize",
    "verify",
    "view",
]


def __getattr__(name: str) -> Any:
    # the version too: looking it up takes a while, and nobody can interrupt it in one line
    if name == "__version__":
        from importlib.metadata import version

        return version("tailbound")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
