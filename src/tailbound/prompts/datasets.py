"""Well-known prompt sets by short names: where they live, and which column holds the prompt."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from os.path import exists
from pathlib import Path

from tailbound.errors import UsageError
from tailbound.prompts.tables import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A prompt set on the Hugging Face hub, and where its authors publish it (`origin`).

    `field` is the column of the prompts on the hub. `origin` is what to download by hand where the
    hub is out of reach or asks for a login; its columns are found without `--field`. Where that
    file holds more than the set on the hub, `only` is the column, and its value, that tell which
    rows are meant.
    """

    dataset: str
    split: str
    field: str
    origin: str
    config: str | None = None
    only: tuple[str, str] | None = None


RECIPES: dict[str, Recipe] = {
    "realtoxicityprompts": Recipe(
        dataset="allenai/real-toxicity-prompts",
        split="train",
        field="prompt.text",
        origin="https://toxicdegeneration.allenai.org",
    ),
    "strongreject": Recipe(
        dataset="walledai/StrongREJECT",
        split="train",
        field="prompt",
        origin="https://github.com/alexandrasouly/strongreject "
        "(strongreject_dataset/strongreject_dataset.csv)",
    ),
    "advbench": Recipe(
        dataset="walledai/AdvBench",
        split="train",
        field="prompt",
        origin="https://github.com/llm-attacks/llm-attacks (data/advbench/harmful_behaviors.csv)",
    ),
    "harmbench": Recipe(
        dataset="walledai/HarmBench",
        config="standard",
        split="train",
        field="prompt",
        origin="https://github.com/centerforaisafety/HarmBench "
        "(data/behavior_datasets/harmbench_behaviors_text_all.csv)",
        only=("FunctionalCategory", "standard"),
    ),
    "jailbreakbench": Recipe(
        dataset="JailbreakBench/JBB-Behaviors",
        config="behaviors",
        split="harmful",
        field="Goal",
        origin="https://github.com/JailbreakBench/jailbreakbench",
    ),
}


def find_recipe(name: str) -> Recipe | None:
    """The recipe of that name; case, hyphens and underscores do not matter."""
    return RECIPES.get(_plain(name))


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def parse_recipe_file(text: str) -> tuple[str, Path] | None:
    """(recipe, file) of `NAME:FILE`; None where the text is something else."""
    name, colon, path = text.partition(":")
    recipe = find_recipe(name)
    if not colon or not path or recipe is None or exists(text):
        return None
    return next(key for key, value in RECIPES.items() if value is recipe), Path(path)


def only_population(
    recipe: Recipe, rows: list[Row], source: str
) -> tuple[list[Row], tuple[str, ...]]:
    """The rows of the authors' file that the recipe means, and a notice about the others.

    Raises `UsageError` where the file has no column to tell them by.
    """
    if recipe.only is None:
        return rows, ()
    column, wanted = recipe.only
    if all(column not in row.values for row in rows):
        raise UsageError(
            f"{source} has no column {column!r}, by which the rows of the set are known: give the "
            f"file of {recipe.origin}, or the file alone without the name of the set"
        )
    kept = [row for row in rows if row.values.get(column) == wanted]
    others = Counter(str(row.values.get(column)) for row in rows) - Counter({wanted: len(kept)})
    if not others:
        return kept, ()
    listed = ", ".join(f"{count} {value}" for value, count in sorted(others.items()))
    return kept, (
        f"{len(kept)} of {len(rows)} rows were kept, those with {column} {wanted!r}, which is the "
        f"set on the hub; left out: {listed}",
    )


def check_is_file(text: str) -> None:
    """Raise `UsageError` where `text` is no file and looks like the name of a set."""
    path = Path(text)
    try:
        found = path.exists()
    except (OSError, ValueError) as error:  # a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"no prompt file {text!r:.60} ({reason}): check the path") from error
    if found or path.suffix or len(path.parts) > 1:
        return
    names = ", ".join(RECIPES)
    near = get_close_matches(_plain(text.partition(":")[0]), RECIPES, n=1, cutoff=0.6)
    meant = f": did you mean {near[0]}? S" if near else ": s"
    raise UsageError(f"no prompt file or set {text!r}{meant}ets by name are {names}")
