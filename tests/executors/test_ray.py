"""Runs on two local Ray nodes give what one process gives, also when an actor and a node die."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

import tailbound
from executors.results import assert_close
from tailbound.audit import Progress
from tailbound.demo.files import default_prompts
from tailbound.errors import UsageError
from tailbound.executors import ray as ray_module
from tailbound.runs import read

pytestmark = [
    pytest.mark.slow,
    # of Ray's own: sockets and files of processes that it ends
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

KEYS = ["stream", "prompt_id", "index"]
SAME = (*KEYS, "token_ids", "score")


def run(folder: Path, **more: Any) -> None:
    tailbound.risk(
        default_prompts(3), out=folder, draws=200, proposal="refusal", **{"progress": None, **more}
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    run(folder / "run")
    return folder / "run"


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes of one core each; the first one has the driver and no worker."""
    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 << 20},
    )
    yield made
    ray.shutdown()
    made.shutdown()


def watching(stream: str, acts: list[tuple[int, Callable[[], None]]]) -> Callable[[Any], None]:
    """Does each act once so many draws of a stream are finished."""

    def look(event: Any) -> None:
        while acts and isinstance(event, Progress) and event.stream == stream:
            if event.draws < acts[0][0]:
                break
            acts.pop(0)[1]()

    return look


def test_an_actor_and_a_node_that_die_in_mid_run_change_nothing(
    cluster: Any, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    carriers: list[Any] = []
    original = ray_module.RayCarrier.__init__

    def noted(self: Any, actor: Any) -> None:
        original(self, actor)
        carriers.append(self)

    monkeypatch.setattr(ray_module.RayCarrier, "__init__", noted)

    def kill_an_actor() -> None:
        os.kill(carriers[0].call("pid").result(), signal.SIGKILL)

    def kill_the_node() -> None:
        cluster.remove_node(second)
        cluster.add_node(num_cpus=1, object_store_memory=80 << 20)

    acts = [(60, kill_an_actor), (250, kill_the_node)]
    run(
        tmp_path / "run",
        executor="ray",
        workers=2,
        address=cluster.address,
        progress=watching("risk", acts),
    )
    assert not acts
    assert len(carriers) >= 4
    assert_close(tmp_path / "run" / "risk.json", alone / "risk.json")
    ours, theirs = (read(folder).select(SAME).sort(KEYS) for folder in (tmp_path / "run", alone))
    assert ours.equals(theirs)


def test_where_nobody_listens_there_is_one_line_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no Ray cluster at 127\.0\.0\.1:9") as caught:
        run(tmp_path / "run", executor="ray", address="127.0.0.1:9")
    assert "\n" not in str(caught.value)
