"""The classifier judge on a tiny BERT, against plain forward passes of single texts."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from tailbound.core.contract import Verdict
from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.judges import Exchange, Judge, load_judge
from tiny_classifiers import MANY, ONE, WORDS, save


@pytest.fixture(scope="module")
def multi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "multi", **MANY)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "single", **ONE)


def exchange(response: str, prompt: str = "w1 w2") -> Exchange:
    return Exchange(Prompt(id="p", messages=(("user", prompt),)), response)


def logits(folder: Path, ids: list[int], types: list[int] | None = None) -> torch.Tensor:
    """One text alone: no padding, no batch."""
    model = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(
            input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([types or [0] * len(ids)])
        ).logits[0]


def ids(text: str) -> list[int]:
    return [WORDS.index(word) for word in text.split()]


TEXTS = ["w5", "w3 w4 w9 w11 w30", "w39 w38", "", "w8 w8 w8 w8 w8 w8 w8 w9 w10", "w17"]


def scores(judge: Judge, texts: list[str]) -> list[float]:
    found = [verdict.score for verdict in judge.judge([exchange(text) for text in texts])]
    assert None not in found
    return found  # type: ignore[return-value]


def test_multi_label_models_are_read_by_sigmoids(multi: Path) -> None:
    judge = load_judge(f"classifier:{multi}?label=threat&batch_size=4")
    expected = [float(logits(multi, [2, *ids(text), 3]).sigmoid()[1]) for text in TEXTS]
    assert scores(judge, TEXTS) == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 0.2  # else order and padding would not show


def test_other_models_are_read_by_one_softmax(single: Path) -> None:
    judge = load_judge(f"classifier:{single}?label=bad,awful")
    expected = [float(logits(single, [2, *ids(text), 3]).softmax(0)[1:].sum()) for text in TEXTS]
    assert scores(judge, TEXTS) == pytest.approx(expected, abs=1e-5)
    forced = load_judge(f"classifier:{single}?label=bad,awful&function=sigmoid")
    largest = [float(logits(single, [2, *ids(text), 3]).sigmoid()[1:].max()) for text in TEXTS]
    assert scores(forced, TEXTS) == pytest.approx(largest, abs=1e-5)


def test_a_pair_shows_the_request_too(multi: Path) -> None:
    judge = load_judge(f"classifier:{multi}?label=toxic&see=prompt+response")
    found = judge.judge([exchange("w5", "w1 w2"), exchange("w5", "w30")])
    expected = [
        float(logits(multi, [2, *ids(q), 3, *ids("w5"), 3], types).sigmoid()[0])
        for q, types in (("w1 w2", [0, 0, 0, 0, 1, 1]), ("w30", [0, 0, 0, 1, 1]))
    ]
    assert [v.score for v in found] == pytest.approx(expected, abs=1e-5)
    assert abs(expected[0] - expected[1]) > 1e-3


def test_the_prompt_is_not_seen_by_default(multi: Path) -> None:
    judge = load_judge(f"classifier:{multi}?label=toxic")
    one, other = judge.judge([exchange("w5", "w1 w2"), exchange("w5", "w30 w31")])
    assert one.score == pytest.approx(other.score, abs=1e-6)


def test_truncation_is_counted_and_told(multi: Path, caplog: pytest.LogCaptureFixture) -> None:
    judge: Any = load_judge(f"classifier:{multi}?label=toxic&max_length=6")
    head = "w5 w6 w7 w8"
    with caplog.at_level(logging.WARNING):
        exactly, longer, longest = scores(judge, [head, f"{head} w20 w21", f"{head} w30"])
    assert exactly == pytest.approx(longer, abs=1e-6) == pytest.approx(longest, abs=1e-6)
    assert judge.notices == ("classifier:multi read only the first 6 tokens of 2 of 3 texts",)
    assert [r.getMessage().split(":")[0] for r in caplog.records if "tailbound" in r.name] == [
        "note"
    ]
    assert load_judge(f"classifier:{multi}?label=toxic").notices == ()  # type: ignore[attr-defined]


def test_the_tokenizers_own_limit_holds_by_default(multi: Path) -> None:
    judge: Any = load_judge(f"classifier:{multi}?label=toxic")
    assert "max_length=24" in judge.id
    scores(judge, [" ".join(["w5"] * 30)])
    assert "24 tokens of 1 of 1" in judge.notices[0]


def test_the_id_holds_what_the_score_depends_on(multi: Path, tmp_path: Path) -> None:
    spec = f"classifier:{multi}?label=toxic"
    judge = load_judge(spec)
    assert judge.id.startswith("classifier:multi@sha256:")
    assert judge.id.endswith("?label=toxic&function=sigmoid&max_length=24&see=response"
                             "&dtype=float32")  # fmt: skip
    same = [load_judge(f"{spec}&{more}") for more in ("threshold=0.9", "batch_size=2")]
    assert {other.id for other in same} == {judge.id}
    assert same[0].threshold == 0.9
    assert load_judge(f"{spec}&threshold=0.9", threshold=0.7).threshold == 0.7
    changed = ["max_length=8", "see=prompt+response", "function=softmax", "dtype=float64"]
    others = {load_judge(f"{spec}&{more}").id for more in changed}
    others.add(load_judge(f"classifier:{multi}?label=insult").id)
    others.add(load_judge(f"classifier:{save(tmp_path / 'multi', seed=1, **MANY)}?label=toxic").id)
    assert len(others - {judge.id}) == 6


def test_logits_that_are_no_numbers_are_missing(tmp_path: Path) -> None:
    folder = save(tmp_path / "broken", **MANY)
    model = transformers.BertForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[WORDS.index("w7")] = float("nan")
    model.save_pretrained(folder)
    found = load_judge(f"classifier:{folder}?label=toxic").judge([exchange("w7"), exchange("w8")])
    assert [verdict.missing for verdict in found] == [True, False]
    assert found[0].reason == "judge failed: the score is NaN"


def test_a_label_that_means_unsafe_need_not_be_named(multi: Path) -> None:
    assert "label=toxic&" in load_judge(f"classifier:{multi}").id


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "which label of single is unsafe. Add .label=... out of fine, bad, awful"),
        ("?label=worse", "single has no label 'worse': it has fine, bad, awful"),
        ("?label=bad&max_length=400", "single reads at most 24 tokens: lower max_length=400"),
        ("?label=bad&max_length=many", "max_length is a whole number from 4 on, not 'many'"),
        ("?label=bad&see=all", r"see is one of response, prompt\+response, not 'all'"),
        ("?label=bad&threshold=2", r"threshold must lie in \(0, 1\], not 2"),
        ("?label=bad&threshold=x", "threshold is a number, not 'x'"),
        ("?label=bad&lable=bad", "unknown option 'lable': known are batch_size, "),
        ("?label=bad&label=fine", "option 'label' is given twice"),
        ("?label", "'label' is not a valid option: write classifier:NAME.key=value"),
        ("?label=bad&device=abacus", "unknown device 'abacus'"),
        ("?label=bad&device=meta", "device 'meta' computes nothing"),
        ("?label=bad&revision=main", "is a local folder, which has no revisions"),
    ],
)
def test_mistakes_are_explained(single: Path, options: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_judge(f"classifier:{single}{options}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "classifier: needs a model"),
        ("./no/such", "no such folder: ./no/such"),
        (".", "has no config.json"),
    ],
)
def test_models_that_are_not_there(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_judge(f"classifier:{name}")


def test_offline_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UsageError, match=r"cannot load classifier:org/absent: .*check the name"
    ) as caught:
        load_judge("classifier:org/absent?label=x")
    assert "\n" not in str(caught.value)


def test_a_regression_is_no_probability(tmp_path: Path) -> None:
    folder = save(tmp_path / "reg", num_labels=1, problem_type="regression")
    with pytest.raises(UsageError, match="is a regression"):
        load_judge(f"classifier:{folder}")
    assert scores(load_judge(f"classifier:{folder}?function=sigmoid"), ["w5"])[0] < 1


# --- checkpoints that are not what they seem --------------------------------------------------


def decoder(folder: Path, kind: str, **changes: Any) -> Any:
    """A random decoder with a classification head, saved with its tokenizer, and the latter."""
    family, extra = tiny_models.ARCHITECTURES[kind]
    sizes = (
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128} if family == "GPT2" else {}
    )
    settings = {
        "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 128, "pad_token_id": 0,
        "bos_token_id": 2, "eos_token_id": 3, **extra, **sizes, **changes,
        "id2label": {0: "safe", 1: "unsafe"}, "label2id": {"safe": 0, "unsafe": 1},
    }  # fmt: skip
    config = getattr(transformers, f"{family}Config")(**settings)
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(0.5 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return tiny_models.tokenizer(40)


def last_logits(folder: Path, text: str) -> torch.Tensor:
    """The head's logits at the last token, by the network alone, without padding."""
    model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    numbers = [int(word[1:]) for word in text.split()]
    with torch.no_grad():
        return model.score(model.base_model(torch.tensor([numbers])).last_hidden_state[0, -1])


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pad", [0, 9, None])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_padding_never_shows_in_a_decoders_score(
    tmp_path: Path, kind: str, pad: int | None, side: str
) -> None:
    """The config may name another padding id than the tokenizer's, one that texts end with."""
    made = decoder(tmp_path / "m", kind, pad_token_id=pad)
    made.save_pretrained(tmp_path / "m")
    file = tmp_path / "m" / "tokenizer_config.json"
    sides = {"padding_side": side, "truncation_side": side}
    file.write_text(json.dumps({**json.loads(file.read_text()), **sides}))
    judge = load_judge(f"classifier:{tmp_path / 'm'}?max_length=6&function=softmax")
    texts = ["w8 w11 w12 w13 w14 w15", "w30", "w12 w9 w9", "w8 w9", "w8 w11 w12 w13 w14 w15 w16"]
    expected = [
        float(last_logits(tmp_path / "m", " ".join(text.split()[:6])).softmax(0)[1])
        for text in texts
    ]
    assert scores(judge, texts) == pytest.approx(expected, abs=1e-5)


