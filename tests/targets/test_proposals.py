"""Rows that change their variant, against plain forward passes of the model itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from tailbound.core.contract import DrawRequest, SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.targets.decoding.model import LocalModel
from tailbound.targets.decoding.proposals import ProposalModel, instructed, other_model, steered
from targets.tiny_models import EOT, Queue, local_model, network, prompt

PROMPTS = [prompt(number, words=2 + 3 * number) for number in range(4)]


class Nudge:
    """Adds strength times a fixed vector to the token embeddings."""

    def __init__(self, seed: int = 0, scale: float = 1.0) -> None:
        self.seed, self.scale = seed, scale
        self.id = f"nudge-{seed}-{scale}"

    def attach(self, model: Any) -> AttachedNudge:
        return AttachedNudge(model, self)


class AttachedNudge:
    def __init__(self, model: Any, nudge: Nudge) -> None:
        self.strength: torch.Tensor | None = None
        embedding = model.get_input_embeddings()
        like = embedding.weight
        generator = torch.Generator().manual_seed(nudge.seed)
        vector = torch.randn(like.shape[1], generator=generator) * like.std().cpu() * nudge.scale
        self.vector = vector.to(like)
        self._handle = embedding.register_forward_hook(self._add)

    def _add(self, module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        if self.strength is None:
            return output
        return output + self.strength[:, None, None] * self.vector

    def remove(self) -> None:
        self._handle.remove()


@contextmanager
def nudged(model: Any, nudge: Nudge, strength: float) -> Iterator[Any]:
    attached = nudge.attach(model)
    attached.strength = torch.tensor([strength], dtype=next(model.parameters()).dtype)
    yield model
    attached.remove()


def asked(segments: list[tuple[tuple[int, int], ...]], each: int = 2) -> list[DrawRequest]:
    return [
        DrawRequest(
            prompt=one, stream="risk", index=index + 1, segments=segments[index % len(segments)]
        )
        for one in PROMPTS
        for index in range(each * len(segments))
    ]


def made_target(model: Any, **settings: Any) -> LocalModel:
    """Sampling options and engine options mixed."""
    sampling = {
        k: v for k, v in settings.items() if k in {"max_new_tokens", "top_p", "temperature"}
    }
    rest = {k: v for k, v in settings.items() if k not in sampling}
    return local_model(model, SamplingOptions(**{"max_new_tokens": 8, **sampling}), **rest)


#: The target, one variant throughout, windows, windows back to back, and many changes.
SCHEDULES: list[tuple[tuple[int, int], ...]] = [
    (),
    ((1, 64),),
    ((2, 64),),
    ((1, 3),),
    ((0, 2), (1, 5)),
    ((0, 4), (2, 64)),
    ((1, 1), (2, 2), (1, 4), (0, 5), (2, 6)),
]


def variants_at(schedule: tuple[tuple[int, int], ...], tokens: int) -> list[int]:
    return [next((v for v, stop in schedule if t < stop), 0) for t in range(tokens)]


def plain_log_probs(model: Any, ids: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*ids, *response]]), use_cache=False).logits[0]
    values = logits.double().log_softmax(-1)[len(ids) - 1 : -1]
    return values.gather(1, torch.tensor(response)[:, None])[:, 0].numpy()


def engine(kind: str = "llama", **options: Any) -> ProposalModel:
    model = network(kind)
    if kind.startswith("gemma"):
        # their tied embeddings are so wide that every distribution would be on one token
        model.get_input_embeddings().weight.mul_(0.1)
    target = made_target(model, **options)
    nudge = Nudge()
    return ProposalModel(
        target,
        [steered(target, nudge, 1.0, name="strong"), steered(target, nudge, 0.5, name="weak")],
    )


@pytest.mark.parametrize(
    "kind", ["llama", "mistral-sliding", "qwen3", "gemma2", "gemma3", "phi", "olmo2", "gpt2"]
)
def test_every_token_has_the_density_of_its_variant(kind: str) -> None:
    made = engine(kind, batch_size=5, max_new_tokens=8)
    requests = asked(SCHEDULES)
    schedule = {(r.prompt.id, r.index): r.segments for r in requests}
    ids = {p.id: made.target.encoder.encode(p) for p in PROMPTS}
    seen = 0
    for traced in made.trace(requests, seed=3):
        draw = traced.draw
        prompt_ids = ids[draw.prompt_id]
        model = made.target.model
        tables = [plain_log_probs(model, prompt_ids, draw.token_ids)]
        for strength in (1.0, 0.5):
            with nudged(model, Nudge(), strength):
                tables.append(plain_log_probs(model, prompt_ids, draw.token_ids))
        expected = np.stack(tables)
        np.testing.assert_allclose(traced.scored, expected, atol=2e-4)
        # the variants do differ, else this test could not fail
        assert np.abs(expected[1] - expected[0]).max() > 1e-3
        spoken = variants_at(schedule[draw.prompt_id, draw.index], len(draw.token_ids))
        np.testing.assert_allclose(
            traced.spoken, expected[spoken, np.arange(len(spoken))], atol=2e-4
        )
        assert draw.log_prob == pytest.approx(traced.spoken.sum(), abs=1e-9)
        seen += 1
    assert seen == len(requests)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_draws_do_not_depend_on_the_batch(kind: str) -> None:
    requests = asked(SCHEDULES, each=3)
    found = []
    for batch_size, order in ((1, 1), (7, 1), (16, -1), (64, -1)):
        made = engine(kind, batch_size=batch_size, max_new_tokens=8)
        draws = made.sample(Queue(requests[::order]), seed=5)
        found.append({(d.prompt_id, d.index): d.token_ids for d in draws})
    assert len(found[0]) == len(requests)
    assert all(one == found[0] for one in found)


class Watched(Queue):
    """Remembers how many requests it was asked for, and whether rows were at work meanwhile."""

    def __init__(self, items: list[DrawRequest], portion: int | None = None) -> None:
        super().__init__(items, portion=portion)
        self.asked: list[tuple[int, bool]] = []

    def take(self, limit: int, *, wait: bool) -> Sequence[DrawRequest]:
        self.asked.append((limit, wait))
        return super().take(limit, wait=wait)


@pytest.mark.parametrize("portion", [None, 1, 3])
def test_rows_that_take_turns_enter_together(portion: int | None) -> None:
    """An eighth of the rows may wait for company, never the last draw, and no draw is lost."""
    requests = asked(SCHEDULES, each=8)
    together = Watched(requests, portion)
    made = engine(batch_size=32, max_new_tokens=8)
    found = list(made.sample(together, seed=5))
    assert {(d.prompt_id, d.index) for d in found} == {(r.prompt.id, r.index) for r in requests}
    assert len(found) == len(requests)
    assert min(limit for limit, idle in together.asked if not idle) >= 4


def test_a_single_voice_waits_for_nobody() -> None:
    source = Watched(asked([()], each=40))
    plain = made_target(network(), batch_size=32, max_new_tokens=8)
    assert len(list(plain.sample(source, seed=5))) == 40 * len(PROMPTS)
    assert min(limit for limit, idle in source.asked if not idle) < 4


def test_without_segments_it_samples_as_the_target_does() -> None:
    made = engine(batch_size=6, max_new_tokens=8)
    requests = asked([()], each=8)
    steered_engine = {
        (d.prompt_id, d.index): d.token_ids for d in made.sample(Queue(requests), seed=1)
    }
    plain = made_target(network(), batch_size=6, max_new_tokens=8)
    assert steered_engine == {
        (d.prompt_id, d.index): d.token_ids for d in plain.sample(Queue(requests), seed=1)
    }


def test_ambiguous_tokens_are_decided_under_their_own_variant() -> None:
    """With a tolerance so wide that every token is ambiguous, all of them are decided in fp64."""
    made = engine(batch_size=6, max_new_tokens=5, tolerance=0.3)
    requests = asked(SCHEDULES)
    schedule = {(r.prompt.id, r.index): r.segments for r in requests}
    for traced in made.trace(requests, seed=3):
        segments = schedule[traced.draw.prompt_id, traced.draw.index]
        speaker = variants_at(segments, len(traced.draw.token_ids))
        expected = traced.scored[speaker, np.arange(len(speaker))]
        np.testing.assert_allclose(traced.spoken, expected, atol=2e-4)
    assert made.target.fallback is not None
    assert made.target.fallback.calls > 100


def test_a_system_prompt_and_another_network_are_variants() -> None:
    target = made_target(network(seed=0), batch_size=5, max_new_tokens=8)
    second = made_target(network(seed=1), batch_size=5, max_new_tokens=8)
    made = ProposalModel(
        target,
        [instructed(target, "w9 w8 w9", name="system"), other_model(target, second, name="other")],
    )
    requests = asked(SCHEDULES, each=3)
    schedule = {(r.prompt.id, r.index): r.segments for r in requests}
    by_id = {p.id: p for p in PROMPTS}
    count = 0
    for traced in made.trace(requests, seed=4):
        ids, response = by_id[traced.draw.prompt_id], traced.draw.token_ids
        own = target.encoder.encode(ids)
        with_system = target.encoder.with_system("w9 w8 w9").encode(ids)
        assert len(with_system) == len(own) + 4
        expected = np.stack(
            [
                plain_log_probs(target.model, own, response),
                plain_log_probs(target.model, with_system, response),
                plain_log_probs(second.model, own, response),
            ]
        )
        np.testing.assert_allclose(traced.scored, expected, atol=2e-4)
        speaker = variants_at(schedule[traced.draw.prompt_id, traced.draw.index], len(response))
        np.testing.assert_allclose(
            traced.spoken, expected[speaker, np.arange(len(response))], atol=2e-4
        )
        count += 1
    assert count == len(requests)


def test_two_interventions_keep_apart() -> None:
    target = made_target(network(), batch_size=5, max_new_tokens=6)
    made = ProposalModel(
        target,
        [
            steered(target, Nudge(0), 1.0, name="first"),
            steered(target, Nudge(1), 1.0, name="second"),
        ],
    )
    for traced in made.trace(asked(SCHEDULES), seed=4):
        ids = target.encoder.encode(next(p for p in PROMPTS if p.id == traced.draw.prompt_id))
        for row, nudge in ((1, Nudge(0)), (2, Nudge(1))):
            with nudged(target.model, nudge, 1.0):
                expected = plain_log_probs(target.model, ids, traced.draw.token_ids)
            np.testing.assert_allclose(traced.scored[row], expected, atol=2e-4)


def test_truncation_holds_for_every_variant() -> None:
    made = engine(batch_size=6, max_new_tokens=6, top_p=0.7, temperature=0.8)
    kinds = set()
    for traced in made.trace(asked(SCHEDULES, each=6), seed=4):
        assert np.isfinite(traced.spoken).all()
        kinds.add(bool(np.isneginf(traced.scored[0]).any()))
    assert kinds == {True, False}  # steering says what the truncated target cannot say


def test_effect_is_zero_for_a_variant_that_does_nothing() -> None:
    target = made_target(network(), batch_size=4, max_new_tokens=6)
    made = ProposalModel(
        target,
        [
            steered(target, Nudge(), 1.0, name="on"),
            other_model(
                target, made_target(network(), batch_size=4, max_new_tokens=6), name="same"
            ),
        ],
    )
    response = [9, 10, 11, EOT]
    assert made.effect(1, PROMPTS[1], response).shape == (4,)
    assert (made.effect(1, PROMPTS[1], response) > 1e-2).all()
    assert made.effect(2, PROMPTS[1], response).max() < 1e-4


def test_a_variant_that_is_not_there_is_refused() -> None:
    made = engine(batch_size=4, max_new_tokens=6)
    request = DrawRequest(prompt=PROMPTS[0], stream="risk", index=1, segments=((3, 6),))
    with pytest.raises(UsageError, match="variant 3, but the engine has 3"):
        list(made.sample(Queue([request]), seed=0))
    plain = made_target(network(), batch_size=4, max_new_tokens=6)
    with pytest.raises(UsageError, match="variant 3, but the engine has 1"):
        list(plain.sample(Queue([request]), seed=0))


def test_another_vocabulary_is_refused() -> None:
    target = made_target(network(), batch_size=4)
    other = made_target(network(vocabulary=41), batch_size=4)
    with pytest.raises(UsageError, match="vocabulary of 41"):
        other_model(target, other, name="other")


def test_a_strength_of_zero_is_refused() -> None:
    target = made_target(network(), batch_size=4)
    with pytest.raises(UsageError, match="the target itself"):
        steered(target, Nudge(), 0.0, name="none")


def test_long_prompts_of_unequal_length_change_their_variant() -> None:
    prompts = [prompt(number, words=5 + 17 * number) for number in range(4)]
    target = made_target(network(), batch_size=4, max_new_tokens=10)
    made = ProposalModel(target, [steered(target, Nudge(), 1.0, name="on")])
    requests = [
        DrawRequest(prompt=one, stream="risk", index=i, segments=((0, i % 5), (1, 7)))
        for one in prompts
        for i in range(1, 7)
    ]
    lookup: dict[str, Prompt] = {one.id: one for one in prompts}
    for traced in made.trace(requests, seed=8):
        ids = target.encoder.encode(lookup[traced.draw.prompt_id])
        expected = plain_log_probs(target.model, ids, traced.draw.token_ids)
        np.testing.assert_allclose(traced.scored[0], expected, atol=2e-4)
        schedule = ((0, traced.draw.index % 5), (1, 7))
        speaker = variants_at(schedule, len(traced.draw.token_ids))
        np.testing.assert_allclose(
            traced.spoken, traced.scored[speaker, np.arange(len(speaker))], atol=2e-4
        )
