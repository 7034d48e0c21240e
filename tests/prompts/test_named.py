"""Prompt sets by name, with a dataset that the tests write and with the hub out of reach."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest

from tailbound.errors import MissingExtraError, UsageError
from tailbound.prompts import KNOWN_FIELDS, read_prompts
from tailbound.prompts.datasets import RECIPES
from tailbound.prompts.hub import DatasetName, parse_name, read_named

pytestmark = pytest.mark.filterwarnings("default")  # of datasets and what it builds upon

ROWS = [{"prompt": {"text": f"start {i}", "toxicity": 0.1}, "Goal": f"goal {i}"} for i in range(5)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset with the splits train (5 rows) and test (2)."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    home = tmp_path / "set"
    home.mkdir()
    for split, rows in (("train", ROWS), ("test", ROWS[3:])):
        (home / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return home


def test_names_are_taken_apart() -> None:
    name = parse_name("hf-dataset:org/name@v1.2#config/split")
    assert name == DatasetName(dataset="org/name", revision="v1.2", config="config", split="split")
    assert str(name) == "hf-dataset:org/name@v1.2#config/split"
    assert parse_name("hf-dataset:org/name") == DatasetName(dataset="org/name")
    assert parse_name("hf-dataset:org/name#test") == DatasetName(dataset="org/name", split="test")
    assert parse_name("prompts.jsonl") is None
    for wrong in ("hf-dataset:", "hf-dataset:#train", "hf-dataset:a@b@c", "hf-dataset:a#b/c/d"):
        with pytest.raises(UsageError, match="is not a dataset: write hf-dataset:ORG/NAME"):
            parse_name(wrong)


def test_a_split_is_read_with_the_field_that_is_asked_for(folder: Path) -> None:
    prompts = read_prompts(f"hf-dataset:{folder}#test", field="Goal")
    assert [prompt.text for prompt in prompts] == ["goal 3", "goal 4"]
    assert prompts.source == f"hf-dataset:{folder}#test"
    assert prompts.notices == ()
    # A path, as the command line gives it, names the same.
    assert [p.id for p in read_prompts(Path(f"hf-dataset:{folder}#test"), field="Goal")] == [
        p.id for p in prompts
    ]


def test_without_a_split_train_is_read_and_known_fields_are_found(folder: Path) -> None:
    prompts = read_prompts(f"hf-dataset:{folder}", field="prompt.text", limit=3)
    assert [prompt.text for prompt in prompts] == ["start 0", "start 1", "start 2"]
    assert prompts.source.endswith("#train")
    assert read_prompts(f"hf-dataset:{folder}").field == "prompt.text"


def test_splits_are_listed_where_the_choice_is_open(folder: Path) -> None:
    (folder / "train.jsonl").rename(folder / "validation.jsonl")
    with pytest.raises(UsageError, match=r"has the splits .*: choose one with #"):
        read_prompts(f"hf-dataset:{folder}")


@pytest.mark.parametrize("part", ["#tset", "#other/train"])
def test_what_is_not_there_is_one_line(folder: Path, part: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be read .*check revision, config and split") as e:
        read_prompts(f"hf-dataset:{folder}{part}")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train.jsonl": b""}, "cannot be read"),
        ({"set.py": b"raise SystemExit\n"}, r"cannot be read"),
        ({"train.csv": b"prompt\ncaf\xe9\n"}, r"cannot be read .*utf-8"),
        ({"train.jsonl": b'{"prompt": "a"}\n{"prompt":\n'}, r"cannot be read .JSON parse error"),
        ({"README.md": b"---\nconfigs: [[[\n---\n", "train.csv": b"prompt\nx\n"}, "cannot be read"),
        (
            {
                "README.md": b"---\nconfigs:\n- config_name: one\n  data_files: a.csv\n"
                b"- config_name: two\n  data_files: a.csv\n---\n",
                "a.csv": b"prompt\nx\n",
            },
            r"available configs: .'one', 'two'.",
        ),
    ],
)
def test_folders_that_are_no_dataset_are_one_line(
    folder: Path, tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    home = tmp_path / "other"
    home.mkdir()
    for name, content in files.items():
        (home / name).write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_prompts(f"hf-dataset:{home}")
    assert "\n" not in str(caught.value)


def test_pictures_beside_the_prompts_are_not_opened(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "pictures"
    home.mkdir()
    (home / "metadata.jsonl").write_text('{"file_name": "a.png", "prompt": "x"}\n')
    (home / "a.png").write_bytes(b"no picture")
    assert read_prompts(f"hf-dataset:{home}")[0].text == "x"


def test_a_folder_has_no_revisions(folder: Path) -> None:
    with pytest.raises(UsageError, match="a local folder, which has no revisions"):
        read_prompts(f"hf-dataset:{folder}@main#train", field="Goal")


def test_the_commit_that_was_read_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef" * 2 + "01234567"

    class Fake(list):  # a dataset as the hub gives it
        info = SimpleNamespace(
            download_checksums={f"hf://datasets/org/name@{commit}/data/train.parquet": {}}
        )

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: Fake([{"prompt": "a"}]))
    found = read_named(DatasetName(dataset="org/name", split="train"))
    assert found.source == f"hf-dataset:org/name@{commit}#train"
    assert found.notices == ()
    Fake.info.download_checksums = None
    found = read_named(DatasetName(dataset="org/name", split="train"))
    assert "has no fixed revision: pin one with @REVISION" in found.notices[0]


def test_recipes_ask_for_what_they_say_and_their_fields_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def load(dataset, config, *, revision, split):
        asked.append((dataset, config, split))
        loaded = datasets.Dataset.from_list([{"prompt": "p", "Goal": "g"}])
        if dataset == "allenai/real-toxicity-prompts":
            loaded = datasets.Dataset.from_list([{"prompt": {"text": "t"}}])
        return loaded

    monkeypatch.setattr(datasets, "load_dataset", load)
    found = {name: read_prompts(name)[0].text for name in RECIPES}
    assert found == {
        "realtoxicityprompts": "t",
        "strongreject": "p",
        "advbench": "p",
        "harmbench": "p",
        "jailbreakbench": "g",
    }
    assert asked == [(one.dataset, one.config, one.split) for one in RECIPES.values()]
    assert read_prompts("Real-Toxicity-Prompts")[0].text == "t"
    assert all(one.field in KNOWN_FIELDS for one in RECIPES.values())


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("advbench").mkdir()
    with pytest.raises(UsageError, match="advbench is a folder"):
        read_prompts("advbench")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConnectionError("Couldn't reach 'x' on the Hub\nmore"), "neither reachable nor in the"),
        (datasets.exceptions.DatasetNotFoundError("'x' is a gated dataset"), "asks for a login"),
        (datasets.exceptions.DatasetNotFoundError("'x' doesn't exist"), "is not on the hub"),
        (datasets.exceptions.DatasetGenerationError("broken"), "cannot be read .broken."),
    ],
)
def test_trouble_with_the_hub_is_one_line_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(UsageError, match=message) as caught:
        read_prompts("strongreject")
    assert "\n" not in str(caught.value)
    assert "download it by hand from https://github.com/alexandrasouly" in str(caught.value)
    assert str(caught.value).endswith("and give strongreject:FILE")


def test_offline_the_real_library_gives_one_clear_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=r"neither reachable nor in the cache .*: go online once"):
        read_prompts("hf-dataset:no-such-org/no-such-set#train")
    assert len(read_prompts(f"hf-dataset:{folder}#train", field="Goal")) == 5


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tailbound\[data\]'"):
        read_prompts("hf-dataset:org/name")