def test_models_that_read_the_last_place_are_padded_before_the_text(tmp_path: Path) -> None:
    config = transformers.XLNetConfig(
        vocab_size=40, d_model=16, n_layer=2, n_head=2, d_inner=32, pad_token_id=0,
        id2label={0: "safe", 1: "unsafe"}, label2id={"safe": 0, "unsafe": 1},
    )  # fmt: skip
    torch.manual_seed(0)
    model: Any = transformers.XLNetForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path / "m")
    made = tiny_models.tokenizer(40)
    made.save_pretrained(tmp_path / "m")
    texts = ["w8 w9 w10 w11 w12", "w30", "w12 w9"]
    with torch.no_grad():
        expected = [
            float(model(torch.tensor([made(text)["input_ids"]])).logits[0].softmax(0)[1])
            for text in texts
        ]
    judge = load_judge(f"classifier:{tmp_path / 'm'}")
    assert scores(judge, texts) == pytest.approx(expected, abs=1e-5)


def test_a_model_whose_batches_show_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mean over all places, padding among them."""
    save(tmp_path / "m", **MANY)
    forward = transformers.BertForSequenceClassification.forward

    def careless(self: Any, **inputs: Any) -> Any:
        return forward(self, **{**inputs, "attention_mask": None})

    monkeypatch.setattr(transformers.BertForSequenceClassification, "forward", careless)
    with pytest.raises(UsageError, match=r"when it shares a batch .* add .batch_size=1"):
        load_judge(f"classifier:{tmp_path / 'm'}?label=toxic")
    assert load_judge(f"classifier:{tmp_path / 'm'}?label=toxic&batch_size=1")


def test_a_text_without_tokens_is_missing_in_every_batch(tmp_path: Path) -> None:
    decoder(tmp_path / "m", "llama").save_pretrained(tmp_path / "m")
    judge = load_judge(f"classifier:{tmp_path / 'm'}")
    for texts in ([""], ["", " "], ["w8 w9", ""]):
        found = judge.judge([exchange(text) for text in texts])
        assert found[-1] == Verdict(None, "the text has no tokens")
        assert (len(texts) == 1) or found[0].missing == (texts[0] == "")


def test_without_a_token_to_pad_with_texts_are_judged_alone(tmp_path: Path) -> None:
    made = decoder(tmp_path / "m", "llama", pad_token_id=None)
    made.pad_token = made.eos_token = None
    made.save_pretrained(tmp_path / "m")
    with pytest.raises(UsageError, match=r"cannot share a batch: add .batch_size=1"):
        load_judge(f"classifier:{tmp_path / 'm'}")
    texts = ["w8 w9 w10", "w30"]
    expected = [float(last_logits(tmp_path / "m", text).softmax(0)[1]) for text in texts]
    judge = load_judge(f"classifier:{tmp_path / 'm'}?batch_size=1")
    assert scores(judge, texts) == pytest.approx(expected, abs=1e-5)


def test_control_tokens_that_a_text_spells_out_are_text(tmp_path: Path) -> None:
    """Else a response could end its own sequence, or hide behind padding."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={c: n + 2 for n, c in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    decoder(tmp_path / "m", "llama", vocab_size=300, pad_token_id=256)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>"
    ).save_pretrained(tmp_path / "m")
    model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "m")
    text = "a</s>b<pad>"
    plain = torch.tensor([[letters.index(letter) + 2 for letter in text]])
    with torch.no_grad():
        state = model.base_model(plain).last_hidden_state[0, -1]
        expected = float(model.score(state).softmax(0)[1])
    judge = load_judge(f"classifier:{tmp_path / 'm'}")
    assert scores(judge, [text, "longer than that text"])[0] == pytest.approx(expected, abs=1e-5)


