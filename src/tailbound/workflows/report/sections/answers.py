"""The answers first: one sentence for each question, then what is guaranteed of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tailbound.workflows.rejudge.agreement import RISK as RISK_DRAWS
from tailbound.workflows.report.page import Block, Heading, Paragraph, Section, Table
from tailbound.workflows.report.reading import ReportedRun
from tailbound.workflows.report.sections import judge_error
from tailbound.workflows.words import (
    amount,
    count,
    decimal,
    decimals,
    interval,
    percent,
    percents,
    plural,
    probability,
)

if TYPE_CHECKING:
    from tailbound.workflows.bound import BoundResult
    from tailbound.workflows.forecast import ForecastResult
    from tailbound.workflows.risk import RiskResult
    from tailbound.workflows.summarize.summary import StreamSummary


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One question of one run: the answer in a sentence, its guarantee, and what to beware of."""

    question: str
    sentence: str
    guarantee: str
    warnings: tuple[str, ...] = ()


def answers_of(run: ReportedRun) -> tuple[Answer, ...]:
    """What a run answers, in the order of the questions."""
    found: list[Answer] = []
    if run.run.bound is not None:
        found.append(_bounds_corrected(run, when(run.run.bound)))
    if run.run.risk is not None:
        found.append(_corrected(run, how_likely(run.run.risk), RISK_DRAWS))
    elif run.run.bound is None and run.summary is not None:
        found += [
            _corrected(run, counted(run, stream), stream.stream) for stream in run.summary.streams
        ]
    if run.run.forecast is not None:
        found.append(so_what(run.run.forecast))
    return tuple(found)


def _bounds_corrected(run: ReportedRun, answer: Answer) -> Answer:
    """The answer with what missed unsafe draws do to the bounds, where labels say so."""
    audit, why = run.audit
    if why is not None:
        return replace(answer, warnings=(*answer.warnings, judge_error.stale_warning(why)))
    found = None if audit is None else audit.bounds
    if audit is None or found is None or not found.labelled or found.at_most >= 1:
        return answer
    more = judge_error.bounds_sentence(found, audit.confidence)
    return replace(answer, sentence=answer.sentence + more)


def _corrected(run: ReportedRun, answer: Answer, stream: str) -> Answer:
    """The answer with the rate of that stream by labels, or with why it is not there."""
    audit, why = run.audit
    if audit is None:
        more = () if why is None else (judge_error.stale_warning(why),)
        return replace(answer, warnings=(*answer.warnings, *more))
    rate = next((one for one in audit.streams if one.stream == stream), None)
    if rate is None:
        return answer
    return replace(answer, sentence=answer.sentence + judge_error.sentence(audit, rate))


def when(result: BoundResult) -> Answer:
    """Question 1: how many generations until the first unsafe one."""
    b = result.bound
    if b.level == 0:
        sentence = (
            "No bound can be given: every new prompt is only known to take at least one "
            "generation to its first unsafe one."
        )
    else:
        sentence = (
            f"A new prompt takes at least as many generations to its first unsafe one as its "
            f"bound says, with probability {percent(1 - b.alpha)}; the median bound is "
            f"{plural_of(result.median_bound)}"
            + (" (the longest possible)." if result.median_bound >= b.cap else ".")
        )
    seen = result.evaluation
    if seen is not None and seen.overall.lower is not None and seen.overall.upper is not None:
        sentence += (
            f" On {plural(seen.overall.prompts, 'test prompt')} it held for "
            f"{percents((seen.overall.lower, seen.overall.upper))} "
            f"({percent(seen.confidence)} interval {percents(seen.overall.interval)})."
        )
    elif result.weighted is not None and result.weighted.test:
        whole = result.weighted.test[0]
        sentence += (
            f" By weighted draws of {plural(whole.prompts, 'test prompt')} it holds for "
            f"{percent(whole.coverage)} (95% interval {percents(whole.interval)})."
        )
    return Answer(
        question="When?",
        sentence=sentence,
        guarantee=f"{result.statement} [{b.guarantee}]",
        warnings=tuple(_warnings_of_bound(result)),
    )


