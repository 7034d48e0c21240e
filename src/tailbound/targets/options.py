"""What a target's loader is asked for besides the sampling contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tailbound.core.options import check_choices, option, options_of
from tailbound.errors import UsageError

ENGINE, ENDPOINT = "Engine", "Endpoint"


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How a model is run; what comes out is the same for every `batch_size`."""

    batch_size: int = option("Responses sampled in parallel.", default=256, group=ENGINE)
    dtype: str = option(
        "Precision: auto (the checkpoint's), float32, bfloat16, ...", default="auto", group=ENGINE
    )
    device: str = option("Device: auto, cpu, cuda, cuda:1, ...", default="auto", group=ENGINE)
    revision: str | None = option("Revision of the model on the hub.", default=None, group=ENGINE)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UsageError(f"--batch-size must be at least 1, not {self.batch_size}")


@dataclass(frozen=True, kw_only=True)
class EndpointOptions:
    """Where a server is and what it may be paid: for targets that take such options."""

    base_url: str | None = option(
        "Base URL of the server, including /v1 (default: OPENAI_BASE_URL).",
        default=None,
        group=ENDPOINT,
    )
    key_env: str | None = option(
        "Environment variable that holds the API key (default: OPENAI_API_KEY).",
        default=None,
        group=ENDPOINT,
    )
    concurrency: int | None = option(
        "Maximum concurrent requests (default: 64).", default=None, group=ENDPOINT
    )
    per_request: int | None = option(
        "Draws per request, if the server honours n (default: 1, or 8 if it ignores seeds).",
        default=None,
        group=ENDPOINT,
    )
    price_in: float | None = option(
        "Price per million prompt tokens.", default=None, group=ENDPOINT
    )
    price_out: float | None = option(
        "Price per million generated tokens.", default=None, group=ENDPOINT
    )
    max_cost: float | None = option(
        "Stop before the cost of the target exceeds this.", default=None, group=ENDPOINT
    )
    content_filter: Literal["missing", "judge"] | None = option(
        "Responses cut by a content filter: missing (default), or judge the text that is left.",
        default=None,
        group=ENDPOINT,
    )

    def __post_init__(self) -> None:
        check_choices(self)

    def given(self) -> dict[str, Any]:
        """Those that were given."""
        known = {one.name: getattr(self, one.field) for one in options_of(type(self))}
        return {name: value for name, value in known.items() if value is not None}
