"""`tailbound doctor` says what is missing, and with which command it comes."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable

import pytest

from tailbound.workflows import doctor

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let packages look absent, or installed in another version."""

    def pretend(**versions: str | None) -> None:
        def version(name: str) -> str:
            if name.lower() in versions:
                found = versions[name.lower()]
                if found is None:
                    raise importlib.metadata.PackageNotFoundError(name)
                return found
            return importlib.metadata.version(name)

        monkeypatch.setattr(doctor, "version", version)

    return pretend


def part(found: doctor.Diagnosis, extra: str) -> doctor.Part:
    return next(one for one in found.parts if one.extra == extra)


def test_everything_that_the_tests_install_works(cli: Cli) -> None:
    code, out, err = cli("doctor", "--json")
    document = json.loads(out)
    assert code == 0
    assert err == ""
    assert document["works"]
    assert all(one["works"] and one["cure"] is None for one in document["parts"].values())
    assert {"core", "hf", "endpoint"} <= set(document["parts"])
    assert "dev" not in document["parts"]


def test_a_missing_extra_is_named_with_its_cure(without: Callable[..., None], cli: Cli) -> None:
    without(aiohttp=None)
    code, out, _ = cli("doctor")
    assert code == 0, "an optional part may be absent"
    assert "no aiohttp: pip install --upgrade 'tailbound[endpoint]'" in out
    assert part(doctor.diagnose(), "hf").works


def test_a_core_package_that_is_too_old_fails(without: Callable[..., None], cli: Cli) -> None:
    without(numpy="1.26.4")
    code, out, _ = cli("doctor")
    assert code == 1
    assert "numpy 1.26.4 is not >=2.0: pip install --upgrade tailbound" in out


def test_keys_are_named_and_never_shown(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    for arguments in (("doctor",), ("doctor", "--json")):
        _, out, err = cli(*arguments)
        assert "OPENAI_API_KEY" in out
        assert "sk-very-secret" not in out + err
