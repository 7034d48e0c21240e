"""Registries: what is found, and what is refused in one line."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from tailbound.core.contract import SamplingOptions
from tailbound.core.plugins import declaration
from tailbound.errors import UsageError
from tailbound.judges import registry as judges
from tailbound.judges.registry import list_judges, load_judge
from tailbound.predictors import registry as predictors
from tailbound.predictors.registry import find_features, list_predictors
from tailbound.targets import FeatureSource, WhiteBox
from tailbound.targets import registry as targets
from tailbound.targets.capabilities import (
    PaidTarget,
    Scoring,
    VariantSource,
    capabilities_of,
    late_notices_of,
    notices_of,
    spent_by,
)
from tailbound.targets.provider import TargetProvider
from tailbound.targets.registry import (
    accepted_options,
    check_target,
    list_targets,
    load_target,
    provider,
)
from tailbound.testing import KnownRiskTarget, WordJudge
from tailbound.workflows.risk.proposals import find_proposal, list_proposals
from tailbound.workflows.risk.proposals import registry as proposals

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package with one module and some entry points, for one test."""
    modules: list[str] = []

    def installed(name: str, code: str, **points: str) -> None:
        modules.append(name.replace("-", "_"))
        site = tmp_path / name
        info = site / f"{name}-1.2.dist-info"
        info.mkdir(parents=True)
        (site / f"{modules[-1]}.py").write_text(code)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(
            "".join(f"[tailbound.{group}]\n{line}\n" for group, line in points.items())
        )
        monkeypatch.syspath_prepend(site)

    yield installed
    for module in modules:  # the next test may install another one of that name
        sys.modules.pop(module, None)


def test_a_plain_function_is_a_provider(install: Install) -> None:
    install(
        "plain-one",
        "def load(name, options, *, colour=None): return (name, options, colour)",
        targets="plain = plain_one:load",
    )
    assert list_targets()["plain"] == "plain_one:load"
    found = provider("plain:x")
    assert found.options == {"colour"}
    assert (found.white_box, found.served, found.default_max_new_tokens) == (False, False, 256)
    options = SamplingOptions()
    engine = {"batch_size": 8, "dtype": "auto", "device": "auto", "revision": None}
    assert load_target("plain:x", options, **engine, colour="red") == ("x", options, "red")
    with pytest.raises(UsageError, match="--revision does not apply to plain: targets"):
        load_target("plain:x", options, revision="main")


def test_a_module_is_a_provider_and_its_check_is_used(install: Install) -> None:
    install(
        "whole-module",
        "from tailbound.errors import UsageError\n"
        "white_box, options, default_max_new_tokens = True, ('dtype',), 7\n"
        "def load(name, options, **engine): return engine\n"
        "def check(name, **engine): raise UsageError(f'no {name}')\n",
        targets="whole = whole_module",
    )
    found = provider("whole")
    assert (found.white_box, found.default_max_new_tokens) == (True, 7)
    assert load_target("whole:x", SamplingOptions(), batch_size=3, dtype="int8") == {
        "dtype": "int8"
    }
    with pytest.raises(UsageError, match=r"^no x$"):
        check_target("whole:x")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("raise SyntaxError('two\\nlines')", "SyntaxError: two lines"),
        ("", "AttributeError: .*'load'"),
    ],
)
def test_a_broken_plugin_is_one_line_that_names_its_distribution(
    install: Install, code: str, reason: str
) -> None:
    install(
        "broken-one", code, targets="broken = broken_one:load", judges="broken = broken_one:load"
    )
    for use in (provider, load_judge):
        with pytest.raises(UsageError, match=reason) as caught:
            use("broken:x")
        line = str(caught.value)
        assert "'broken' of broken-one 1.2 cannot be loaded from broken_one:load" in line
        assert line.endswith("fix or remove that plugin")
        assert "\n" not in line
    assert provider("demo").white_box  # others are not disturbed


def test_a_name_of_two_plugins_is_refused_where_it_is_used(install: Install) -> None:
    code = "def load(name, *rest, **options): return name"
    install("first-one", code, targets="twice = first_one:load\nhf = first_one:load")
    install("second-one", code, targets="twice = second_one:load")
    with pytest.raises(
        UsageError, match=r"'twice' is declared by (first|second)-one 1.2 and (first|second)-one"
    ):
        provider("twice:x")
    with pytest.raises(UsageError, match=r"'hf' is declared by tailbound and first-one 1\.2"):
        provider("hf:x")
    assert provider("openai:x").served


