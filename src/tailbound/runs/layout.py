"""The name of every file and folder in a run folder, once.

docs/run-folder.md says what each of them holds. Modules that read or write one take its name from
here. `direction/` and `finetuned/` are named here as folders; the files in them belong to
`tailbound.steering` and `tailbound.predictors.finetune`, which also write them elsewhere.
"""

from __future__ import annotations

MANIFEST = "run.yaml"
"""What was asked for: options, contract, judge, versions."""
LEDGER = "ledger.json"
"""What the draws are draws of: contract, judge, seed and the random id of the run."""
DRAWS = "draws"
"""Folder of shards: one row per draw."""
DAMAGED = "damaged"
"""Folder of shards of draws that `tailbound ledger` set aside; nothing reads it."""
PROMPTS = "prompts.parquet"
"""The prompts by id, with part, group and messages."""
LOCK = ".lock"
"""Locked by the one process that writes; the file itself is empty."""
LOCK_HOLDER = ".lock-holder"
"""The id of the process that has, or last had, the lock."""

VERDICTS = "verdicts"
"""Folder with one folder for each further judge (`verdicts/DIGEST/`): shards of verdicts."""
JUDGE = "judge.json"
"""In `verdicts/DIGEST/`: which judge."""
AGREEMENT = "agreement.json"
"""In `verdicts/DIGEST/`: how far that judge and the recorded one agree."""

FEATURES = "features.json"
"""What the predictor reads."""
TFIDF = "tfidf.npz"
"""The vocabulary and weights of tf-idf features."""
FINETUNED = "finetuned"
"""Folder of the tuned encoders."""
PLUGIN_FEATURES = "features"
"""Folder of what a plugin's features need to be read again."""
PREDICTOR = "predictor.npz"
"""The fitted predictor of p_hat."""
NOVELTY = "novelty.npz"
"""What familiar prompts look like."""
BOUND = "bound.json"
"""The lower predictive bound and what it rests on."""
EVALUATION = "evaluation.json"
"""Coverage on the test prompts."""
TABLE = "table.parquet"
"""The table of times that a bound from a table rests on."""
P_HAT = "p_hat.parquet"
"""The predicted risk of every prompt that the bound rests on."""
PREDICTIONS = "predictions.parquet"
"""Bound and p_hat of every test prompt."""

WEIGHTED = "weighted.json"
"""Shares of the proposals of a bound from weighted draws, and for what the draws were planned."""
PLAN = "plan"
"""Folder with one file for each round of batches."""
SCORES = "scores"
"""Folder of shards: log-densities of draws under every proposal."""
SPLITTING = "splitting"
"""Folder with two files for each round of multilevel splitting: its draws, and their scores."""
TRAINING = "training.json"
"""In `plan/adapter-0002/`: what the adapter was trained on, or why there is none."""
PROPOSAL = "proposal.json"
"""Which proposal, and why it was chosen."""
CHECKS = "checks.json"
"""What the self-checks of a proposal found, and for what they were made."""
DIRECTION = "direction"
"""Folder of the direction that the proposal adds or removes."""
CHOICE = "choice.json"
"""The setting of `mix-switch` and how it was found."""
RISK = "risk.json"
"""The estimates, of every prompt and of the set."""
RISK_TABLE = "risk.parquet"
"""The estimates as a table, one row per prompt."""
REVIEW = "review.jsonl"
"""The unsafe draws that the estimates rest on, for a person to read."""

SUMMARY = "summary.json"
"""Exact intervals by stream."""
MONITOR = "monitor.json"
"""Where monitoring stands: the evidence of every unit, and which outcomes were counted."""
FORECAST = "forecast.json"
"""What the estimates say about deployment."""
JUDGE_AUDIT = "judge-audit"
"""Folder of a labelled sample: `sample.json`, and in `DIGEST/` the verdicts of a better judge."""
SAMPLE = "sample.json"
"""In `judge-audit/`: which draws are labelled, and how they were chosen."""
AUDITED = "judge-audit.json"
"""Rates corrected for the mistakes of the judge."""
RESULTS = "results"
"""Folder of every result that differed from the one before (`tailbound.runs.history`)."""
REPORT = "report"
"""What `tailbound report` writes of one run: `report.html`, or `report.md` and its figures."""
EXPORT = "export.eval"
"""What `tailbound export` writes by default: a log of Inspect."""
SPEND = "spend.json"
"""Draws and tokens of each stream, and the work of each stage."""
USAGE = "usage.json"
"""What servers were asked for and paid, over all processes of the run."""

TRUTH = "truth.json"
"""In a run of `tailbound demo`: its bounds beside the exact risks."""
NEW_PROMPTS = "new-prompts.jsonl"
"""In a run of `tailbound demo`: prompts for `tailbound predict` to try."""


def round_name(number: int) -> str:
    """The name in `plan/` of round 1, 2, ...: `round-0001.json`."""
    return f"round-{number:04d}.json"


def lesson_name(number: int) -> str:
    """The name in `plan/` of what round 2, 3, ... learned: `lesson-0002.json`."""
    return f"lesson-{number:04d}.json"


def adapter_name(number: int) -> str:
    """The folder in `plan/` of the adapter trained for round 2, 3, ...: `adapter-0002`."""
    return f"adapter-{number:04d}"


def levels_name(number: int) -> str:
    """The name in `splitting/` of the scores of round 1, 2, ...: `levels-0001.json`."""
    return f"levels-{number:04d}.json"


def result_name(number: int, name: str) -> str:
    """The name in `results/` of result 1, 2, ... of that name: `0001-bound.json`."""
    return f"{number:04d}-{name}.json"


def part_name(number: int, last: int | None = None) -> str:
    """The name of shard 1, 2, ... in any folder of shards: `part-000001.parquet`.

    With `last`, of the one that replaces shards `number` to `last`: `part-000001-000040.parquet`.
    """
    return f"part-{number:06d}{'' if last is None else f'-{last:06d}'}.parquet"
