"""What `run.yaml` names on this machine, compared with what is there now: no model is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailbound.errors import TailboundError, UsageError
from tailbound.huggingface.fingerprint import folder_revision
from tailbound.judges import Judge
from tailbound.judges.registry import load_judge
from tailbound.prompts import read_prompts
from tailbound.runs.layout import P_HAT
from tailbound.runs.prompts import kept_table
from tailbound.targets.registry import provider
from tailbound.workflows.bound.p_hat import given_p_hat
from tailbound.workflows.verify.compare import differences
from tailbound.workflows.verify.findings import Findings
from tailbound.workflows.verify.prompts import prompts_of
from tailbound.workflows.verify.result import Difference
from tailbound.workflows.verify.verdicts import check_verdicts

PROMPTS, MODEL, JUDGE = "prompts file", "model", "judge"
IMPORTED, TABLE = "imported file", "table file"
VERDICTS = "verdicts"
QUICK = ("demo", "regex", "keywords")
"""Judges that are made without a model and without code of others."""
_OF_MODELS = ("classifier", "guard")
"""Judges whose id names the hash of a folder."""


def check_origins(findings: Findings, manifest: Mapping[str, Any]) -> None:
    """Prompts, model and judge of the run, as far as they lie on this machine."""
    if manifest["command"] == "import":
        check_source(findings, manifest["options"], name=IMPORTED)
        return
    _check_prompts(findings, str(manifest["options"].get("prompts", "")))
    _check_model(findings, manifest)
    _check_judge(findings, manifest)


def check_source(findings: Findings, options: Mapping[str, Any], *, name: str) -> None:
    """The file that was imported, or that a table was read from, is still the same."""
    if not options.get("source"):
        findings.not_recomputed(name, "it came from no file")
        return
    path = Path(str(options["source"]))
    if not path.is_file():
        findings.not_recomputed(name, f"{path} is not on this machine")
        return
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    wrong = list(differences(options.get("sha256"), digest, tolerance=0.0, place="sha256"))
    findings.compare(name, wrong, against=str(path))


def _check_prompts(findings: Findings, source: str) -> None:
    """The texts on file, and p_hat of the user's own, are those of the file of prompts."""
    path = Path(source.partition(":")[2] if source.startswith("strongreject:") else source)
    if not source or not path.is_file():
        findings.not_recomputed(PROMPTS, f"{source or 'none'} is no file on this machine")
        return
    try:
        held = prompts_of(kept_table(findings.folder))
        given = read_prompts(source)
        own = given_p_hat(findings.folder) if (findings.folder / P_HAT).is_file() else {}
    except UsageError as error:
        findings.not_recomputed(PROMPTS, f"{source} cannot be read as it is: {error}")
        return
    except TailboundError:
        findings.not_recomputed(PROMPTS, "the prompts on file are damaged")
        return
    now = {prompt.id: prompt for prompt in given}
    if not now.keys() & held.keys():
        findings.not_recomputed(
            PROMPTS, f"{source} has none of their ids: another column may have been read (--field)"
        )
        return
    wrong = [
        Difference(place=f"prompt {name!r}", recorded=_text(prompt), found=_text(now.get(name)))
        for name, prompt in held.items()
        if name not in now or now[name].messages != prompt.messages
    ]
    for name, p in given.p_hat_by_id().items():
        if name in own:
            found = differences(
                own[name], p, tolerance=findings.tolerance, place=f"p_hat of {name!r}"
            )
            wrong += list(found)
    findings.compare(PROMPTS, wrong, against=source)


def _text(prompt: Any) -> str:
    return "(absent)" if prompt is None else "".join(text for _, text in prompt.messages)[:200]


def _check_model(findings: Findings, manifest: Mapping[str, Any]) -> None:
    """The hash of a model that lies on this machine."""
    target, revision = str(manifest["target"]), manifest["contract"].get("revision")
    if not str(revision).startswith("sha256:"):
        findings.not_recomputed(MODEL, f"{target} is not a model in a folder or file")
        return
    try:
        revision_of = provider(target).local_revision
        if revision_of is None:
            findings.not_recomputed(MODEL, f"{target} was loaded by a target of another kind")
            return
        found = revision_of(target.partition(":")[2])
    except (TailboundError, OSError) as error:
        findings.not_recomputed(MODEL, f"{target} is not on this machine ({error})")
        return
    if found is None:
        findings.not_recomputed(MODEL, f"{target} is not on this machine")
        return
    wrong = list(differences(revision, found, tolerance=0.0, place="revision"))
    findings.compare(MODEL, wrong, against=f"the hash of the files of {target}")


def _check_judge(findings: Findings, manifest: Mapping[str, Any]) -> None:
    """The id that a judge of that name has now."""
    name, held = str(manifest["judge"]), str(manifest["judge_id"])
    kind, _, rest = name.partition(":")
    judge: Judge | None = None
    try:
        if kind in QUICK:
            judge = load_judge(name)
            found = judge.id
        elif kind == "python" and (digest := _source(rest.partition(":")[0])) is not None:
            found = f"{name}@{digest}"
        elif kind in _OF_MODELS and (folder := Path(rest.partition("?")[0])).is_dir():
            # the options behind it are read by the judge, which takes the model
            mark, held = held.partition("?")[1], held.partition("?")[0]
            found = f"{kind}:{folder.resolve().name}@{folder_revision(folder)}"
            name = f"the files of {folder}" + (" (options left out)" if mark else "")
        else:
            why = "its code would run" if kind in ("python", "function") else "it takes a model"
            findings.not_recomputed(JUDGE, f"{name}: {why}")
            findings.not_recomputed(VERDICTS, f"{name}: {why}")
            return
    except (TailboundError, OSError) as error:
        findings.not_recomputed(JUDGE, f"{name} cannot be made here: {error}")
        return
    wrong = list(differences(held, found, tolerance=0.0, place="judge_id"))
    findings.compare(JUDGE, wrong, against=f"{name} now")
    if judge is None:
        findings.not_recomputed(VERDICTS, "only demo, regex: and keywords: are asked again")
    elif not wrong and findings.sound:
        check_verdicts(findings, VERDICTS, judge)


def _source(module: str) -> str | None:
    """The digest of the source of a module in the working directory; None where it is elsewhere.

    It is read, and not run.
    """
    path = Path(f"{module.replace('.', '/')}.py")
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    whole = text if text.endswith("\n") else f"{text}\n"
    return hashlib.sha256(whole.encode()).hexdigest()[:12]
