"""Proposals that are other models: a LoRA adapter, another checkpoint; and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from tiny_models import local_model, network, prompt, tokenizer

from tailbound.core.contract import SamplingOptions
from tailbound.errors import ContractMismatchError, MissingExtraError, UsageError
from tailbound.judges.registry import load_judge
from tailbound.runs import read
from tailbound.targets.decoding.model import LocalModel
from tailbound.testing import KnownRiskTarget
from tailbound.workflows.risk import RiskSettings, make_proposal, run_risk

# peft asks transformers by names that are to go
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning:peft", "ignore:.*is_gradient_check.*"
)

JUDGE = load_judge(r"regex:\bw(1|2)\d\b.*\bw3\d\b")
PROMPTS = [prompt(number) for number in range(3)]


@pytest.fixture
def target() -> LocalModel:
    return local_model(network("llama"), SamplingOptions(max_new_tokens=5))


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    torch.manual_seed(7)
    config = peft.LoraConfig(
        r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    peft.get_peft_model(network("llama"), config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_is_a_proposal(target, adapter, tmp_path):
    made = make_proposal([f"lora:{adapter}"], target, JUDGE, PROMPTS, folder=tmp_path / "run")
    assert not made.steerable
    (variant,) = made.variants([1.0, 0.5]).values()  # it has no other intensity
    ids = torch.tensor([[2, 9, 8, 11]])
    with torch.inference_mode():
        expected = peft.PeftModel.from_pretrained(network("llama"), adapter)(input_ids=ids).logits
        merged = variant.network.model(input_ids=ids).logits
        plain = target.model(input_ids=ids).logits
    torch.testing.assert_close(merged, expected, atol=1e-4, rtol=1e-4)
    assert (merged - plain).abs().max() > 0.1
    result = run_risk(
        PROMPTS,
        proposal=made,
        judge=JUDGE,
        settings=RiskSettings(draws=400),
        folder=tmp_path / "run",
    )
    for risk in result.risks:
        assert abs(risk.estimate.mean_weight_z) < 5
        assert risk.estimate.hits > 0
    names = result.family["proposals"]
    assert names[0] == "target"
    kinds = {name.partition(" ")[0] for name in names[1:]}
    assert kinds == {"lora:adapter", "heated", "learned", "opening", "pooled"}


def test_another_checkpoint_is_a_proposal(target, tmp_path):
    other = network("llama", seed=3)
    other.save_pretrained(tmp_path / "other")
    tokenizer(40).save_pretrained(tmp_path / "other")
    made = make_proposal([f"model:{tmp_path / 'other'}"], target, JUDGE, PROMPTS, folder=tmp_path)
    assert made.id.startswith("hf:other@")
    result = run_risk(
        PROMPTS, proposal=made, judge=JUDGE, settings=RiskSettings(draws=300), folder=tmp_path
    )
    assert all(abs(risk.estimate.mean_weight_z) < 5 for risk in result.risks)
    assert np.isfinite(result.whole.mean)


def test_an_adapter_of_another_model_is_refused(adapter, tmp_path):
    wider = local_model(network("llama", hidden_size=48), SamplingOptions(max_new_tokens=5))
    with pytest.raises(UsageError, match="does not fit the target"):
        make_proposal([f"lora:{adapter}"], wider, JUDGE, PROMPTS, folder=tmp_path)


def test_without_peft_there_is_one_clear_line(target, adapter, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match="lora"):
        make_proposal([f"lora:{adapter}"], target, JUDGE, PROMPTS, folder=tmp_path)


def test_another_tokenizer_is_refused(target, tmp_path):
    network("llama", vocabulary=41).save_pretrained(tmp_path / "other")
    tokenizer(41).save_pretrained(tmp_path / "other")
    made = make_proposal([f"model:{tmp_path / 'other'}"], target, JUDGE, PROMPTS, folder=tmp_path)
    with pytest.raises(UsageError, match="vocabulary of 41"):
        run_risk(
            PROMPTS, proposal=made, judge=JUDGE, settings=RiskSettings(draws=10), folder=tmp_path
        )


def test_a_target_without_weights_can_only_be_sampled(tmp_path):
    plain = KnownRiskTarget({p.id: 0.3 for p in PROMPTS})
    with pytest.raises(UsageError, match="use --proposal none"):
        make_proposal(["refusal"], plain, JUDGE, PROMPTS, folder=tmp_path)
    made = make_proposal(["none"], plain, JUDGE, PROMPTS, folder=tmp_path)
    judge = load_judge(r"regex:unsafe")
    result = run_risk(
        PROMPTS, proposal=made, judge=judge, settings=RiskSettings(draws=400), folder=tmp_path
    )
    for risk in result.risks:
        # 400 draws: 5 standard errors
        assert abs(risk.estimate.risk - 0.3) < 0.115
        assert risk.estimate.certified_lower < 0.3 < risk.estimate.certified_upper


def test_the_proposal_on_record_holds(target, tmp_path):
    make_proposal(["none"], target, JUDGE, PROMPTS, folder=tmp_path)
    (tmp_path / "system.txt").write_text("w9 w8")
    with pytest.raises(ContractMismatchError, match="holds a run with --proposal none"):
        make_proposal(
            [f"prompt:{tmp_path / 'system.txt'}"], target, JUDGE, PROMPTS, folder=tmp_path
        )


def test_explorers_of_the_run_on_record_hold(target, adapter, tmp_path):
    """A refused attempt with them leaves the record as it is, so that the run can be resumed."""
    spec, folder = [f"lora:{adapter}"], tmp_path / "run"
    for first, second in ((False, True), (True, False)):
        place = folder / str(first)
        make_proposal(spec, target, JUDGE, PROMPTS, folder=place, explore=first)
        held = (place / "proposal.json").read_bytes()
        words = "adapter --no-explore, not lora" if second else "not lora:.*adapter --no-explore"
        with pytest.raises(ContractMismatchError, match=words):
            make_proposal(spec, target, JUDGE, PROMPTS, folder=place, explore=second)
        assert (place / "proposal.json").read_bytes() == held
        make_proposal(spec, target, JUDGE, PROMPTS, folder=place, explore=first)


def test_a_changed_system_prompt_is_another_proposal(target, tmp_path):
    file = tmp_path / "system.txt"
    file.write_text("w9 w8")
    make_proposal([f"prompt:{file}"], target, JUDGE, PROMPTS, folder=tmp_path / "run")
    file.write_text("w9 w10")
    with pytest.raises(ContractMismatchError, match="holds draws of proposal"):
        make_proposal([f"prompt:{file}"], target, JUDGE, PROMPTS, folder=tmp_path / "run")


def test_several_proposals_share_one_mixture(target, adapter, tmp_path):
    """An adapter and a system prompt beside the explorers; a resume reads both back."""
    file = tmp_path / "system.txt"
    file.write_text("w9 w8")
    specs, folder = [f"lora:{adapter}", f"prompt:{file}"], tmp_path / "run"
    results = []
    for draws in (200, 400):
        made = make_proposal(specs, target, JUDGE, PROMPTS, folder=folder)
        settings = RiskSettings(draws=draws)
        results.append(
            run_risk(PROMPTS, proposal=made, judge=JUDGE, settings=settings, folder=folder)
        )
    names = results[1].family["proposals"]
    spoken = {name.partition(" ")[0] for name in names}
    assert spoken == {
        "target", "lora:adapter", "prompt:system.txt", "heated", "learned", "opening", "pooled",
    }  # fmt: skip
    assert [part["spec"] for part in results[1].proposal["parts"]] == specs
    drawn = set(read(folder, stream="risk")["proposal"].drop_nulls().to_list())
    assert any("prompt:system.txt on" in name for name in drawn)
    assert any("lora:adapter on" in name for name in drawn)
    for risk in results[1].risks:
        assert risk.estimate.draws == 400
        assert abs(risk.estimate.mean_weight_z) < 5
    with pytest.raises(ContractMismatchError, match="holds a run with --proposal lora"):
        make_proposal(specs[:1], target, JUDGE, PROMPTS, folder=folder)


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        ([], "is empty"),
        (["none", "heat"], "none stands alone"),
        (["refusal", "refusal"], "given twice"),
    ],
)
def test_proposals_that_do_not_go_together(target, tmp_path, specs, words):
    with pytest.raises(UsageError, match=words):
        make_proposal(specs, target, JUDGE, PROMPTS, folder=tmp_path)


def test_without_explorers_coverage_is_not_checked(target, adapter, tmp_path):
    made = make_proposal(
        [f"lora:{adapter}"], target, JUDGE, PROMPTS, folder=tmp_path / "run", explore=False
    )
    result = run_risk(
        PROMPTS,
        proposal=made,
        judge=JUDGE,
        settings=RiskSettings(draws=400),
        folder=tmp_path / "run",
    )
    assert {risk.estimate.coverage for risk in result.risks} <= {"not checked", "disagrees"}
    assert not any(risk.estimate.resolved for risk in result.risks)
    assert not any("heated" in name for name in result.family["proposals"])


def test_explorers_alone_need_no_unsafe_version(target, tmp_path):
    made = make_proposal(["heat"], target, JUDGE, PROMPTS, folder=tmp_path / "run")
    assert (made.spec, made.id, made.parts) == (("heat",), "heat", ())
    result = run_risk(
        PROMPTS,
        proposal=made,
        judge=JUDGE,
        settings=RiskSettings(draws=400),
        folder=tmp_path / "run",
    )
    assert all(abs(risk.estimate.mean_weight_z) < 5 for risk in result.risks)
    assert any(risk.estimate.coverage == "checked" for risk in result.risks)
