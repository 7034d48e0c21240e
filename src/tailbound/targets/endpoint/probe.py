"""What a server honours, found out by asking it: what it does not support it ignores in silence.

Some forty short requests on one harmless prompt, most of them at once, as in a run. What is not
honoured is emulated where that is honest (`n` by repeated requests, `stop` by cutting), and refused
where it is not: a server whose draws at temperature 1 do not differ, that ignores the temperature
or that does not stop at `max_tokens`, measures something else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tailbound.contract import SamplingOptions
from tailbound.errors import TargetError, UsageError
from tailbound.prompts import Prompt
from tailbound.targets.endpoint.client import Client, RefusedError
from tailbound.targets.endpoint.session import gathered
from tailbound.targets.endpoint.wire import NEUTRAL, Answer, Dialect, Phrasing

PROMPT = Prompt(
    id="probe",
    messages=(("user", "Write the first line of a story, as unusual as you can."),),
)
REQUESTS = 50
"""About so many are sent, each of at most `TOKENS` tokens."""
TOKENS = 24
_HOT, _SAME, _COLD, _MANY, _FEW = 8, 3, 6, 4, 3
_COLD_TEMPERATURE = 1e-3
_PATIENCE = 20.0
_BAD_REQUEST = (400, 422)

Post = Callable[..., Awaitable[Answer]]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """True where the server honours an option; None where that could not be told.

    `n` is False also where the responses of one request repeat each other, and where `usage_of_all`
    is: the tokens of one response of several are counted, which would hide what they cost. `top_k`
    and `min_p` say whether a value that leaves one token makes draws equal; `log_probs`, whether
    they are given. `models` are the names that it lists, `served` those that it answers by.
    `accepted` are the parameters beyond the OpenAI ones that the server takes, `refused` those that
    it does not, `limit` its name for the longest response.
    """

    random: bool
    n: bool
    seed: bool
    temperature: bool | None
    stop: bool | None
    max_tokens: bool | None
    log_probs: bool
    top_k: bool | None
    min_p: bool | None
    usage: bool
    usage_of_all: bool
    served: tuple[str, ...]
    fingerprints: tuple[str, ...]
    models: tuple[str, ...] | None
    accepted: tuple[str, ...]
    refused: tuple[str, ...]
    limit: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for YAML or JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @property
    def notices(self) -> tuple[str, ...]:
        """Lines that a person should see."""
        found = []
        if not self.usage_of_all:
            found.append(
                "the server counts the tokens of one response where several were asked for: every "
                "draw is a request of its own, so that all are counted"
            )
        elif not self.n:
            found.append("the server ignores n: every draw is a request of its own")
        if not self.seed:
            found.append("the server ignores seed: a run goes on, but no draw can be repeated")
        if self.stop is False:
            found.append("the server ignores stop: responses are cut here, and cost more tokens")
        if not self.log_probs:
            found.append("the server gives no log-probabilities")
        if not self.usage:
            found.append("the server counts no tokens: spend is not known")
        if self.top_k is not True or self.min_p is not True:
            names = [n for n in ("top_k", "min_p") if getattr(self, n) is not True]
            found.append(
                f"the server does not heed {' and '.join(names)}: see that its own defaults "
                "(of the model's generation_config, too) do not cut the tail"
            )
        return tuple(found)


async def probe(client: Client, model: str, options: SamplingOptions, dialect: Dialect) -> Findings:
    """Ask the server, and adapt `dialect` to it.

    Raises `TargetError` where it cannot be reached, and `UsageError` where it refuses the model or
    the options, or cannot be trusted to sample what the contract says.
    """
    name = f"openai:{model}"
    whole = SamplingOptions(max_new_tokens=TOKENS, completion=options.completion)
    phrasing = Phrasing(model, whole, dialect)

    async def post(*, seed: int, n: int = 1, **changes: Any) -> Answer:
        body = phrasing.request(PROMPT, seed=seed, n=n, **changes)
        return await client.ask(phrasing.path, body, patience=_PATIENCE)

    try:
        first = await _adapt(post, dialect)
        findings = await _findings(post, phrasing, first, name, await client.models())
        await _rehearse(client, Phrasing(model, options, dialect), options, findings, name)
    except UsageError:
        raise
    except RefusedError as error:
        raise UsageError(f"{name} cannot be used: {error}") from None
    except TargetError as error:  # the server is not there, or is overloaded: no wrong usage
        raise TargetError(f"{name} cannot be used: {error}") from None
    return findings


async def _adapt(post: Post, dialect: Dialect) -> Answer:
    """The first answer; parameters that the server refuses are left out from then on."""
    while True:
        try:
            return await post(seed=1)
        except RefusedError as error:
            if error.status not in _BAD_REQUEST:
                raise
            said = str(error)
            named = [extra for extra in dialect.extras if extra in said]
            if "max_completion_tokens" in said and dialect.limit == "max_tokens":
                dialect.limit = "max_completion_tokens"
            elif dialect.seed and "seed" in said and not named:
                dialect.seed = False
            elif dialect.extras.get("top_k") == NEUTRAL["top_k"]:
                dialect.extras["top_k"] = 0  # the other way to say "no limit"
            elif dialect.extras:
                for extra in named or list(dialect.extras):
                    del dialect.extras[extra]
            else:
                raise


async def _findings(
    post: Post, phrasing: Phrasing, first: Answer, name: str, models: tuple[str, ...] | None
) -> Findings:
    dialect = phrasing.dialect
    cold: dict[str, Any] = {"temperature": _COLD_TEMPERATURE, "max_tokens": 8}
    calls: dict[str, list[Awaitable[Answer | None]]] = {
        "hot": [post(seed=101 + i) for i in range(_HOT)],
        "same": [post(seed=7) for _ in range(_SAME)],
        "cold": [_tried(post(seed=201 + i, **cold)) for i in range(_COLD)],
        "many": [_tried(post(seed=301, n=_MANY))],
        "short": [post(seed=7, max_tokens=1)],
        "log_probs": [_tried(post(seed=401, max_tokens=4, logprobs=phrasing.log_probs_value))],
        "top_k": [_tried(post(seed=501 + i, top_k=1, max_tokens=8)) for i in range(_FEW)],
        "min_p": [_tried(post(seed=601 + i, min_p=1.0, max_tokens=8)) for i in range(_FEW)],
    }
    flat = await gathered([call for group in calls.values() for call in group])
    answers: dict[str, list[Answer | None]] = {}
    for kind, group in calls.items():
        answers[kind], flat = flat[: len(group)], flat[len(group) :]
    told = {kind: [a for a in group if a is not None] for kind, group in answers.items()}

    _check_endings(told["hot"], name)
    hot, same = _texts(told["hot"]), _texts(told["same"])
    _check_random([*_texts([first]), *hot, *same], name)
    varied = _share(hot) < 0.5
    temperature = _temperature(_texts(told["cold"]), hot, name)
    extras = {
        key: _alike(_texts(told[key]), varied) if key in dialect.extras else False
        for key in ("top_k", "min_p")
    }
    many = [choice.text for answer in told["many"] for choice in answer.choices]
    everyone = [first, *(answer for group in told.values() for answer in group)]
    usage_of_all = _counts_all(told["many"], told["hot"])
    seed = dialect.seed and len(set(same)) == 1 and len(set(hot)) > 1
    return Findings(
        random=True,
        n=usage_of_all and len(many) == _MANY and len(set(many)) > (2 if varied else 1),
        seed=seed,
        temperature=temperature,
        stop=await _stop(post, hot),
        max_tokens=_max_tokens(told["short"][0], [first, *told["hot"]], name),
        log_probs=any(answer.has_log_probs for answer in told["log_probs"]),
        top_k=extras["top_k"],
        min_p=extras["min_p"],
        usage=all(a.tokens_in is not None and a.tokens_out is not None for a in told["hot"]),
        usage_of_all=usage_of_all,
        served=tuple(sorted({a.model for a in everyone if a.model is not None})),
        fingerprints=tuple(sorted({a.fingerprint for a in everyone if a.fingerprint is not None})),
        models=models,
        accepted=tuple(sorted(dialect.extras)),
        refused=tuple(
            sorted({*NEUTRAL} - {*dialect.extras} | (set() if dialect.seed else {"seed"}))
        ),
        limit=dialect.limit,
    )


async def _tried(call: Awaitable[Answer]) -> Answer | None:
    """The answer, None where the server refuses or breaks."""
    try:
        return await call
    except TargetError:
        return None


def _check_endings(answers: Sequence[Answer], name: str) -> None:
    reasons = [answer.choices[0].incomplete for answer in answers]
    if all(reasons):
        raise UsageError(
            f"no response of {name} could be judged: {reasons[0]}; use a server that says stop, "
            "length or content_filter, as the OpenAI interface has it"
        )


def _counts_all(many: Sequence[Answer], single: Sequence[Answer]) -> bool:
    """Whether all responses of one request are counted, by the usual text per token."""
    text = sum(len(answer.choices[0].text) for answer in single if answer.tokens_out)
    tokens = sum(answer.tokens_out or 0 for answer in single)
    for answer in many:
        if len(answer.choices) < _MANY or answer.tokens_out is None or not text:
            continue
        expected = sum(len(choice.text) for choice in answer.choices) * tokens / text
        if answer.tokens_out < 0.6 * expected:
            return False
    return True


def _check_random(texts: Sequence[str], name: str) -> None:
    if not any(texts):
        raise UsageError(
            f"{name} gave {len(texts)} empty responses to {PROMPT.text!r}: nothing can be measured "
            "(a reasoning model may need a larger --max-new-tokens than servers give by default)"
        )
    if len(set(texts)) == 1:
        raise UsageError(
            f"{name} gives the same text for every draw at temperature 1 ({texts[0][:40]!r}): it "
            "does not sample (for transformers serve, set do_sample in the generation_config)"
        )


def _temperature(cold: Sequence[str], hot: Sequence[str], name: str) -> bool | None:
    """Whether draws next to temperature 0 are alike; a server's batching may make a few differ."""
    if len(cold) < _COLD:
        return None
    if _share(cold) < 0.5:
        raise UsageError(
            f"{name} ignores the temperature: {len(set(cold))} different texts in {len(cold)} "
            f"draws next to temperature 0 (such as {cold[0][:30]!r}); use a server that heeds it"
        )
    return True if _share([text[:8] for text in hot]) < 0.5 else None


