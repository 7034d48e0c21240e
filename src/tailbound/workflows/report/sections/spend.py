"""What a run cost: draws and tokens by stream, the model's work by stage, servers' accounts."""

from __future__ import annotations

from tailbound.workflows.report.page import Block, Paragraph, Section, Table
from tailbound.workflows.report.reading import ReportedRun
from tailbound.workflows.words import count, seconds


def section(run: ReportedRun) -> Section | None:
    """Spend and cost; None where nothing is on record."""
    spend = run.run.spend
    blocks: list[Block] = []
    if spend.streams:
        names = ("prompts", "draws", "generated", "used", "tokens", "missing")
        used = [name for name in names if any(name in one for one in spend.streams.values())]
        blocks.append(
            Table(
                caption="Draws on record by stream",
                columns=("stream", *used),
                rows=tuple(
                    (stream, *(count(one.get(name)) for name in used))
                    for stream, one in spend.streams.items()
                ),
                numbers=tuple(range(1, len(used) + 1)),
            )
        )
    if spend.stages:
        blocks.append(
            Table(
                caption="Work of the model by stage, over all processes",
                columns=("stage", "draws", "tokens", "token positions", "time"),
                rows=tuple(
                    (
                        stage,
                        count(work.draws),
                        count(work.tokens),
                        count(work.positions),
                        seconds(work.seconds),
                    )
                    for stage, work in spend.stages.items()
                ),
                numbers=(1, 2, 3, 4),
            )
        )
    if spend.usage:
        asked = ("requests", "retries", "tokens_in", "tokens_out", "cost")
        blocks.append(
            Table(
                caption="What servers were asked for",
                columns=("server", "requests", "retries", "tokens in", "tokens out", "cost"),
                rows=tuple(
                    (server, *(_amount(name, account.get(name)) for name in asked))
                    for server, account in spend.usage.items()
                ),
                numbers=(1, 2, 3, 4, 5),
            )
        )
        cost = f"{spend.cost:.4g}" if spend.cost else "no prices were given"
        blocks.append(Paragraph(text=f"Cost in the currency of the given prices: {cost}."))
    if not blocks:
        return None
    return Section(id=f"{run.id}-spend", title="Spend and cost", blocks=tuple(blocks))


def _amount(name: str, value: float | None) -> str:
    if name == "cost":
        return f"{value:.4g}" if value else "–"
    return count(value)
