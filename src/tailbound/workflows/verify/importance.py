"""The bound of a run with `--method importance`, made again from its draws, plan and scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tailbound.audit import Audit
from tailbound.core.contract import SamplingContract
from tailbound.core.prompt import Prompt
from tailbound.errors import LedgerError
from tailbound.predictors import FittedPredictor
from tailbound.runs import Ledger, read
from tailbound.runs.layout import CHECKS, FEATURES, P_HAT, PLAN, PREDICTOR, SCORES, WEIGHTED
from tailbound.storage.documents import read_json, understood
from tailbound.workflows.bound.features import chosen_features
from tailbound.workflows.bound.importance.job import (
    Predicted,
    Record,
    calibrate_weighted,
    made_for,
    read_record,
    train_draws,
)
from tailbound.workflows.bound.importance.options import MethodOptions
from tailbound.workflows.bound.importance.sampling import STREAM, WeightedSampler
from tailbound.workflows.bound.parts import PromptSplit
from tailbound.workflows.bound.settings import BoundSettings
from tailbound.workflows.risk.checks import FOUND
from tailbound.workflows.risk.families import make_family
from tailbound.workflows.risk.scores import Due
from tailbound.workflows.risk.settings import RiskSettings
from tailbound.workflows.verify.compare import differences
from tailbound.workflows.verify.findings import Findings
from tailbound.workflows.verify.recorded import (
    MissingDrawsError,
    RecordedJudge,
    RecordedTarget,
    settings_of,
)
from tailbound.workflows.verify.result import Difference
from tailbound.workflows.verify.risk import recorded_proposals


class RecordedSampler(WeightedSampler):
    """Weighted draws from their record alone: it draws nothing and scores nothing."""

    def _make_variants(self, prompts: Sequence[Prompt]) -> None:
        self._family, _ = make_family(self._proposal, RiskSettings(draws=2, seed=self._seed), None)
        document = read_json(self._folder / CHECKS)
        with understood(self._folder / CHECKS):
            self.checks = {name: document[name] for name in FOUND}

    def _sample(self, prompts: Sequence[Prompt]) -> None:
        self._record = self._ledger.index(STREAM)
        for prompt in prompts:
            own, planned = self._record.get(prompt.id), self.plan.draws(prompt.id)
            have = 0 if own is None else own.indices.size
            if have < planned:
                raise MissingDrawsError(
                    f"prompt {prompt.id!r} has {have} of {planned} planned draws on record: "
                    "shards were removed, or the run is not finished"
                )
            if have > planned:
                raise LedgerError(
                    f"prompt {prompt.id!r} has {have} draws, and {PLAN}/ says {planned}"
                )
        if self._family.ladder is None:
            return
        due: dict[int, list[Due]] = self.scores.due(
            self.plan,
            self._folder,
            prompts,
            self._record,
            unsafe_from=self._threshold,
            stream=STREAM,
        )
        lacking = [one for some in due.values() for one in some]
        if lacking:
            raise LedgerError(
                f"{len(lacking):,} draws have no log-densities in {SCORES}/ (the first: draw "
                f"{lacking[0].index} of prompt {lacking[0].prompt.id!r}): a shard was removed"
            )

    def odd_proposals(self) -> Iterator[Difference]:
        """Draws that are recorded as those of another proposal than the plan has them from."""
        frame = read(self._folder, stream=STREAM).sort("prompt_id", "index")
        for name, index, said in frame.select("prompt_id", "index", "proposal").iter_rows():
            planned = self.plan.proposal(name, index)
            if said != planned:
                yield Difference(
                    place=f"prompt {name!r}, draw {index}",
                    recorded=said or "target",
                    found=f"{planned or 'target'} (planned)",
                )


def recompute_weighted(
    findings: Findings, manifest: Mapping[str, Any], parts: PromptSplit, copy: Path
) -> None:
    """Make the results again in `copy`, and compare what they rest on.

    Raises what keeps them from being made again.
    """
    folder, options = findings.folder, manifest["options"]
    settings = settings_of(BoundSettings, options)
    method = MethodOptions(
        method="importance",
        draws=options["weighted_draws"],
        cross_check=options["cross_check"],
        longest=options["longest"],
        plain_test=options["plain_test"],
    )
    target = RecordedTarget(contract=SamplingContract.from_dict(manifest["contract"]))
    judge = RecordedJudge(id=manifest["judge_id"], threshold=float(manifest["threshold"]))
    record = read_record(copy)
    if record is None:
        raise LedgerError(f"{WEIGHTED} is missing: nobody can tell how the draws were made")
    with Ledger.open(
        copy, run=copy.name, contract=target.contract, judge_id=judge.id, seed=settings.seed
    ) as ledger:
        sampler = RecordedSampler(
            recorded_proposals(copy, target),
            judge,
            ledger,
            parts.calibration,
            folder=copy,
            threshold=judge.threshold,
            seed=settings.seed,
        )
        audit = Audit(target, judge, ledger, threshold=judge.threshold, seed=settings.seed)
        wrong = list(_odd_record(record, parts, sampler, settings, method, folder))
        findings.compare(WEIGHTED, wrong, against="the options, the prompts and the training draws")
        features = None if parts.supplied else chosen_features(folder)
        predicted = Predicted.recorded(parts, copy, features)
        calibrate_weighted(parts, predicted, sampler, audit, ledger, settings, method, copy, record)
        findings.compare(
            f"{PLAN}/", sampler.odd_proposals(), against="the ledger (proposals of its draws)"
        )
    if features is None:
        findings.not_recomputed(P_HAT, "these are predictions of the user's own")
    else:
        findings.not_recomputed(P_HAT, f"predicting takes what reads {features!r} features")
        findings.not_recomputed(PREDICTOR, "fitting it takes the features of the prompts")
        findings.not_recomputed(FEATURES, "it says what the predictor reads")
    if (folder / SCORES).is_dir():
        findings.not_recomputed(f"{SCORES}/", "log-densities under the proposals take the model")
        findings.not_recomputed(CHECKS, "self-checks take the model")


def _odd_record(
    record: Record,
    parts: PromptSplit,
    sampler: WeightedSampler,
    settings: BoundSettings,
    method: MethodOptions,
    folder: Path,
) -> Iterator[Difference]:
    """Where `weighted.json` is not what options, prompts and training draws make it."""
    shares = [sampler.first_shares()]
    if not parts.supplied:
        draws = train_draws(parts, sampler, record, settings)
        out_of_fold = FittedPredictor.load(folder / PREDICTOR).out_of_fold
        shares.append(sampler.better_shares(draws, out_of_fold, shares[0]))
    found = {
        "made_for": made_for(parts, method),
        "shares": [row.tolist() for row in shares],
    }
    held = {"made_for": record.made_for, "shares": record.shares}
    yield from differences(held, found, tolerance=1e-6)
