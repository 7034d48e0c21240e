"""What a run holds that is to be judged again: draws, prompts, the old judge and its threshold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tailbound.core.contract import Draw
from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.prompts import read_prompts
from tailbound.runs import manifest, scan
from tailbound.runs.draws import draw_store
from tailbound.runs.identity import read_identity
from tailbound.runs.layout import MANIFEST
from tailbound.runs.prompts import load_prompts
from tailbound.workflows.rejudge.verdicts import Key

if TYPE_CHECKING:
    import polars as pl


def check(
    folder: Path,
    *,
    prompts: Mapping[str, Prompt] | None,
    recorded_threshold: float | None = None,
) -> None:
    """Raise `UsageError` where the draws in `folder` cannot be judged again.

    It costs next to nothing, so ask before a judge is loaded. The reasons: no draws, no texts, no
    known threshold of the run, prompts that `prompts` does not hold.
    """
    if recorded_draws(folder)["has_text"].any() is False:
        raise UsageError(
            f"{folder} keeps no responses (it was run with --no-text): there is nothing to judge"
        )
    recorded_judge(folder, recorded_threshold)
    if prompts is not None:
        _check_prompts(folder, prompts)


def find_prompts(
    folder: Path, *, file: Path | None = None, field: str | None = None
) -> dict[str, Prompt]:
    """The prompts of a run by id: from `file`, else from `prompts.parquet`.

    Raises `UsageError` where there are none, or where `file` has another text under an id of the
    run's own prompts.
    """
    _need_draws(folder)
    own = load_prompts(folder)
    if file is not None:
        given = {prompt.id: prompt for prompt in read_prompts(file, field=field)}
        for name, prompt in own.items():
            if name in given and given[name].messages != prompt.messages:
                raise UsageError(
                    f"{file} has another text for prompt {name!r} than {folder} was run with: "
                    "leave --prompts out, the run holds its own"
                )
        return given
    if not own:
        raise UsageError(
            f"{folder} does not hold its prompts: give their file by --prompts, or --no-prompts if "
            "the judge looks at responses alone"
        )
    return own


def _need_draws(folder: Path) -> None:
    if not draw_store(folder).paths():
        raise UsageError(f"{folder} holds no draws: give the --out of a run")


def recorded_draws(folder: Path) -> pl.DataFrame:
    """Every draw on record, without its text."""
    import polars as pl

    _need_draws(folder)
    columns = ("stream", "stopping", "prompt_id", "index", "proposal", "score")
    return scan(folder).select(*columns, pl.col("text").is_not_null().alias("has_text")).collect()


def recorded_judge(folder: Path, threshold: float | None) -> tuple[str, float]:
    """Judge and threshold that the run was judged by."""
    held = read_identity(folder).judge
    if threshold is not None:
        if not 0 < threshold <= 1:
            raise UsageError(f"--recorded-threshold must lie in (0, 1], not {threshold:g}")
        return held, threshold
    if not (folder / MANIFEST).is_file():
        raise UsageError(
            f"{folder} does not say by which threshold it was judged (it has no run.yaml): give "
            "--recorded-threshold"
        )
    return held, float(manifest.read_manifest(folder)["threshold"])


def _check_prompts(folder: Path, prompts: Mapping[str, Prompt]) -> None:
    import polars as pl

    asked = scan(folder).select(pl.col("prompt_id").unique().sort()).collect()["prompt_id"]
    unknown = [name for name in asked if name not in prompts]
    if unknown:
        raise UsageError(
            f"{len(unknown)} of {len(asked)} prompts of {folder} are not known (the first: "
            f"{unknown[0]!r}): give their file by --prompts, or --no-prompts if the judge looks at "
            "responses alone"
        )


def wanted_draws(
    folder: Path, wanted: Callable[[Key], bool], *, only_missing: bool
) -> Iterator[list[Draw]]:
    """The wanted draws, shard by shard: texts of one shard in memory at a time."""
    import polars as pl

    columns = ("stream", "prompt_id", "index", "text", "finish_reason", "reason", "score")
    for shard in draw_store(folder).checked():
        frame = pl.scan_parquet(shard, glob=False).select(*columns)
        frame = frame.filter(pl.col("text").is_not_null())
        if only_missing:
            frame = frame.filter(pl.col("score").is_null())
        rows = frame.collect().iter_rows()
        batch = [
            Draw(
                prompt_id=prompt_id,
                stream=stream,
                index=index,
                token_ids=(),
                text=text,
                finish_reason=finish_reason,
                log_prob=float("nan"),
                missing=_missing(finish_reason, reason),
            )
            for stream, prompt_id, index, text, finish_reason, reason, _ in rows
            if wanted((stream, prompt_id, index))
        ]
        if batch:
            yield batch


def _missing(finish_reason: str, reason: str | None) -> str | None:
    """Why no judge can tell anything of the draw, as it was recorded; None where one can."""
    if finish_reason not in ("content_filter", "incomplete"):
        return None
    return reason or "the response was withheld or incomplete"
