"""Fine-tuning end to end, on a tiny encoder that the tests make."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from tailbound.core.prompt import Prompt
from tailbound.errors import LedgerError, MissingExtraError, UsageError
from tailbound.predictors import FinetunedFeatures, fit
from tailbound.prompts import PromptSet
from tailbound.testing import KnownRiskTarget, WordJudge
from tailbound.workflows.bound import BoundSettings, divide, predict_bounds, run_bound

WORDS = [f"thing{number}" for number in range(12)]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    """A BERT of one layer, 32 wide, with random weights and one token per word."""
    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "steal", "paint", "how", "to", *WORDS]
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return str(folder)


def world(n: int, seed: int = 0) -> tuple[list[Prompt], np.ndarray]:
    """Prompts that say "steal" have risk .2, the others .005."""
    rng = np.random.default_rng(seed)
    bad = rng.random(n) < 0.5
    prompts = [
        Prompt(
            id=f"s{seed}p{i}",
            messages=(
                ("user", f"how to {'steal' if b else 'paint'} {' '.join(rng.choice(WORDS, 3))}"),
            ),
        )
        for i, b in enumerate(bad)
    ]
    return prompts, np.where(bad, 0.2, 0.005)


def tuned(encoder: str, folder: Path, n: int = 150, **changes) -> tuple:
    prompts, p = world(n)
    unsafe = np.random.default_rng(1).binomial(50, p)
    source = FinetunedFeatures(encoder, learning_rate=2e-3)
    source.learn(prompts, unsafe, np.full(n, 50), folder=folder, **changes)
    return source, prompts, unsafe


def test_it_learns_which_words_matter_and_says_so_honestly(encoder, tmp_path):
    source, prompts, unsafe = tuned(encoder, tmp_path)
    fitted = fit(source.features(prompts), unsafe, np.full(len(prompts), 50), rng=0)
    assert fitted.report.explained > 0.6
    new, p = world(200, seed=7)
    features = source.features(new)
    assert features.shape == (200, 1)
    assert features.dtype == np.float32
    p_hat = fitted.predict(features)
    assert np.median(p_hat[p > 0.1]) == pytest.approx(0.2, rel=0.5)
    assert 0.0025 < np.median(p_hat[p < 0.1]) < 0.012


def test_where_there_is_nothing_to_learn_the_constant_is_kept(encoder, tmp_path):
    """An encoder that knows noise by heart must not be believed."""
    prompts, _ = world(90)
    unsafe = np.random.default_rng(2).binomial(50, 0.05, 90)
    source = FinetunedFeatures(encoder, epochs=60, learning_rate=2e-3)
    source.learn(prompts, unsafe, np.full(90, 50), folder=tmp_path)
    assert fit(source.features(prompts), unsafe, np.full(90, 50), rng=0).report.explained < 0.1


def test_training_prompts_get_the_encoder_that_has_not_seen_them(encoder, tmp_path):
    source, prompts, _ = tuned(encoder, tmp_path, 60)
    state = json.loads((tmp_path / "finetuned.json").read_text())
    assert sorted(set(state["folds"].values())) == [0, 1, 2]
    elsewhere = [Prompt(id=f"new{i}", messages=p.messages) for i, p in enumerate(prompts)]
    single, mean = source.features(prompts), source.features(elsewhere)
    assert not np.allclose(single, mean, atol=1e-3)
    alone = np.array([source._eta(one, [p.text for p in prompts]) for one in source._encoders])
    np.testing.assert_allclose(mean[:, 0], alone.mean(axis=0), rtol=1e-4)
    folds = [state["folds"][p.id] for p in prompts]
    np.testing.assert_allclose(single[:, 0], alone[folds, np.arange(60)], rtol=1e-4)


def test_the_same_draws_give_the_same_encoders_kept_and_loaded(encoder, tmp_path):
    one, prompts, _ = tuned(encoder, tmp_path / "a", 60)
    features = one.features(prompts)
    two, _, _ = tuned(encoder, tmp_path / "b", 60)
    np.testing.assert_array_equal(two.features(prompts), features)
    np.testing.assert_allclose(
        FinetunedFeatures.load(tmp_path / "a").features(prompts), features, rtol=1e-5
    )
    # Nothing is tuned again for the same draws; for others it is.
    weights = tmp_path / "a" / "fold-0" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    again, _, _ = tuned(encoder, tmp_path / "a", 60)
    assert weights.stat().st_mtime_ns == before
    np.testing.assert_allclose(again.features(prompts), features, rtol=1e-5)
    tuned(encoder, tmp_path / "a", 60, seed=1)
    assert weights.stat().st_mtime_ns > before


def test_a_bound_with_a_fine_tuned_encoder_and_predictions_from_it(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("tailbound.predictors.finetune.LEARNING_RATE", 2e-3)
    prompts, p = world(300)
    prompt_set = PromptSet(prompts=tuple(prompts), field="prompt", source="known.jsonl")
    settings = BoundSettings(
        budget=40, train_draws=50, test_draws=60, features=f"finetune:{encoder}"
    )
    result = run_bound(
        divide(prompt_set, settings),
        target=KnownRiskTarget({q.id: float(r) for q, r in zip(prompts, p, strict=True)}),
        judge=WordJudge(),
        settings=settings,
        folder=tmp_path,
    )
    assert result.predictor is not None
    assert result.predictor["explained"] > 0.6
    new, risks = world(40, seed=9)
    some = PromptSet(prompts=tuple(new), field="prompt", source="new.jsonl")
    limits = np.array([row.lower_bound for row in predict_bounds(tmp_path, some, target=None)])
    assert np.median(limits[risks < 0.1]) > 3 * np.median(limits[risks > 0.1])


def test_what_cannot_be_is_one_clear_line(encoder, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty has no config\.json") as caught:
        FinetunedFeatures(str(tmp_path / "empty"))
    assert "\n" not in str(caught.value)
    source = FinetunedFeatures(encoder)
    prompts, _ = world(3)
    with pytest.raises(UsageError, match="has not learnt yet"):
        source.features(prompts)
    with pytest.raises(UsageError, match="at least 2 training prompts"):
        source.learn(prompts[:1], [0], [5], folder=tmp_path / "one")
    with pytest.raises(UsageError, match="holds no fine-tuned encoders"):
        FinetunedFeatures.load(tmp_path)
    tuned(encoder, tmp_path / "kept", 20)
    shutil.rmtree(tmp_path / "kept" / "fold-1")
    with pytest.raises(LedgerError, match=r"fine-tuned encoders in .*kept are damaged"):
        FinetunedFeatures.load(tmp_path / "kept")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tailbound\[hf\]'"):
        FinetunedFeatures(encoder)
