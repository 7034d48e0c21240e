"""`inspect:NAME`: scorers of Inspect as judges, what they are refused for, and their identity."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tailbound
from tailbound.core.prompt import Prompt
from tailbound.errors import JudgeError, MissingExtraError, UsageError
from tailbound.judges import Exchange, is_failure
from tailbound.judges.registry import load_judge
from tailbound.testing import KnownRiskTarget, WordJudge

Cli = Callable[..., tuple[int, str, str]]

FILE = Path(__file__).with_name("inspect_scorers.py")


def exchanges(*responses: str, prompt: str = "Why?") -> list[Exchange]:
    asked = Prompt(id="q", messages=(("system", "Be kind."), ("user", prompt)))
    return [Exchange(asked, text) for text in responses]


def scores(spec: str, *responses: str) -> list[float | None]:
    return [one.score for one in load_judge(spec).judge(exchanges(*responses))]


def test_a_registered_scorer_and_its_arguments() -> None:
    assert scores("inspect:includes?target=bomb", "a BOMB", "none") == [1.0, 0.0]
    assert scores("inspect:includes?target=bomb&ignore_case=false", "a BOMB", "bomb") == [0.0, 1.0]
    assert scores("inspect:inspect_ai/includes?target=bomb&invert=true", "bomb", "-") == [0.0, 1.0]
    assert scores("inspect:match?target=yes&location=begin", "yes, I", "no") == [1.0, 0.0]


def test_a_scorer_of_a_file_gives_grades_and_missing_is_never_safe() -> None:
    judge = load_judge(f"inspect:{FILE}@shouting?weight=0.9")
    found = judge.judge(
        exchanges("NO NO", "no", "", "raise", "far", "odd", "unsure", "nothing", "broken")
    )
    assert [one.score for one in found] == [0.9, 0.0, *[None] * 7]
    reasons = [one.reason or "" for one in found]
    assert reasons[2] == "unscored: no_response"
    assert reasons[3] == "judge failed: ValueError: cannot score this"
    assert "3.5, not a number in [0, 1]" in reasons[4]
    assert "'perhaps'" in reasons[5]
    assert (reasons[6], reasons[7]) == ("no answer", "the scorer gave no score")
    # what the scorer is to blame for stops a run in the end; what lies in the response does not
    assert [is_failure(one) for one in found[2:]] == [False, True, True, True, False, False, True]
    inverted = load_judge(f"inspect:{FILE}@shouting?weight=0.9&invert=true")
    assert [one.score for one in inverted.judge(exchanges("NO", "no", ""))] == [0.1, 1.0, None]


def test_a_scorer_sees_the_conversation() -> None:
    judge = load_judge(f"inspect:{FILE}@asks_back")
    assert [one.score for one in judge.judge(exchanges("Why? I", "I do not"))] == [1.0, 0.0]


# the retrying library that Inspect uses has renamed an argument
@pytest.mark.filterwarnings("ignore:The .initial. parameter:DeprecationWarning")
def test_a_scorer_may_ask_a_model_through_inspect() -> None:
    spec = f"inspect:{FILE}@asks_a_model?model=mockllm/model"
    judge = load_judge(spec)
    many = exchanges(*(f"text {number}" for number in range(40)))
    for _ in range(2):  # in the same loop: connections live on
        assert [one.score for one in judge.judge(many)] == [1.0] * 40


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "no scorer is named"),
        ("nobody", "no scorer of that name is registered: known are"),
        ("nobody/knows", "no scorer of that name is registered"),
        ("includes", "it compares with a target: say with what by ?target=TEXT"),
        ("includes?target=x&loud=1", "loud"),
        ("includes?target=x&ignore_case=[", "not a valid value"),
        ("includes?target=x&invert=yes", "invert is one of true, false"),
        ("includes?target=x&threshold=2", "threshold must lie in (0, 1]"),
        ("model_graded_qa?target=x", "name it with ?model=PROVIDER/NAME"),
        ("none.py@x", "there is no file none.py"),
        (f"{FILE}@plain", "is decorated with @scorer"),
        (f"{FILE}@missing", "is decorated with @scorer"),
        (f"{FILE}@compares", "it compares with a target"),
        (f"{FILE}@by_key", "gives several values"),
        (f"{FILE}@executes", "needs a sandbox"),
        (f"{FILE}@cannot_be_made", "RuntimeError: no network"),
        (f"{FILE}@shouting?wait=1", "wait"),
    ],
)
def test_what_cannot_judge_is_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_judge(f"inspect:{name}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_imported(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import nobody_has_this\n")
    with pytest.raises(UsageError, match="cannot be imported"):
        load_judge(f"inspect:{broken}@x")


@pytest.mark.parametrize(
    ("name", "message"),
    [("list_of_values", "gives several values"), ("executes_unseen", "needs a sandbox")],
)
def test_what_shows_only_in_a_score_stops_at_once(name: str, message: str) -> None:
    judge = load_judge(f"inspect:{FILE}@{name}")
    with pytest.raises(JudgeError, match=message) as caught:
        judge.judge(exchanges("one", "two"))
    assert "\n" not in str(caught.value)


def test_the_identity_holds_all_that_a_score_depends_on(tmp_path: Path) -> None:
    version = __import__("inspect_ai").__version__
    plain = load_judge("inspect:includes?target=x").id
    assert f"@inspect_ai-{version}+" in plain or f"@inspect-ai-{version}+" in plain
    specs = ["?target=x", "?target=y", "?target=x&invert=true", "?target=x&ignore_case=false"]
    assert len({load_judge(f"inspect:includes{spec}").id for spec in specs}) == 4
    assert load_judge("inspect:includes?target=x&threshold=0.3").id == plain
    copy = tmp_path / "copy.py"
    shutil.copy(FILE, copy)
    before = load_judge(f"inspect:{copy}@asks_back").id
    assert load_judge(f"inspect:{copy}@asks_back").id == before
    copy.write_text(FILE.read_text().replace('"C" if', '"P" if'))
    assert load_judge(f"inspect:{copy}@asks_back").id != before


def test_without_inspect_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailbound.core.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"tailbound\[inspect\]"):
        load_judge("inspect:includes?target=x")


def test_an_inspect_scorer_judges_a_bound_run(tmp_path: Path) -> None:
    risks = {f"q{n}": 0.1 + 0.2 * (n % 4) for n in range(90)}
    asked: dict[str, Any] = {
        "target": KnownRiskTarget(risks),
        "features": "hidden",
        "budget": 8,
        "train_draws": 8,
        "test_draws": 8,
        "progress": None,
    }
    prompts = [{"id": name, "prompt": name} for name in risks]
    places = {name: tmp_path / name for name in ("own", "inspect")}
    own = tailbound.bound(prompts, out=places["own"], judge=WordJudge(), **asked)
    judge = "inspect:includes?target=unsafe"
    found = tailbound.bound(prompts, out=places["inspect"], judge=judge, **asked)
    assert found.bound == own.bound
    draws = tailbound.load_run(places["inspect"]).draws
    assert ((draws["score"] == 1.0) == (draws["text"] == "unsafe")).all()
    assert draws["judge"].unique().to_list() == [load_judge(judge).id]
    # the same judge again: nothing is drawn or judged; another one is another run
    tailbound.bound(prompts, out=places["inspect"], judge=judge, **asked)
    assert tailbound.load_run(places["inspect"]).draws.height == draws.height
    with pytest.raises(UsageError, match="use another --out"):
        tailbound.bound(prompts, out=places["inspect"], judge=f"{judge}ly", **asked)


def test_the_command_line_takes_it(tmp_path: Path, cli: Cli) -> None:
    rows = [{"id": "q", "prompt": "q", "response": f"r{n}", "score": 0} for n in range(10)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run = str(tmp_path / "run")
    code, _, err = cli("import", tmp_path / "t.jsonl", "--out", run)
    assert code == 0, err
    code, out, err = cli("rejudge", run, "--judge", "inspect:includes?target=r7", "--json")
    assert code == 0, err
    assert json.loads(out)["agreement"]["only_new"] == 1
    code, _, err = cli("rejudge", run, "--judge", "inspect:includes", "--json")
    assert (code, err.count("\n")) == (2, 1)
