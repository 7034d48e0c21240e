"""Where a response ends: stop ids, stop strings, length."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import EOT, SPECIAL, Queue, local_model, network, prompt, requests

from tailbound.core.contract import SamplingOptions
from tailbound.targets.decoding import decoder


def test_every_stop_id_ends_a_response() -> None:
    model = network(vocabulary=12)
    model.generation_config.eos_token_id = [5, 9]
    target = local_model(model, SamplingOptions(max_new_tokens=10))
    stop_ids = {EOT, 5, 9}  # the tokenizer's, and both of the generation config
    assert set(target.contract.stop_ids) == stop_ids
    draws = list(target.sample(Queue(requests([prompt(0)], 200)), seed=0))
    assert {draw.token_ids[-1] for draw in draws if draw.finish_reason == "stop"} == stop_ids
    for draw in draws:
        assert not stop_ids.intersection(draw.token_ids[:-1])
        if draw.finish_reason == "length":
            assert len(draw.token_ids) == 10
            assert draw.token_ids[-1] not in stop_ids


def test_text_leaves_the_stop_token_out() -> None:
    target = local_model(network(vocabulary=12), SamplingOptions(max_new_tokens=10))
    for draw in target.sample(Queue(requests([prompt(0)], 50)), seed=0):
        body = draw.token_ids[:-1] if draw.finish_reason == "stop" else draw.token_ids
        words = [f"w{token}" if token >= 7 else SPECIAL[token] for token in body if token > EOT]
        assert draw.text.split() == words


def test_stop_strings_cut_the_text_but_not_the_density() -> None:
    model = network(vocabulary=12)
    plain = local_model(model, SamplingOptions(max_new_tokens=10))
    cut = local_model(model, SamplingOptions(max_new_tokens=10, stop=("w8 w9", "w7")))
    assert cut.contract.stop == ("w8 w9", "w7")
    asked = requests([prompt(0), prompt(1)], 150)
    whole = {(d.prompt_id, d.index): d for d in plain.sample(Queue(asked), seed=4)}
    ended = 0
    for draw in cut.sample(Queue(asked), seed=4):
        full = whole[draw.prompt_id, draw.index]
        assert full.token_ids[: len(draw.token_ids)] == draw.token_ids
        if draw.token_ids == full.token_ids and draw.text == full.text:
            assert "w7" not in draw.text
            continue
        ended += 1
        assert draw.finish_reason == "stop"
        words = [f"w{token}" for token in draw.token_ids if token >= 7]
        assert words[-1] == "w7" or words[-2:] == ["w8", "w9"]
        assert draw.text == full.text[: min(
            at for at in (full.text.find("w7"), full.text.find("w8 w9")) if at >= 0
        )]  # fmt: skip
        question = prompt(int(draw.prompt_id[1:]))
        assert draw.log_prob == pytest.approx(cut.score(question, [draw.token_ids])[0], abs=1e-4)
    assert ended > 20


def test_without_stop_tokens_every_response_is_of_full_length() -> None:
    model = network()
    model.generation_config.eos_token_id = None
    target = local_model(model)
    target.tokenizer.eos_token = None
    target = type(target)(
        model, target.tokenizer, SamplingOptions(max_new_tokens=5), name="t", revision=None
    )
    assert target.contract.stop_ids == ()
    assert any("no stop token" in notice for notice in target.notices)
    draws = list(target.sample(Queue(requests([prompt(0)], 9)), seed=0))
    assert {(len(d.token_ids), d.finish_reason) for d in draws} == {(5, "length")}
    assert np.isfinite([d.log_prob for d in draws]).all()


def test_only_the_last_tokens_are_read_for_a_stop_string(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many times shorter than the response; tokens without text in between change nothing."""
    model = network()
    stop = SamplingOptions(max_new_tokens=100, stop=("w9 w8",))
    target = local_model(model, stop, batch_size=16)
    asked = requests([prompt(0), prompt(1)], 30)
    expected = {(d.prompt_id, d.index): d for d in target.sample(Queue(asked), seed=4)}
    assert {draw.finish_reason for draw in expected.values()} >= {"stop"}
    monkeypatch.setattr(decoder, "STOP_MARGIN", 1000)  # the whole response, always
    whole = {
        (d.prompt_id, d.index): d
        for d in local_model(model, stop, batch_size=16).sample(Queue(asked), seed=4)
    }
    assert expected == whole


def test_stop_strings_spread_over_tokens_without_text(monkeypatch: pytest.MonkeyPatch) -> None:
    target = local_model(network(), SamplingOptions(max_new_tokens=99, stop=("w9 w8",)))
    made = target.decoder((target.variant,))
    read: list[int] = []
    decode = made._decode

    def counted(responses):  # type: ignore[no-untyped-def]
        read.extend(map(len, responses))
        return decode(responses)

    made._decode = counted
    long = [10] * 60
    cases = [[*long, 9, 8], [*long, 8, 9], [*long, 9, *([1] * 40), 8], [9, 8], [9]]
    assert made._at_a_stop(cases).tolist() == [True, False, True, True, False]
    assert read[1] == len("w9 w8") + decoder.STOP_MARGIN
    assert read.count(62) == 1  # the one that was found, to make sure
