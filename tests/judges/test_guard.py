"""Guards: the parsers on text, the judge on stubs, the model on networks with known answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
import transformers

from tailbound.core.contract import Verdict
from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.judges import Exchange, load_judge
from tailbound.judges.guard import GuardJudge
from tailbound.judges.guard_answers import Answer, Conversation
from tailbound.judges.guard_formats import (
    LLAMA_GUARD,
    WILDGUARD,
    guess_format,
    parse_llama_guard,
    parse_wildguard,
)
from tailbound.judges.guard_model import GuardModel


def exchange(response: str, *messages: tuple[str, str]) -> Exchange:
    return Exchange(Prompt(id="p", messages=messages or (("user", "how"),)), response)


@pytest.mark.parametrize(
    ("text", "unsafe"),
    [
        ("safe", False),
        ("\n\nsafe", False),
        ("Safe \n", False),
        ("unsafe\nS1", True),
        ("\n\nunsafe\nS1,S9", True),
        ("unsafe\nS1, S1", True),
        ("unsafe", True),
        ("UNSAFE\nO3", True),
        ("safe\nS1", None),
        ("safety first", None),
        ("safe, I think", None),
        ("unsafely done", None),
        ("unsafe to say whether it is", None),
        ("", None),
        ("I cannot help with that.", None),
        ("not safe", None),
    ],
)
def test_llama_guard_answers(text: str, unsafe: bool | None) -> None:
    assert parse_llama_guard(text) is unsafe


@pytest.mark.parametrize(
    ("text", "unsafe"),
    [
        ("Harmful request: no\nResponse refusal: no\nHarmful response: yes", True),
        ("Harmful request: yes\nResponse refusal: yes\nHarmful response: no\n", False),
        ("harmful response:no", False),
        ("Harmful request: yes\nResponse refusal: n/a\nHarmful response: n/a", None),
        ("Harmful request: yes\nResponse refusal: no", None),
        ("Harmful response: yes\nHarmful response: no", None),
        ("Harmful response: maybe", None),
        ("Harmful response:\nyes", None),
        ("yes", None),
        ("", None),
    ],
)
def test_wildguard_answers(text: str, unsafe: bool | None) -> None:
    assert parse_wildguard(text) is unsafe


def test_formats_are_known_by_name() -> None:
    assert guess_format("Llama-Guard-3-8B") is LLAMA_GUARD
    assert guess_format("Llama-Guard-4-12B") is LLAMA_GUARD
    assert guess_format("wildguard") is WILDGUARD
    assert guess_format("Qwen3-8B") is None


class Stub:
    """Answers by script: one list of texts for the first round, one for the second."""

    def __init__(self, *rounds: list[Answer | str]) -> None:
        self.rounds = [[a if isinstance(a, Answer) else Answer(a) for a in r] for r in rounds]
        self.calls: list[tuple[list[Conversation], bool]] = []

    def __call__(self, conversations: Sequence[Conversation], *, again: bool) -> list[Answer]:
        self.calls.append((list(conversations), again))
        return self.rounds[len(self.calls) - 1]


def judged(stub: Stub, n: int, **settings: Any) -> list[Verdict]:
    judge = GuardJudge(stub, LLAMA_GUARD, id="guard:stub", **settings)
    return judge.judge([exchange(f"r{number}") for number in range(n)])


def test_what_is_unparsable_twice_is_missing_never_safe() -> None:
    stub = Stub(["safe", "unsafe\nS2", "hm", "?", "", "well"], ["safe", "unsafe", "", "Sorry."])
    found = judged(stub, 6)
    assert [v.score for v in found] == [0, 1, 0, 1, None, None]
    assert found[4].reason == "the guard's answer '' is no llama-guard verdict (asked twice)"
    assert "'Sorry.'" in str(found[5].reason)
    assert [turn[-1][1] for turn in stub.calls[1][0]] == ["r2", "r3", "r4", "r5"]
    assert [again for _, again in stub.calls] == [False, True]


def test_a_probability_goes_before_the_word() -> None:
    found = judged(Stub([Answer("unsafe\nS1", 0.75), Answer("safe", 0.25)]), 2)
    assert [v.score for v in found] == [0.75, 0.25]
    assert judged(Stub([Answer("what", 0.01)], [Answer("what", 0.01)]), 1)[0].missing


def test_what_cannot_be_asked_is_not_asked_again() -> None:
    stub = Stub([Answer(problem="too long")])
    assert judged(stub, 1) == [Verdict(None, "too long")]
    assert len(stub.calls) == 1


def test_notices_count_second_questions() -> None:
    judge = GuardJudge(Stub(["safe", "x"], ["safe"]), LLAMA_GUARD, id="g")
    assert judge.notices == ()
    judge.judge([exchange("a"), exchange("b")])
    assert judge.notices == ("the guard was asked again about 1 of 2 responses",)


def test_the_guard_sees_the_conversation() -> None:
    stub = Stub(["safe", "safe"])
    GuardJudge(stub, LLAMA_GUARD, id="g").judge(
        [
            exchange("fine", ("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c")),
            exchange(" is how", ("user", "a"), ("assistant", "here")),
        ]
    )
    assert stub.calls[0][0] == [
        [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "fine")],
        [("user", "a"), ("assistant", "here is how")],
    ]
    hidden = Stub(["safe"])
    GuardJudge(hidden, LLAMA_GUARD, id="g", see="response").judge([exchange("fine")])
    assert hidden.calls[0][0] == [[("user", "(not shown)"), ("assistant", "fine")]]


# --- models -----------------------------------------------------------------------------------

SPECIAL = tiny_models.SPECIAL
WORDS = [*SPECIAL, "safe", "unsafe", "S1", "bad", "good", "odd", "Harmful", "response:", "yes",
         "no", "lost", "word"]  # fmt: skip
LAST_WORD = "{% for m in messages %}<user> {{ m.content }} {% endfor %}"
"""Ends with the response's last word: there the chain below begins."""


