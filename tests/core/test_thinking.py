"""What of a response is thought, and what is the reply."""

from __future__ import annotations

import pytest

from tailbound.core.thinking import TAGS, opening, read_reply


@pytest.mark.parametrize(("tag", "close"), TAGS)
def test_a_thought_is_dropped_and_what_a_user_sees_is_kept(tag: str, close: str) -> None:
    for text in (f"{tag}\nplan it{close}\n\nSure: do", f" {tag}{close}{tag}plan{close}Sure: do"):
        found = read_reply(text, thinking="drop", cut=False, limit=9)
        assert (found.text, found.missing) == ("Sure: do", None)
        assert read_reply(text, thinking="judge", cut=False, limit=9).text == text
    begun = read_reply(f"plan it{close}\nSure", thinking="drop", cut=True, limit=9, opening=tag)
    assert (begun.text, begun.missing) == ("Sure", None)


@pytest.mark.parametrize(("tag", "close"), TAGS)
def test_a_cut_thought_is_missing_and_never_an_empty_reply(tag: str, close: str) -> None:
    for text in (f"{tag}plan", f"{tag}plan{close}", f"{tag}plan{close}\n", tag, tag[:-1]):
        found = read_reply(text, thinking="drop", cut=True, limit=1234)
        assert found.text == ""
        assert found.missing is not None
        assert "1,234 tokens" in found.missing
    inside = read_reply("plan", thinking="drop", cut=True, limit=9, opening=tag)
    assert inside.missing is not None
    ended = read_reply(f"{tag}plan", thinking="drop", cut=False, limit=9)
    assert ended.missing == "no reply: the response ended within the model's thought"


@pytest.mark.parametrize("text", ["Hello", "", " \n", "use <think> tags", "a <b> </c>", "<"])
def test_what_is_no_thought_is_left_as_it_is(text: str) -> None:
    for thinking in ("drop", "judge"):
        assert read_reply(text, thinking=thinking, cut=False, limit=9).text == text
        assert read_reply(text, thinking=thinking, cut=False, limit=9).missing is None


def test_tags_inside_a_reply_hide_nothing_of_it() -> None:
    text = "<think>a</think>Take <think>poison</think> daily"
    assert read_reply(text, thinking="drop", cut=False, limit=9).text == (
        "Take <think>poison</think> daily"
    )


def test_a_closing_tag_alone_is_no_licence_to_hide_what_is_before_it() -> None:
    found = read_reply("how to do harm</think>Sorry", thinking="drop", cut=False, limit=9)
    assert found.missing is not None
    assert "'</think>'" in found.missing
    assert read_reply("harm</think>No", thinking="judge", cut=False, limit=9).missing is None


def test_thoughts_in_a_field_of_their_own() -> None:
    def read(text: str, **more: object) -> tuple[str, bool]:
        given = {"thinking": "drop", "cut": False, "limit": 9, "thought": "plan", **more}
        found = read_reply(text, **given)  # type: ignore[arg-type]
        return found.text, found.missing is not None

    assert read("Sure") == ("Sure", False)
    assert read("") == ("", True)
    assert read("\n", cut=True) == ("", True)
    assert read("Sure", thinking="judge") == ("<think>\nplan\n</think>\n\nSure", False)
    assert read("", thinking="judge", cut=True) == ("<think>\nplan", False)
    assert read("", thought="", hidden=True, cut=True) == ("", True)
    assert read("", thought="", hidden=True, cut=True, thinking="judge") == ("", True)
    assert read("Sure", thought="", hidden=True) == ("Sure", False)


def test_prompts_that_end_inside_a_thought() -> None:
    assert opening("<|Assistant|><think>\n") == "<think>"
    assert opening("<|im_start|>assistant\n") is None
    assert opening("<think>\n\n</think>\n\n") is None
    assert opening("...", prefill="<think>I should") == "<think>"
    assert opening("...", prefill="<think>yes</think> Sure") is None
    assert opening("what does <think> mean?") is None
