"""Does a chat server continue the assistant's last message? Those that do not ignore it in silence.

Two lists that anybody can continue are begun in the assistant's name. A server that continues them
goes on with the next item; one that does not starts again, or says something else. Some continue by
default, others (vLLM, SGLang) when two parameters ask for it.
"""

from __future__ import annotations

import re
from typing import Any

from tailbound.core.contract import SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.errors import TargetError
from tailbound.targets.endpoint.client import Client
from tailbound.targets.endpoint.protocol import Dialect, RequestBuilder
from tailbound.targets.endpoint.session import gathered

LISTS = (
    (
        "Name the days of the week from Monday to Sunday, separated by commas, and nothing else.",
        "Monday, Tuesday, Wednesday, Thursday,",
        "friday",
    ),
    (
        "Count from one to ten in words, separated by commas, and nothing else.",
        "one, two, three, four, five,",
        "six",
    ),
)
WAYS: tuple[dict[str, bool], ...] = (
    {},
    {"continue_final_message": True, "add_generation_prompt": False},
)
EACH, TOKENS, LEAST = 4, 8, 6
"""Answers to each list, their tokens, and how many of all must continue it."""
REQUESTS = EACH * len(LISTS) * len(WAYS)
_RETRY_TIMEOUT = 20.0


async def find_prefill(
    client: Client, model: str, options: SamplingOptions, dialect: Dialect
) -> dict[str, bool] | None:
    """The parameters with which the server continues what is begun, None where none do."""
    plain = SamplingOptions(max_new_tokens=TOKENS, extra_body=options.extra_body)
    for way in WAYS:
        phrasing = RequestBuilder(model, plain, dialect)

        async def ask(question: str, begun: str, seed: int, more: Any = way) -> str:
            prompt = Prompt(id="prefill", messages=(("user", question),))
            body = phrasing.request(prompt, seed=seed, begun=begun, **more)  # noqa: B023
            answer = await client.ask(phrasing.path, body, retry_timeout=_RETRY_TIMEOUT)  # noqa: B023
            return answer.choices[0].text

        calls = [ask(q, begun, 901 + i) for q, begun, _ in LISTS for i in range(EACH)]
        expected = [word for _, _, word in LISTS for _ in range(EACH)]
        try:
            texts = await gathered(calls)
        except TargetError:  # a server may refuse parameters that it does not know
            continue
        if sum(map(_continues, texts, expected)) >= LEAST:
            return way
    return None


def _continues(text: str, word: str) -> bool:
    """Whether `text` goes on with `word`.

    >>> _continues(" Friday, Saturday", "friday"), _continues("Monday, Tuesday", "friday")
    (True, False)
    """
    said = re.search(r"[a-z]+", text.lower())
    return said is not None and said[0] == word
