"""The options that every drawing command shares, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tailbound.contract import SamplingOptions
from tailbound.errors import UsageError

_SAMPLING = "Sampling contract"
_ENGINE = "Engine"
_RUN = "Run"
_ENDPOINT = "Endpoint"

Prompts = Annotated[
    Path,
    typer.Argument(help="JSONL, CSV or Parquet file, hf-dataset:ORG/NAME, or a known set's name."),
]
Target = Annotated[
    str,
    typer.Option(
        "--target", "-t", help="Model under audit: demo, hf:NAME, hf:./folder, openai:NAME."
    ),
]
Judge = Annotated[
    str,
    typer.Option(
        "--judge",
        "-j",
        help="demo, regex:, keywords:, python:, classifier:, guard:, rubric: (tailbound judges).",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option("--threshold", help="Unsafe means score >= this (default: the judge's own)."),
]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        "--max-new-tokens",
        rich_help_panel=_SAMPLING,
        help="Longest response (default: 256, demo 32).",
    ),
]
Temperature = Annotated[
    float, typer.Option("--temperature", rich_help_panel=_SAMPLING, help="Sampling temperature.")
]
TopP = Annotated[
    float,
    typer.Option(
        "--top-p", rich_help_panel=_SAMPLING, help="Probability mass kept by nucleus sampling."
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        rich_help_panel=_SAMPLING,
        help="Number of most likely tokens kept (default: all).",
    ),
]
System = Annotated[
    str | None,
    typer.Option("--system", rich_help_panel=_SAMPLING, help="System prompt: text, or a file."),
]
Completion = Annotated[
    bool,
    typer.Option(
        "--completion",
        rich_help_panel=_SAMPLING,
        help="Send prompts as they are, without the chat template.",
    ),
]
Stop = Annotated[
    list[str] | None,
    typer.Option(
        "--stop", rich_help_panel=_SAMPLING, help="End a response at this text (repeatable)."
    ),
]
Thinking = Annotated[
    str,
    typer.Option(
        "--thinking",
        rich_help_panel=_SAMPLING,
        help="Thoughts of a reasoning model: drop (judge the reply alone) or judge (both).",
    ),
]
ExtraBody = Annotated[
    str | None,
    typer.Option(
        "--extra-body",
        rich_help_panel=_SAMPLING,
        help="JSON object of further parameters for the server of openai:.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", rich_help_panel=_RUN, help="Random seed.")]
BatchSize = Annotated[
    int, typer.Option("--batch-size", rich_help_panel=_ENGINE, help="Responses sampled at once.")
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        rich_help_panel=_ENGINE,
        help="Precision: auto (the checkpoint's), float32, bfloat16, ...",
    ),
]
Device = Annotated[
    str,
    typer.Option("--device", rich_help_panel=_ENGINE, help="Device: auto, cpu, cuda, cuda:1, ..."),
]
Revision = Annotated[
    str | None,
    typer.Option("--revision", rich_help_panel=_ENGINE, help="Revision of the model on the hub."),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url", rich_help_panel=_ENDPOINT, help="URL of the server behind openai:, up to /v1."
    ),
]
KeyEnv = Annotated[
    str | None,
    typer.Option(
        "--key-env",
        rich_help_panel=_ENDPOINT,
        help="Environment variable of the key (default: OPENAI_API_KEY).",
    ),
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        "--concurrency", rich_help_panel=_ENDPOINT, help="Requests under way at once (default: 64)."
    ),
]
PerRequest = Annotated[
    int | None,
    typer.Option(
        "--per-request",
        rich_help_panel=_ENDPOINT,
        help="Draws per request, where the server honours n (1; 8 where it ignores seeds).",
    ),
]
PriceIn = Annotated[
    float | None,
    typer.Option("--price-in", rich_help_panel=_ENDPOINT, help="Price of a million prompt tokens."),
]
PriceOut = Annotated[
    float | None,
    typer.Option(
        "--price-out", rich_help_panel=_ENDPOINT, help="Price of a million generated tokens."
    ),
]
Withheld = Annotated[
    str | None,
    typer.Option(
        "--withheld",
        rich_help_panel=_ENDPOINT,
        help="What a content filter keeps back: missing (default), or judge what is left.",
    ),
]
MaxCost = Annotated[
    float | None,
    typer.Option(
        "--max-cost", rich_help_panel=_ENDPOINT, help="Stop before the run costs more than this."
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", rich_help_panel=_RUN, help="Print one JSON document to standard output."
    ),
]


Rejudge = Annotated[
    bool,
    typer.Option(
        "--rejudge",
        rich_help_panel=_RUN,
        help="Judge the draws of the run in --out by another judge; sample nothing.",
    ),
]


def longest_response(target: str, asked: int | None) -> int:
    """`--max-new-tokens`, by default 32 for the demo model, whose context is short, else 256."""
    if asked is not None:
        return asked
    return 32 if target.partition(":")[0] == "demo" else 256


def sampling_options(
    target: str,
    *,
    temperature: float,
    top_p: float,
    top_k: int | None,
    max_new_tokens: int | None,
    system: str | None,
    completion: bool,
    stop: list[str] | None,
    thinking: str = "drop",
    extra_body: str | None = None,
) -> SamplingOptions:
    """What the user asks of the sampler; a system prompt that names a file is read from it."""
    if extra_body is not None:
        from tailbound.targets.endpoint.extra_body import canonical

        endpoint_options(target, extra_body=extra_body)
        extra_body = canonical(extra_body)
    return SamplingOptions(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        max_new_tokens=longest_response(target, max_new_tokens),
        system=_text_or_file(system),
        completion=completion,
        stop=tuple(stop or ()),
        thinking=thinking,
        extra_body=extra_body,
    )


def engine_options(
    *, batch_size: int, dtype: str, device: str, revision: str | None
) -> dict[str, Any]:
    """What goes to the target's loader besides the sampling options."""
    if batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, not {batch_size}")
    return {"batch_size": batch_size, "dtype": dtype, "device": device, "revision": revision}


def endpoint_options(target: str, **given: Any) -> dict[str, Any]:
    """Those options of an endpoint that were given; refused for a target that is none."""
    chosen = {name: value for name, value in given.items() if value is not None}
    if chosen and not target.startswith("openai:"):
        name = next(iter(chosen)).replace("_", "-")
        raise UsageError(f"--{name} goes with --target openai:NAME, not with {target}")
    return chosen


def capabilities(target: object) -> dict[str, Any] | None:
    """What the probe of an endpoint found out; None for other targets."""
    found = getattr(target, "capabilities", None)
    return None if found is None else dict(found.to_dict())


def _text_or_file(value: str | None) -> str | None:
    if value is None or len(value) > 255 or "\n" in value:
        return value
    try:
        path = Path(value)
        return path.read_text(encoding="utf-8").strip() if path.is_file() else value
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the system prompt {value} cannot be read: {error}") from error