def tokenizer(template: str | None = LAST_WORD) -> Any:
    made = tiny_models.tokenizer(len(WORDS), template=template)
    made.backend_tokenizer.model = type(made.backend_tokenizer.model)(
        {word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"
    )
    return made


def chain(steps: dict[str, dict[str, float]], *, scale: float = 1.0) -> Any:
    """A Llama whose next token depends on the last one alone, with logits that are given here.

    Attention and feed-forward write nothing; the embedding is the identity, which the final norm
    multiplies by the root of the size.
    """
    size = len(WORDS)
    config = transformers.LlamaConfig(
        vocab_size=size, hidden_size=size + size % 2, num_attention_heads=2, num_hidden_layers=1,
        intermediate_size=8, max_position_embeddings=64, rms_norm_eps=1e-12,
        pad_token_id=0, bos_token_id=2, eos_token_id=3, tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.norm.weight.fill_(1)
        model.model.embed_tokens.weight[:, :size] = torch.eye(size)
        model.lm_head.weight.fill_(0)
        for before, chances in steps.items():
            for after, logit in chances.items():
                model.lm_head.weight[WORDS.index(after), WORDS.index(before)] = (
                    logit / config.hidden_size**0.5
                )
    return model.requires_grad_(False)


GUARD = {
    "bad": {"unsafe": 12.0, "safe": 11.0},
    "good": {"safe": 13.0, "unsafe": 10.0},
    "odd": {"lost": 20.0},
    "lost": {"<eot>": 20.0},
    "unsafe": {"S1": 20.0},
    "S1": {"<eot>": 20.0},
    "safe": {"<eot>": 20.0},
}


def sigmoid(x: float) -> float:
    return float(torch.tensor(x, dtype=torch.float64).sigmoid())


def llama_guard(model: Any, **settings: Any) -> GuardJudge:
    return GuardJudge(GuardModel(model, tokenizer(), LLAMA_GUARD, **settings), LLAMA_GUARD, id="g")


def test_the_score_is_the_chance_of_the_word_unsafe() -> None:
    verdicts = llama_guard(chain(GUARD), batch_size=3).judge(
        [exchange(t) for t in ("word bad", "good", "word word word bad", "odd", "good good")]
    )
    assert verdicts[3].missing
    assert "'lost' is no llama-guard verdict (asked twice)" in str(verdicts[3].reason)
    found = [verdicts[n].score for n in (0, 1, 2, 4)]
    assert found == pytest.approx([sigmoid(1), sigmoid(-3), sigmoid(1), sigmoid(-3)], abs=1e-6)


def test_wildguards_word_stands_in_the_third_line() -> None:
    model = chain(
        {
            "bad": {"Harmful": 20.0},
            "Harmful": {"response:": 20.0},
            "response:": {"yes": 12.0, "no": 11.5},
            "yes": {"<eot>": 20.0},
            "odd": {"yes": 20.0},
        }
    )
    judge = GuardJudge(GuardModel(model, tokenizer(), WILDGUARD), WILDGUARD, id="g")
    bad, odd = judge.judge([exchange("bad"), exchange("odd")])
    assert bad.score == pytest.approx(sigmoid(0.5), abs=1e-6)
    assert odd.missing


def test_a_second_answer_is_a_draw_that_repeats() -> None:
    """The greedy word is no verdict; at temperature 1 half of the second answers are one."""
    steps = {**GUARD, "odd": {"lost": 20.0, "safe": 19.99}}
    texts = [f"{'word ' * n}odd" for n in range(1, 30)]
    first = llama_guard(chain(steps)).judge([exchange(text) for text in texts])
    judged = sum(not verdict.missing for verdict in first)
    assert 5 < judged < 25
    again = llama_guard(chain(steps), batch_size=2).judge([exchange(t) for t in reversed(texts)])
    assert again[::-1] == first
    assert all(v.score is None or v.score < 1e-6 for v in first)


def test_batches_change_nothing() -> None:
    """A random network that attends: padding must not show."""
    model = tiny_models.network("llama", vocabulary=len(WORDS), seed=3)
    model.lm_head.weight[[n for n, w in enumerate(WORDS) if w not in ("safe", "unsafe")]] = 0
    model.lm_head.weight[[WORDS.index("safe"), WORDS.index("unsafe")]] *= 3
    form = LLAMA_GUARD.__class__(
        **{f: getattr(LLAMA_GUARD, f) for f in ("name", "parse", "anchor", "unsafe", "safe")},
        max_new_tokens=1,
    )
    made = tokenizer()
    texts = ["bad", "good odd word bad", "word", "odd " * 9 + "good", "bad bad", "yes no"]
    judge = GuardJudge(GuardModel(model, made, form, batch_size=4), form, id="g")
    verdicts = judge.judge([exchange(text) for text in texts])
    alone = [judge.judge([exchange(text)])[0] for text in texts]
    known = [n for n, verdict in enumerate(alone) if verdict.score is not None]
    assert len(known) >= 3
    for number in known:
        ids = made(f"<user> how <user> {texts[number]}")["input_ids"]
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1].double()
        gap = float(logits[WORDS.index("unsafe")] - logits[WORDS.index("safe")])
        # a second answer scores the same first step
        assert alone[number].score == pytest.approx(sigmoid(gap), abs=1e-5)
        assert verdicts[number].score == pytest.approx(sigmoid(gap), abs=1e-5)


def test_what_does_not_fit_is_missing() -> None:
    judge = llama_guard(chain(GUARD), context=34)
    short, long = judge.judge([exchange("bad"), exchange("word " * 20 + "good")])
    assert short.score is not None
    assert long == Verdict(None, "24 tokens are more than the guard reads (10)")
    assert judge.notices == ()


def test_templates_that_want_parts_get_parts() -> None:
    template = (
        "{% for m in messages %}{% for p in m.content %}{{ p.text }} {% endfor %}{% endfor %}"
    )
    made = GuardModel(chain(GUARD), tokenizer(), LLAMA_GUARD, template=template)
    found = GuardJudge(made, LLAMA_GUARD, id="g").judge([exchange("bad")])[0]
    assert found.score == pytest.approx(sigmoid(1), abs=1e-6)


@pytest.mark.parametrize(
    "template",
    ["{{ messages[0].content }}", "{{ messages | length }}", "{{ raise_exception('no') }}"],
)
def test_a_template_that_hides_the_response_is_refused(template: str) -> None:
    with pytest.raises(UsageError, match="does not show a request and its response"):
        GuardModel(chain(GUARD), tokenizer(), LLAMA_GUARD, template=template)


def test_no_response_ends_its_own_turn() -> None:
    """A control token that the response spells out would decide; broken up it is a plain word."""
    steps = {**GUARD, "<bos>": {"safe": 20.0}, "<unk>": {"unsafe": 20.0}}
    found = llama_guard(chain(steps)).judge([exchange("bad <bos>"), exchange("bad")])
    assert [verdict.score for verdict in found] == pytest.approx([1, sigmoid(1)], abs=1e-6)


def test_a_conversation_that_the_template_refuses_is_missing_and_harms_no_other() -> None:
    template = (
        "{% for m in messages %}{% if loop.index0 % 2 != (m.role == 'assistant') %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }} {% endfor %}"
        "{% if messages[0].content == '' %}{{ raise_exception('nothing asked') }}{% endif %}"
    )
    judge = llama_guard(chain(GUARD), template=template)
    empty = judge.judge([exchange("bad", ("user", ""))])
    assert empty == [Verdict(None, "the guard's chat template fails: nothing asked")]
    found = judge.judge([exchange("bad"), exchange("bad", ("user", "a"), ("user", "b"))])
    assert found[0].score == pytest.approx(sigmoid(1), abs=1e-6)
    assert found[1] == Verdict(None, "the guard's chat template fails: roles must alternate")


def test_a_template_of_two_turns_judges_no_longer_conversation() -> None:
    """It would show the guard an earlier answer instead of the response."""
    template = "{{ messages[0].content }} {{ messages[1].content }}"
    judge = llama_guard(chain(GUARD), template=template)
    longer = exchange("bad", ("user", "a"), ("assistant", "good"), ("user", "b"))
    found = judge.judge([longer, exchange("bad")])
    assert found[0] == Verdict(
        None, "the guard's chat template fails: it shows only some of 4 turns"
    )
    assert found[1].score == pytest.approx(sigmoid(1), abs=1e-6)


def test_a_tokenizer_without_an_end_is_refused() -> None:
    made = tokenizer()
    made.pad_token = made.eos_token = None
    with pytest.raises(UsageError, match="neither a padding nor an end token"):
        GuardModel(chain(GUARD), made, LLAMA_GUARD)


def test_from_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "tiny-llama-guard"
    chain(GUARD).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    judge = load_judge(f"guard:{folder}?batch_size=2", threshold=0.8)
    assert judge.id.startswith("guard:tiny-llama-guard@sha256:")
    assert "?format=llama-guard&see=prompt+response&template=" in judge.id
    assert judge.threshold == 0.8
    found = judge.judge([exchange("bad"), exchange("good")])
    assert [v.score for v in found] == pytest.approx([sigmoid(1), sigmoid(-3)], abs=1e-6)
    assert load_judge(f"guard:{folder}?see=response").id != judge.id
    own = tmp_path / "own.jinja"
    own.write_text(LAST_WORD + " ")
    assert load_judge(f"guard:{folder}?template={own}").id != judge.id


def test_mistakes_are_explained(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    chain(GUARD).save_pretrained(folder)
    tokenizer(None).save_pretrained(folder)
    for options, message in (
        ("", "how does .*tiny answer. Add .format=... out of llama-guard, wildguard"),
        ("?format=other", "format is one of auto, llama-guard, wildguard, not 'other'"),
        ("?format=wildguard", "has no chat template: save the input format of its model card"),
        ("?format=wildguard&template=absent", "the template absent cannot be read: No such file"),
        ("?format=wildguard&top_k=3", "unknown option 'top_k'"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            load_judge(f"guard:{folder}{options}")
        assert "\n" not in str(caught.value)


def test_a_multimodal_guard_is_loaded_as_what_it_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Llama Guard 4's architecture, random: its answers are no verdicts, and so are missing."""
    config = transformers.Llama4Config(
        text_config={
            "vocab_size": len(WORDS), "hidden_size": 32, "intermediate_size": 16, "head_dim": 16,
            "intermediate_size_mlp": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 2, "num_local_experts": 1, "num_experts_per_tok": 1,
            "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
            "attention_chunk_size": 64, "moe_layers": [],
        },
        vision_config={
            "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 16, "vision_output_dim": 16, "image_size": 28, "patch_size": 14,
            "projector_input_dim": 16, "projector_output_dim": 16,
        },
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.Llama4ForConditionalGeneration(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and "language" in name:
            parameter.data.normal_(0, 0.3)
    folder = tmp_path / "Llama-Guard-4-tiny"
    model.save_pretrained(folder)
    tokenizer("{% for m in messages %}{% for p in m.content %}{{ p.text }} {% endfor %}{% endfor %}"
              ).save_pretrained(folder)  # fmt: skip
    capfd.readouterr()
    judge = load_judge(f"guard:{folder}")
    found = judge.judge([exchange("bad word"), exchange("good")])
    assert all("is no llama-guard verdict (asked twice)" in str(v.reason) for v in found)
    assert capfd.readouterr().err == ""
    inside = judge._guard._model
    assert type(inside).__name__ == "Llama4ForCausalLM"
    for name, weight in model.language_model.state_dict().items():
        assert torch.equal(inside.state_dict()[name], weight), name
