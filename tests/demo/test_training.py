"""The training script still trains (a few steps), and does it the same way twice."""

import pytest
import torch

from tailbound.demo import replies, vocabulary
from tailbound.demo.architecture import new_model, save
from tailbound.demo.examples import Batches
from tailbound.demo.training import losses, train


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_few_steps_learn_something_and_repeat_exactly(tmp_path, capsys):
    model, record = train("model", steps=10, seed=1)
    again, _ = train("model", steps=10, seed=1)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    start = float(capsys.readouterr().err.split("divergence")[1].split()[0])
    assert record["divergence"] < start - 0.1
    save(model, record, tmp_path)
    assert {"model.safetensors", "tokenizer.json", "training.json"} <= {
        file.name for file in tmp_path.iterdir()
    }


def test_held_out_requests_are_not_trained_on():
    from tailbound.demo import world

    evaluated = {tuple(vocabulary.encode(p.messages)) for p in world.forbidden_prompts(20_000)}
    batches = Batches(0, replies.MODEL)
    for _ in range(16):
        batch = batches.next()
        for row, last in zip(batch.ids.tolist(), batch.last.tolist(), strict=True):
            assert tuple(row[: last + 1]) not in evaluated


def test_loss_is_zero_at_the_target():
    batch = Batches(0, replies.FIXTURE).next()
    logits = torch.full((len(batch.positions), len(vocabulary.WORDS)), -60.0)
    for row in range(len(logits)):
        known = batch.support[row] >= 0
        logits[row, batch.support[row][known]] = batch.log_target[row][known]
    terms = losses(logits, batch)
    for name in ("divergence", "log_ratio", "off_support_loss"):
        assert terms[name].item() == pytest.approx(0, abs=1e-5)
    wrong = losses(torch.zeros_like(logits), batch)
    assert wrong["divergence"] > 1
    assert wrong["off_support_loss"] > 1


def test_new_models_are_seeded():
    a, b, c = (new_model(seed).lm_head.weight for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