def _warnings_of_bound(result: BoundResult) -> Iterator[str]:
    seen = result.evaluation
    if seen is not None and seen.overall.interval is not None:
        high = seen.overall.interval[1]
        if high < 1 - result.bound.alpha:
            yield (
                f"Coverage of the test prompts is below its target of "
                f"{percent(1 - result.bound.alpha)} beyond chance (at most {percent(high)}): test "
                "and calibration prompts may not be alike."
            )
    stopped = result.missing.prompts_stopped
    if stopped:
        yield (
            f"{plural(stopped, 'calibration prompt')} stopped at a missing verdict, counted as "
            f"unsafe; if all were safe, the median bound would be "
            f"{count(result.missing.median_if_safe)}."
        )
    check = result.weighted.cross_check if result.weighted is not None else None
    if check is not None and not check.agrees:
        yield "Plain draws disagree with the weighted ones: the bound is not to be relied on."


def how_likely(result: RiskResult) -> Answer:
    """Question 2: the probability of an unsafe output."""
    whole = result.whole
    about = plural(whole.prompts, "prompt")
    if whole.mean != whole.mean:
        sentence = f"Nothing is known: every verdict on the {about} is missing."
    else:
        level = percent(result.risks[0].estimate.confidence) if result.risks else ""
        ends = f" ({level} interval {decimals(whole.interval)})" if whole.interval else ""
        sentence = (
            f"A reply to one of these {about} is unsafe with probability "
            f"{decimal(whole.mean)} on average{ends}; "
            f"{whole.resolved:,} of {whole.prompts:,} are resolved."
        )
        known = [one for one in result.risks if one.estimate.resolved]
        if known:
            most = max(known, key=lambda one: one.estimate.risk)
            sentence += (
                f" The riskiest of these has {decimal(most.estimate.risk)} "
                f"({decimals(most.estimate.interval)})."
            )
    lower = (
        f" At least {decimal(whole.certified_lower)}, finite-sample."
        if whole.certified_lower is not None
        else ""
    )
    return Answer(
        question="How likely?",
        sentence=sentence,
        guarantee=f"{result.estimand}; mean {whole.guarantee}.{lower}",
        warnings=tuple(_warnings_of_risk(result)),
    )


def _warnings_of_risk(result: RiskResult) -> Iterator[str]:
    whole = result.whole
    if whole.resolved < whole.prompts:
        yield (
            f"{plural(whole.prompts - whole.resolved, 'prompt')} not resolved: these numbers are "
            "not supported by the draws, and are marked in the table."
        )
    wrong = sum(one.estimate.coverage == "disagrees" for one in result.risks)
    if wrong:
        yield (
            f"Parts of the draws disagree for {plural(wrong, 'prompt')}: the proposals missed ways "
            "to be unsafe."
        )
    missing = sum(one.estimate.missing for one in result.risks)
    if missing:
        yield (
            f"{plural(missing, 'verdict')} missing: counted as safe in lower bounds and as unsafe "
            "in upper ones."
        )
    if result.left_out:
        yield f"{plural(len(result.left_out), 'prompt')} tuned a proposal and are left out."


def counted(run: ReportedRun, stream: StreamSummary) -> Answer:
    """Question 2 for draws that were made elsewhere: counts and exact intervals."""
    assert run.summary is not None
    whole, level = stream.whole[0], percent(run.summary.confidence)
    draws = sum(one.draws for one in stream.prompts)
    unsafe = sum(one.unsafe for one in stream.prompts)
    missing = sum(one.missing for one in stream.prompts)
    mean = "" if whole.mean is None else f" ({decimal(whole.mean)} on average over these)"
    sentence = (
        f"A reply to a prompt like these {whole.prompts:,} is unsafe with probability "
        f"{decimals(whole.interval)}{mean}: {count(unsafe)} of {plural(draws, 'draw')} were."
    )
    warnings = (
        (f"{plural(missing, 'verdict')} missing: safe in lower ends, unsafe in upper ones.",)
        if missing
        else ()
    )
    return Answer(
        question="How likely?",
        sentence=sentence,
        guarantee=(
            f"Interval {level}, finite-sample (betting), {plural(whole.clusters, 'cluster')} of "
            "prompts taken as a random sample of their population; unsafe is a score of at least "
            f"{run.summary.threshold:g}."
        ),
        warnings=warnings,
    )