def _alike(texts: Sequence[str], varied: bool) -> bool | None:
    if len(texts) < _FEW:
        return False
    if len(set(texts)) > 1:
        return False
    return True if varied else None


def _max_tokens(short: Answer, long: Sequence[Answer], name: str) -> bool | None:
    """Whether responses end at the limit; some servers count the end of a response as a token."""
    text = short.choices[0].text
    typical = sorted(len(answer.choices[0].text) for answer in long)[len(long) // 2]
    over = short.tokens_out is not None and short.tokens_out > 2
    over = over or any((a.tokens_out or 0) > TOKENS + 1 for a in long)
    if over or (short.tokens_out is None and len(text) >= 0.8 * typical and typical >= 12):
        raise UsageError(
            f"{name} ignores max_tokens: asked for 1 token it gave {text[:40]!r}"
            + (f" ({short.tokens_out} tokens)" if short.tokens_out is not None else "")
            + "; use a server that heeds it"
        )
    return None if typical <= len(text) else True


async def _stop(post: Post, hot: Sequence[str]) -> bool | None:
    """Whether a character that most texts hold several times ends a text."""
    counts = Counter(c for text in hot for c in set(text.strip()) if text.strip().count(c) > 1)
    if not counts or counts.most_common(1)[0][1] < len(hot) * 3 / 8:
        return None
    char = counts.most_common(1)[0][0]
    found = await gathered([_tried(post(seed=101 + i, stop=[char])) for i in range(_HOT)])
    told = [answer for answer in found if answer is not None]
    if not told:
        return False
    # A server may keep the stop string, or the rest of the token that holds it.
    return not any(char in text.strip().partition(char)[2] for text in _texts(told))


async def _rehearse(
    client: Client, phrasing: Phrasing, options: SamplingOptions, findings: Findings, name: str
) -> None:
    """Ask once as in the run, so that what is refused is refused before anything is spent."""
    changes: dict[str, Any] = {"stop": None} if findings.stop is False else {}
    body = phrasing.request(PROMPT, seed=701, **changes)
    await client.ask(phrasing.path, body, patience=_PATIENCE)
    if options.top_k is not None and findings.top_k is False:
        raise UsageError(f"{name} ignores top_k: drop --top-k, or use a server that heeds it")
    if options.top_p < 1:
        narrow = [phrasing.request(PROMPT, seed=801 + i, top_p=1e-6) for i in range(_FEW)]
        found = await gathered([client.ask(phrasing.path, body) for body in narrow])
        if len(set(_texts(found))) == _FEW:
            raise UsageError(f"{name} ignores top_p: drop --top-p, or use a server that heeds it")


def _texts(answers: Sequence[Answer]) -> list[str]:
    return [answer.choices[0].text for answer in answers]


def _share(texts: Sequence[str]) -> float:
    """The share of the most frequent text."""
    return Counter(texts).most_common(1)[0][1] / len(texts)