def test_unknown_names_get_all_that_there_are() -> None:
    for use, listed, text in (
        (provider, list_targets, "unknown target provider 'tyo': "),
        (load_judge, list_judges, "unknown judge provider 'tyo': "),
        (find_features, list_predictors, "unknown --features 'tyo': "),
        (find_proposal, list_proposals, "unknown proposal 'tyo': "),
    ):
        with pytest.raises(UsageError, match=text) as caught:
            use("tyo")
        assert all(name in str(caught.value) for name in listed())
    with pytest.raises(UsageError, match=r"did you mean hf:llama3:8b, .* or openai:llama3:8b, "):
        provider("llama3:8b")
    with pytest.raises(UsageError, match="did you mean 'openai'"):
        provider("opnai:x")
    with pytest.raises(UsageError, match="did you mean 'refusal'"):
        find_proposal("refusl")
    assert find_proposal("none") == (None, "")


def test_what_is_no_declaration_is_refused() -> None:
    def load(name: str, options: SamplingOptions) -> None:
        """Nothing."""

    assert declaration(load, TargetProvider, function="load").options == frozenset()
    found = declaration(SimpleNamespace(load=load, served=True), TargetProvider, function="load")
    assert found.served
    for wrong, message in (
        (3, "a function, or an object with 'load', not int"),
        (SimpleNamespace(load=3), "'load' must be a function, not int"),
        (KnownRiskTarget, "it is the class KnownRiskTarget"),
        (SimpleNamespace(load=load, options="dtype"), "a set of names, not the text 'dtype'"),
        (SimpleNamespace(load=load, default_max_new_tokens=0), "must be at least 1, not 0"),
    ):
        with pytest.raises(UsageError, match=message):
            declaration(wrong, TargetProvider, function="load")


def test_what_is_known_of_the_built_in_targets() -> None:
    known = {name: provider(name) for name in ("demo", "hf", "openai")}
    assert {name: one.white_box for name, one in known.items()} == {
        "demo": True,
        "hf": True,
        "openai": False,
    }
    assert {name: one.default_max_new_tokens for name, one in known.items()} == {
        "demo": 32,
        "hf": 256,
        "openai": 256,
    }
    demo = known["demo"]
    assert demo.example_instructions is not None
    assert demo.traits is not None
    harmful, harmless = demo.example_instructions()
    assert len(harmful) == len(harmless) == 64
    assert demo.traits("bold").judge == "demo:bold"
    assert known["openai"].takes("max_cost")
    assert not known["hf"].takes("max_cost")
    assert accepted_options("demo", batch_size=3, revision=None, base_url=None) == {"batch_size": 3}
    with pytest.raises(UsageError, match="--base-url does not apply to hf: targets: remove it"):
        accepted_options("hf:x", base_url="http://x/v1")


def test_the_entry_points_of_the_package_are_what_is_built_in() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for registry in (targets, judges, predictors, proposals):
        assert project["entry-points"][registry.GROUP] == registry.BUILT_IN


def test_what_is_known_of_a_target_at_hand() -> None:
    target = KnownRiskTarget({})
    found = provider(target)
    assert (found.white_box, found.served) == (False, False)
    assert found.load("", SamplingOptions()) is target


@dataclass
class Served:
    """As much of a target behind a server as some code asks for."""

    max_cost: float | None = 2.0
    earlier_cost: float = 0.0
    late_notices: tuple[str, ...] = ("changed",)

    @property
    def capabilities(self) -> Served:
        return self

    def to_dict(self) -> dict[str, bool]:
        return {"seed": True}

    def spent(self, *, under_way: bool = False) -> dict[str, float]:
        return {"cost": 1.0 + under_way}

    def price(self, tokens_in: float, tokens_out: float) -> float:
        return tokens_in + tokens_out

    cost_at_least = cost_at_most = price


def test_capabilities_are_seen_from_the_object_alone() -> None:
    known, served = KnownRiskTarget({}), Served()
    assert isinstance(known, FeatureSource)
    for capability in (WhiteBox, VariantSource, Scoring, PaidTarget):
        assert not isinstance(known, capability)
    assert isinstance(served, PaidTarget)
    assert (notices_of(known), notices_of(served), notices_of(WordJudge())) == ((), (), ())
    assert (late_notices_of(known), late_notices_of(served)) == ((), ("changed",))
    assert (spent_by(known), spent_by(served, under_way=True)) == (None, {"cost": 2.0})
    assert (capabilities_of(known), capabilities_of(served)) == (None, {"seed": True})