def so_what(result: ForecastResult) -> Answer:
    """Question 3: what deployment will see."""
    parts = [
        f"{plural(one.draws, 'draw')} of this traffic mix hold {amount(one.expected)} unsafe "
        f"outputs on average ({amount(one.expected_interval[0])} to "
        f"{amount(one.expected_interval[1])}), at least one with probability "
        f"{decimal(one.at_least_one)}"
        for one in result.traffic[:1]
    ]
    if result.worst is not None:
        one = max(
            (w for w in result.worst.forecasts if w.method == "gumbel"),
            key=lambda w: w.queries,
            default=None,
        )
        if one is not None:
            parts.append(
                f"the worst of {one.queries:,} new queries has a probability of about "
                f"{decimal(one.median)} ({decimals(one.interval)})"
            )
    return Answer(
        question="So what?",
        sentence="; ".join(parts) + ".",
        guarantee=(
            f"Intervals {percent(result.confidence)}, asymptotic. Traffic is for exactly these "
            "queries in this mix; the worst query is for new ones of which these are a random "
            "sample. In full under Forecast."
        ),
        warnings=result.warnings,
    )


def plural_of(value: float) -> str:
    """A number of generations."""
    return f"{count(value)} generation" + ("" if value == 1 else "s")


def section(runs: Sequence[ReportedRun]) -> Section:
    """The answers of all runs; with several, in a table as well."""
    blocks: list[Block] = []
    for run in runs:
        found = answers_of(run)
        if len(runs) > 1:
            note = f"tailbound {run.command}: {run.target}, judged by {run.judge}"
            blocks.append(Heading(text=run.name, note=note))
        for one in found:
            blocks.append(Paragraph(text=one.sentence, lead=one.question, weight="main"))
            blocks.append(Paragraph(text=one.guarantee, lead="Guarantee:", weight="fine"))
            blocks += [Paragraph(text=line, weight="warning") for line in one.warnings]
        if not found:
            blocks.append(Paragraph(text="No result yet: the run is not finished.", weight="main"))
    if len(runs) > 1:
        blocks.append(_side_by_side(runs))
    return Section(id="answers", title="The answer", blocks=tuple(blocks))


def _side_by_side(runs: Sequence[ReportedRun]) -> Table:
    """One row per run: what it was, and its first number."""
    rows = []
    audited = any(run.audit[0] is not None for run in runs)
    for run in runs:
        bound, risk = run.run.bound, run.run.risk
        number, ends = "–", "–"
        if bound is not None:
            number = f"median bound {count(bound.median_bound)}"
            seen = bound.evaluation.overall if bound.evaluation is not None else None
            ends = "–" if seen is None else f"held for {percents(seen.interval)}"
        elif risk is not None:
            number, ends = (
                f"mean risk {probability(risk.whole.mean)}",
                interval(risk.whole.interval),
            )
        elif run.summary is not None and run.summary.streams:
            whole = run.summary.streams[0].whole[0]
            number, ends = f"mean risk {probability(whole.mean)}", interval(whole.interval)
        draws = count(run.draws)
        audit = run.audit[0]
        rate = None if audit is None else audit.overall.corrected
        words = "–" if rate is None else f"{probability(rate.estimate)} ({interval(rate.interval)})"
        more = (words,) if audited else ()
        rows.append((run.name, run.command, run.target, run.judge, draws, number, ends, *more))
    return Table(
        caption="The runs side by side",
        columns=(
            "run",
            "command",
            "target",
            "judge",
            "draws",
            "result",
            "interval",
            *(("corrected by labels",) if audited else ()),
        ),
        rows=tuple(rows),
        numbers=(4,),
    )
