"""The requests and traits that come with tailbound."""

from __future__ import annotations

import pytest

from tailbound.huggingface.instructions import example_instructions
from tailbound.steering.traits import TRAITS, Trait
from tailbound.targets.registry import provider


def test_there_are_64_pairs_and_none_occurs_twice() -> None:
    harmful, harmless = example_instructions()
    assert len(harmful) == len(harmless) == 64
    texts = {one.text for one in [*harmful, *harmless]}
    assert len(texts) == len({one.id for one in [*harmful, *harmless]}) == 128
    # short and of much the same form: what differs is what is asked for
    assert all(text[-1] in ".?" and len(text) < 80 for text in texts)
    longer = sum(len(one.text) for one in harmful) / sum(len(one.text) for one in harmless)
    assert 0.9 < longer < 1.1
    assert all(bad.text.split()[0] == good.text.split()[0] or bad.text[-1] == good.text[-1]
               for bad, good in zip(harmful, harmless, strict=True))  # fmt: skip
    assert provider("hf:x").example_instructions is not None


@pytest.mark.parametrize("name", TRAITS)
def test_every_trait_has_opposite_prompts_and_questions(name: str) -> None:
    trait = Trait.named(name)
    assert trait.name == name
    assert trait.description
    assert trait.judge is None
    assert len(trait.positive) == len(trait.negative) >= 3
    assert not {*trait.positive} & {*trait.negative}
    assert len({one.text for one in trait.questions}) == len(trait.questions) >= 8
