"""Local models that think: tokens and weights as they are, and the reply alone for the judge."""

from __future__ import annotations

from typing import Any

import pytest
import transformers
from tiny_models import EOT, SPECIAL, TEMPLATE, Queue, network, prompt, requests
from tokenizers import Tokenizer, models, pre_tokenizers

from tailbound.core.contract import Draw, SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.core.thinking import split
from tailbound.errors import UsageError
from tailbound.targets.decoding.model import LocalModel
from tailbound.targets.decoding.proposals import ProposalModel

OPENS = TEMPLATE + "{% if add_generation_prompt %} <think>{% endif %}"  # DeepSeek-R1, Qwen3.5
MENTIONS = TEMPLATE + "{# a model that opens <think> itself, as Qwen3 does #}"


def thinker(
    template: str,
    *,
    special: bool = False,
    tags: tuple[str, str] = ("<think>", "</think>"),
    **more: Any,
) -> LocalModel:
    """A random model with few words, so that tags are frequent among them."""
    words = [*SPECIAL, *tags, "w9", "w10", "w11"]
    made = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>")
    )
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if special:
        made.add_special_tokens(list(tags))
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", bos_token="<bos>",
        eos_token="<eot>",
    )  # fmt: skip
    fast.chat_template = template
    options = SamplingOptions(**{"max_new_tokens": 10, "temperature": 4.0, **more})
    return LocalModel(
        network(vocabulary=len(words)), fast, options, name="hf:tiny", revision=None, batch_size=16
    )


def drawn(model: LocalModel, each: int = 60) -> dict[tuple[str, int], Draw]:
    asked = requests([prompt(0, 1), prompt(1, 1)], each)
    return {(d.prompt_id, d.index): d for d in model.sample(Queue(asked), seed=3)}


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("template", [OPENS, MENTIONS])
def test_only_what_is_judged_differs(template: str, special: bool) -> None:
    dropped = drawn(thinker(template, special=special))
    judged = drawn(thinker(template, special=special, thinking="judge"))
    opening = "<think>" if template is OPENS else None
    kinds = set()
    for key, whole in judged.items():
        draw = dropped[key]
        assert draw.token_ids == whole.token_ids
        assert draw.log_prob == whole.log_prob
        assert whole.missing is None
        cut = len(draw.token_ids) == 10 and draw.token_ids[-1] != EOT
        parts = split(whole.text, opening=opening)
        kinds.add((draw.finish_reason, parts.thought is None, parts.open))
        if draw.missing is None:
            assert draw.text == (whole.text if parts.thought is None else parts.reply)
            assert not parts.open
            assert draw.finish_reason == ("length" if cut else "stop")
        else:
            assert draw.finish_reason == "incomplete"
            assert parts.open or not parts.reply.strip() or "without the tag" in draw.missing
            if parts.open and cut:
                assert "no reply within 10 tokens" in draw.missing
                assert draw.text == ""
        if parts.open:
            assert draw.missing is not None  # never an empty reply
    assert ("incomplete", False, True) in kinds
    assert {finish for finish, _, _ in kinds} >= {"stop", "length", "incomplete"}


def test_special_tokens_that_mark_a_thought_are_seen() -> None:
    """Mistral's [THINK] is a special token, which no text holds otherwise."""
    tags = ("[THINK]", "[/THINK]")
    model = thinker(TEMPLATE + "{# [THINK] #}", special=True, tags=tags)
    begins = {7: "[THINK]", 8: "[/THINK]"}
    found = [d for d in drawn(model, 200).values() if d.token_ids[0] == 7]
    assert len(found) > 3
    assert model.encoder.decode([[7, 9, 8, 10, 3]])[0].split() == [
        *(begins[7] + "w9" + begins[8] + "w10").split()
    ]
    for draw in found:
        if 8 not in draw.token_ids:
            assert draw.finish_reason == "incomplete"
        elif draw.missing is None:
            after = draw.token_ids[draw.token_ids.index(8) + 1 :]
            said = [f"w{i}" for i in after if i > 8]
            text = draw.text.replace("[THINK]", " ").replace("[/THINK]", " ")
            shown = [word for word in text.split() if word.startswith("w")]
            assert shown == said[len(said) - len(shown) :]


def test_draws_of_proposals_keep_their_tokens_and_weights() -> None:
    import torch

    def made(thinking: str) -> list[tuple[Draw, list[float]]]:
        model = thinker(OPENS, thinking=thinking)
        engine = ProposalModel(model, [])
        draws = sorted(
            engine.draw(requests([prompt(0, 1)], 40), seed=1), key=lambda draw: draw.index
        )
        scores = engine.score(prompt(0, 1), [draw.token_ids for draw in draws])
        return [(d, s[0].tolist()) for d, s in zip(draws, scores, strict=True)]

    torch.manual_seed(0)
    for (draw, score), (other, same) in zip(made("drop"), made("judge"), strict=True):
        assert (draw.token_ids, score) == (other.token_ids, same)
        assert len(draw.token_ids) == len(score)


def test_the_contract_says_what_is_judged_and_a_person_is_told() -> None:
    model = thinker(MENTIONS)
    assert model.contract.thinking == "drop"
    assert model.contract.digest != thinker(MENTIONS, thinking="judge").contract.digest
    assert any("its replies alone are judged" in line for line in model.notices)
    assert not any("think" in line for line in thinker(TEMPLATE).notices)


def test_a_reply_that_the_prompt_begins_inside_a_thought() -> None:
    model = thinker(MENTIONS)
    begun = Prompt(id="a", messages=(("user", "w9"), ("assistant", "<think> w10")))
    found = model.encoder.reply(begun, "w11 </think> w9", cut=False)
    assert (found.text, found.missing) == ("w9", None)
    assert model.encoder.reply(prompt(0, 1), "w9", cut=False).text == "w9"


def test_room_for_thoughts_is_for_models_that_have_them() -> None:
    assert thinker(MENTIONS, thinking_room=20).contract.max_new_tokens == 30
    assert thinker(MENTIONS, thinking_room=2000).contract.max_new_tokens == 64  # half the context
    assert thinker(TEMPLATE, thinking_room=20).contract.max_new_tokens == 10


def test_mistakes() -> None:
    with pytest.raises(UsageError, match="--thinking must be one of drop, judge, not 'keep'"):
        SamplingOptions(thinking="keep")
    with pytest.raises(UsageError, match="--extra-body goes to a server"):
        thinker(TEMPLATE, extra_body='{"a":1}')
