"""Well-known prompt sets by short names: where they live, and which column holds the prompt."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A prompt set on the Hugging Face hub, and where its authors publish it (`origin`).

    `field` is the column of the prompts on the hub. `origin` is what to download by hand where the
    hub is out of reach or asks for a login; its columns are found without `--field`.
    """

    dataset: str
    split: str
    field: str
    origin: str
    config: str | None = None


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
    return RECIPES.get(name.lower().replace("-", "").replace("_", ""))
