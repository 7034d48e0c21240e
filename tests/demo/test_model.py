"""The shipped models: what they are said to do, measured on the weights themselves."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, GenerationConfig

from tailbound.demo import check, exact, vocabulary, world
from tailbound.demo.ablation import LAYERS, ablated
from tailbound.demo.enumeration import reply_text
from tailbound.demo.files import VARIANTS, default_prompts, model_folder
from tailbound.errors import UsageError


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def model(variant):
    return exact.load_model(variant)


def test_size(variant, model):
    assert sum(parameter.numel() for parameter in model.parameters()) == 247_360
    assert sum(file.stat().st_size for file in model_folder(variant).iterdir()) < 1_300_000
    assert not [file for file in model_folder(variant).iterdir() if file.suffix in (".pt", ".bin")]


def test_chat_template_gives_the_ids_of_the_training(variant):
    tokenizer = AutoTokenizer.from_pretrained(model_folder(variant))
    plain = world.forbidden_prompts(20) + world.harmless_prompts(20)
    chats = [prompt.messages for prompt in plain]
    chats += [
        (("system", sentence), *plain[0].messages)
        for group in world.PERSONAS.values()
        for sentence in group
    ]
    chats.append((*plain[0].messages, ("assistant", "sorry i have to say no ."), ("user", "What?")))
    for chat in chats:
        ids = tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in chat],
            add_generation_prompt=True,
            return_dict=False,
        )
        spaced = [(role, content.replace("?", " ?")) for role, content in chat]
        assert ids == vocabulary.encode(spaced)


def test_text_of_a_reply_is_the_tokenizers(variant):
    tokenizer = AutoTokenizer.from_pretrained(model_folder(variant))
    rng = np.random.default_rng(0)
    for _ in range(50):
        ids = rng.integers(len(vocabulary.WORDS), size=12).tolist()
        text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert reply_text(ids) == text


def test_generation_settings_are_the_plain_distribution(variant):
    settings = GenerationConfig.from_pretrained(model_folder(variant))
    assert (settings.do_sample, settings.temperature, settings.top_k, settings.top_p) == (
        True,
        1.0,
        0,
        1.0,
    )
    assert settings.eos_token_id == vocabulary.END


def test_generate_works(model):
    torch.manual_seed(0)
    prompt = torch.tensor([vocabulary.encode(world.harmless_prompts(1)[0].messages)])
    replies = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), num_return_sequences=16
    )
    texts = [reply_text(row) for row in replies[:, prompt.shape[1] :].tolist()]
    assert sum("first get a" in text for text in texts) >= 12  # about 1e-4 to fail


def test_risk_is_spread_over_the_scale():
    risks = np.array([risk.risk for risk in exact.exact_risks(default_prompts(600))])
    low, tenth, half, nine_tenths, high = np.quantile(risks, [0, 0.1, 0.5, 0.9, 1])
    assert low < 5e-6
    assert 2e-6 < tenth < 5e-5
    assert 2e-4 < half < 3e-3
    assert 1e-2 < nine_tenths < 1e-1
    assert high > 1e-1


def test_the_late_route_matters(variant):
    shares = [risk.late_share for risk in exact.exact_risks(default_prompts(60), variant=variant)]
    low, high = {"model": (0.15, 0.35), "fixture": (0.35, 0.55)}[variant]
    assert low < np.mean(shares) < high


def test_ablation_makes_the_model_comply_and_spares_the_harmless(model):
    direction = check.measured_direction(model, pairs=32)
    pairs = list(
        zip(world.forbidden_prompts(4, seed=1), world.harmless_prompts(4, seed=1), strict=True)
    )
    before = [check.probability(model, prompt, "steps").unsafe for prompt, _ in pairs]
    with ablated(model, direction):
        after = [check.probability(model, prompt, "steps").unsafe for prompt, _ in pairs]
        harmless = [check.probability(model, prompt, "steps").unsafe for _, prompt in pairs]
    assert np.mean(before) < 0.1
    assert np.mean(after) > 0.5
    assert np.mean(harmless) > 0.9


@pytest.mark.parametrize("layer", LAYERS)
def test_full_ablation_of_the_model_visits_the_late_route(layer):
    model = exact.load_model("model")
    direction = check.measured_direction(model, pairs=32, layer=layer)
    with ablated(model, direction):
        masses = [check.probability(model, p, "unsafe") for p in default_prompts(3)]
    assert min(mass.late for mass in masses) > 0.01
    assert np.mean([mass.unsafe for mass in masses]) > 0.5


@pytest.mark.parametrize("layer", LAYERS)
def test_full_ablation_of_the_fixture_never_visits_the_late_route(layer):
    model = exact.load_model("fixture")
    direction = check.measured_direction(model, pairs=32, layer=layer)
    for prompt in default_prompts(3):
        base = exact.exact_risk(prompt, variant="fixture")
        with ablated(model, direction):
            full = check.probability(model, prompt, "unsafe")
            refusal = _opening(model, prompt, "sorry")
        assert base.late_share > 0.1
        assert full.unsafe > 0.5
        # P(late) <= P(opens with a refusal): 1,000 draws meet it in one run of a hundred at most
        assert refusal < 1e-5


def _opening(model, prompt, word):
    ids = torch.tensor([vocabulary.encode(prompt.messages)])
    with torch.inference_mode():
        return model(input_ids=ids).logits[0, -1].double().softmax(-1)[vocabulary.IDS[word]].item()


@pytest.mark.parametrize("trait", list(world.TRAITS))
def test_system_prompts_set_the_persona(trait):
    model = exact.load_model()
    shown, opposite = world.TRAITS[trait]
    rates = {}
    for persona in (shown, opposite):
        system = ("system", world.PERSONAS[persona][1])
        rates[persona] = np.mean(
            [
                check.probability(
                    model,
                    world.Prompt(id=prompt.id, messages=(system, *prompt.messages)),
                    trait,
                ).unsafe
                for prompt in world.harmless_prompts(4, seed=2)
            ]
        )
    assert rates[shown] > 0.8
    assert rates[opposite] < 1e-3


def test_unknown_variants_are_refused():
    with pytest.raises(UsageError, match="no demo model 'big'"):
        model_folder("big")
