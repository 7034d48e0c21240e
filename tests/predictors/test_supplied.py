from pathlib import Path

import pytest

from tailbound.errors import UsageError
from tailbound.predictors import supplied_p_hat
from tailbound.prompts import PromptSet, read_prompts


def prompts(folder: Path, *values: str) -> PromptSet:
    rows = "".join(f"prompt {i},{i},{value}\n" for i, value in enumerate(values))
    (folder / "p.csv").write_text("prompt,id,p_hat\n" + rows)
    return read_prompts(folder / "p.csv")


def test_predictions_come_by_prompt_id(tmp_path: Path) -> None:
    assert supplied_p_hat(prompts(tmp_path, "1e-12", "1")) == {"0": 1e-12, "1": 1.0}
    (tmp_path / "q.csv").write_text("prompt\na\n")
    assert supplied_p_hat(read_prompts(tmp_path / "q.csv")) == {}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", r"1 prompts of .* have no p_hat \(the first: '1'\)"),
        ("nan", "have no p_hat"),
        ("0", "'1' in .* is 0, not in .*: give the smallest probability that you would stand by"),
        ("-0.1", "is -0.1, not in"),
        ("1.5", "is 1.5, not in"),
        ("inf", "is inf, not in"),
    ],
)
def test_what_is_no_probability_is_refused(tmp_path: Path, value: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        supplied_p_hat(prompts(tmp_path, "0.5", value))
