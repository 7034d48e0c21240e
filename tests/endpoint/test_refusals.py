"""A prompt that a server turns away costs its own draws, and no others."""

from __future__ import annotations

import json

import polars
import pytest

from endpoint.stub import Faults, Stub
from tailbound.targets.endpoint.refusals import prompt_refusal

AZURE = (
    "litellm.BadRequestError: litellm.ContentPolicyViolationError: AzureException - The response "
    "was filtered due to the prompt triggering Azure OpenAI's content management policy. Please "
    "modify your prompt and retry."
)
XAI = (
    "Content violates usage guidelines. Team: t, API key ID: k, Model: grok-4, Failed check: "
    "SAFETY_CHECK_TYPE_BIO"
)
LLAMA = "the request exceeds the available context size. try increasing the context size"

#: (status, error document, kind, words): what providers and proxies are documented to say.
REFUSALS = {
    "litellm": (400, {"message": AZURE, "type": None, "code": "400"}, "filter", AZURE),
    "azure": (
        400,
        {"message": "filtered", "param": "prompt", "code": "content_filter", "status": 400},
        "filter",
        "filtered",
    ),
    "openai": (
        400,
        {
            "message": "Invalid prompt: your prompt was flagged as potentially violating our usage "
            "policy. Please try again with a different prompt.",
            "code": "invalid_prompt",
        },
        "filter",
        "Invalid prompt: your prompt was flagged",
    ),
    "dashscope": (
        400,
        {"code": "data_inspection_failed", "message": "Input data may contain inappropriate text."},
        "filter",
        "Input data may contain",
    ),
    "openrouter": (
        403,
        {
            "code": 403,
            "message": 'openai/o1 requires moderation. Your input was flagged for "harassment".',
            "metadata": {"reasons": ["harassment"], "flagged_input": "..."},
        },
        "filter",
        "openai/o1 requires moderation",
    ),
    "openrouter, status 200": (
        200,
        {"code": 403, "message": "Input was flagged", "metadata": {"flagged_input": "..."}},
        "filter",
        "Input was flagged",
    ),
    "xai": (403, XAI, "filter", "Content violates usage guidelines."),
    "deepseek": (400, {"message": "Content Exists Risk"}, "filter", "Content Exists Risk"),
    "openai, too long": (
        400,
        {
            "message": "This model's maximum context length is 8192 tokens.",
            "code": "context_length_exceeded",
        },
        "too long",
        "This model's maximum context length",
    ),
    "llama.cpp, too long": (
        400,
        {"code": 400, "message": LLAMA, "type": "exceed_context_size_error"},
        "too long",
        "the request exceeds",
    ),
    "sglang, too long": (
        400,
        {"message": "The input (9 tokens) is longer than the model's context length (8 tokens)."},
        "too long",
        "The input (9 tokens)",
    ),
    "tgi, too long": (
        422,
        {"message": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048"},
        "too long",
        "Input validation error",
    ),
    "litellm with 500": (500, {"message": AZURE}, "filter", AZURE),
}


@pytest.mark.parametrize(("status", "error", "kind", "words"), REFUSALS.values(), ids=REFUSALS)
def test_refusals_of_a_prompt_as_providers_document_them(status, error, kind, words):
    found = prompt_refusal(status, json.dumps({"error": error}).encode())
    assert found is not None
    assert found.kind == kind
    assert words in found.reason


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, {"message": "Incorrect API key provided", "code": "invalid_api_key"}),
        (403, {"message": "You do not have access to this model", "code": "permission_denied"}),
        (403, {"message": "Your account was flagged for a violation of our usage policies"}),
        (404, {"message": "The model `m` does not exist", "code": "model_not_found"}),
        (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}),
        (400, {"message": "Unsupported parameter: 'top_k'", "code": "unsupported_parameter"}),
        (503, {"message": "request too large for the queue"}),
        (200, None),
    ],
)
def test_errors_about_anything_else_are_none(status, error):
    assert prompt_refusal(status, json.dumps({"error": error}).encode()) is None
    assert prompt_refusal(200, b'{"choices": [{"message": {"content": "content policy"}}]}') is None


def run(cli, folder, stub, *more):
    path = folder / "p.jsonl"
    path.write_text("".join(f'{{"id": "q{i}", "prompt": "question {i}"}}\n' for i in range(3)))
    return cli(
        *("risk", path, "--target", "openai:m", "--base-url", stub.url, "--judge", "regex:boat"),
        *("--proposal", "none", "--draws", 20, "--out", folder / "run", "--json", *more),
    )


@pytest.mark.parametrize("name", ["litellm", "openrouter", "xai", "openai, too long"])
def test_the_run_continues_and_the_draws_have_the_server_s_words(tmp_path, cli, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    status, error, kind, words = REFUSALS[name]
    refusal = (status, json.dumps({"error": error}))
    with Stub(Faults(filtering="question 1", refusal=refusal)) as stub:
        code, out, err = run(cli, tmp_path, stub)
        asked = sum("question 1" in json.dumps(payload) for payload in stub.payloads)
    assert code == 0, err
    missing = {row["id"]: row["missing"] for row in json.loads(out)["prompts"]}
    assert missing == {"q0": 0, "q1": 20, "q2": 0}
    gone = polars.read_parquet(tmp_path / "run" / "draws").filter(polars.col("score").is_null())
    (reason,) = set(gone["reason"])
    assert words in reason
    assert set(gone["finish_reason"]) == {"content_filter" if kind == "filter" else "incomplete"}
    assert "note: 20 of 60 replies are missing: " in err
    assert "is the key in" not in err
    assert asked == 20 or kind == "too long"


def test_a_prompt_that_does_not_fit_is_not_asked_again_for_every_draw(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, error, *_ = REFUSALS["llama.cpp, too long"]
    with Stub(Faults(filtering="question 1", refusal=(status, json.dumps({"error": error})))) as s:
        code, _, err = run(cli, tmp_path, s, "--concurrency", 1)
        assert code == 0, err
        assert sum("question 1" in json.dumps(payload) for payload in s.payloads) == 1


@pytest.mark.parametrize("answered", [False, True])
def test_the_key_is_doubted_only_where_no_request_ever_succeeded(
    tmp_path, cli, monkeypatch, answered
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-some-length")
    denied = (403, '{"error": {"message": "no access"}}')
    # the probe asks for a story; the run asks questions
    refused = "question" if answered else "story"
    with Stub(Faults(filtering=refused, refusal=denied)) as stub:
        code, _, err = run(cli, tmp_path, stub)
    assert code == (1 if answered else 2)
    assert "no access" in err
    assert ("is the key in OPENAI_API_KEY right?" in err) is not answered