def test_weights_that_would_be_random_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "m", **MANY)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    for name in ("headless", "mismatched", "cut"):
        tokenizer.save_pretrained(tmp_path / name)
        part: Any = (
            transformers.BertModel if name == "headless"
            else transformers.BertForSequenceClassification
        )  # fmt: skip
        part.from_pretrained(tmp_path / "m").save_pretrained(tmp_path / name)
    config = tmp_path / "mismatched" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "hidden_size": 32}))
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    capfd.readouterr()
    for name, message in (
        (
            "headless",
            r"no weights for classifier\.bias and 1 more of BertForSequenceClassification",
        ),
        ("mismatched", r"no weights for bert\.embeddings.* which would be random"),
        ("cut", "cannot load classifier:.*cut: SafetensorError"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            load_judge(f"classifier:{tmp_path / name}?label=toxic")
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_folder_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    """transformers makes up an empty tokenizer there, which reads every word as unknown."""
    folder = save(tmp_path / "m", **MANY)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UsageError, match="has no tokenizer"):
        load_judge(f"classifier:{folder}?label=toxic")


def test_labels_with_commas_and_labels_that_are_not_there(tmp_path: Path) -> None:
    names = {0: "hate", 1: "hate, threats", 2: "threats"}
    folder = save(tmp_path / "m", id2label=names, label2id={v: k for k, v in names.items()})
    one = load_judge(f"classifier:{folder}?label=hate, threats")
    expected = [float(logits(folder, [2, *ids(text), 3]).softmax(0)[1]) for text in TEXTS]
    assert scores(one, TEXTS) == pytest.approx(expected, abs=1e-5)
    config = folder / "config.json"
    gap = {"id2label": {"1": "a", "2": "b", "3": "toxic"}}
    config.write_text(json.dumps({**json.loads(config.read_text()), **gap}))
    with pytest.raises(UsageError, match="has no label 0: number the labels from 0 on"):
        load_judge(f"classifier:{folder}?label=toxic")
