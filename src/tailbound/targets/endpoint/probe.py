"""What a server honours, found out by asking it: what it does not support it ignores in silence.

One request as the run will make them, of its length and with its parameters, then some forty short
ones, all on one harmless prompt and most of them at once. (A model that thinks where nobody sees it
is asked at full length throughout: the first tokens of its responses show nothing.) What is not
honoured is emulated where that is honest (`n` by repeated requests, `stop` by cutting), and refused
where it is not: a server whose draws at temperature 1 do not differ, that ignores the temperature
or that does not stop at `max_tokens`, measures something else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tailbound.core.contract import SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.errors import TargetError, UsageError
from tailbound.targets.endpoint.adapting import adapt
from tailbound.targets.endpoint.answers import Answer, Choice
from tailbound.targets.endpoint.client import Client, RefusedError
from tailbound.targets.endpoint.protocol import NEUTRAL, Dialect, RequestBuilder
from tailbound.targets.endpoint.session import gathered
from tailbound.targets.endpoint.thoughts import reply, style

PROMPT = Prompt(
    id="probe",
    messages=(("user", "Write the first line of a story, as unusual as you can."),),
)
REQUESTS = 50
"""About so many are sent, each of at most `TOKENS` tokens."""
TOKENS = 24
EASY = Prompt(id="probe-easy", messages=(("user", "Reply with the word OK and nothing else."),))
"""Where a response is cut, nothing may show that it was a thought: here a thought is short."""
EASY_TOKENS = 2048
TRIALS = 3
"""So many more full-length requests go to a model that thinks."""
_HOT, _SAME, _COLD, _MANY, _FEW = 8, 3, 6, 4, 3
_COLD_TEMPERATURE = 1e-3
_RETRY_TIMEOUT = 20.0
_BAD_REQUEST = (400, 422)

Post = Callable[..., Awaitable[Answer]]


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """True where the server honours an option; None where that could not be determined.

    `n` is False also where the responses of one request repeat each other, and where `usage_of_all`
    is: the tokens of one response of several are counted, which would hide what they cost. `top_k`
    and `min_p` say whether a value that leaves one token makes draws equal; `log_probs`, whether
    they are given. `models` are the names that it lists, `served` those that it answers by.
    `accepted` are the parameters beyond the OpenAI ones that the server takes, `refused` those that
    it does not, `limit` its name for the longest response. `thinking` and `opening` are as in
    `thoughts.style`; of `trials` full-length responses, `unfinished` held a thought and no reply.
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
    thinking: str | None
    opening: str | None
    trials: int
    unfinished: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for YAML or JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @property
    def own_distribution(self) -> bool:
        """Whether draws at temperature 1 are known to be those of the log-probabilities given.

        A server that truncates on its own (top-k, min-p) makes what it says likelier than it
        reports, so that reported probabilities are too low at most.
        """
        return self.log_probs and self.temperature is True and "temperature" not in self.refused

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
            found.append("the server ignores seed: the run continues, but no draw can be repeated")
        if self.temperature is False:
            found.append("the server ignores the temperature: it samples at its own")
        if own := [name for name in ("temperature", "top_p") if name in self.refused]:
            found.append(
                f"the server takes no {' and no '.join(own)}: what it samples at is not known, and "
                "taken to be 1"
            )
        if self.unfinished:
            found.append(
                f"{self.unfinished} of {self.trials} trial responses held no reply, because the "
                "thought used up --max-new-tokens: raise it, or verdicts will be missing"
            )
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


async def probe(
    client: Client,
    model: str,
    options: SamplingOptions,
    dialect: Dialect,
    *,
    afford: Callable[[int, int], None],
) -> Capabilities:
    """Ask the server, and adapt `dialect` to it.

    `afford(requests, tokens)` is called before more is asked than a model that does not think is.
    Raises `TargetError` where the server cannot be reached, `UsageError` where it refuses the model
    or the options, or cannot be trusted to sample what the contract says, and what `afford` raises.
    """
    name = f"openai:{model}"

    def posts(of: SamplingOptions) -> Post:
        phrasing = RequestBuilder(model, of, dialect)

        async def post(*, seed: int, n: int = 1, prompt: Prompt = PROMPT, **changes: Any) -> Answer:
            body = phrasing.request(prompt, seed=seed, n=n, **changes)
            return await client.ask(phrasing.path, body, retry_timeout=_RETRY_TIMEOUT)

        return post

    try:
        trials = [await _settled(posts(options), dialect, options, name)]
        clues = list(trials)
        if _style(trials)[0] is None and trials[0].choices[0].length:
            afford(1, EASY_TOKENS)
            easy = await _tried(
                posts(options)(seed=1, prompt=EASY, max_tokens=EASY_TOKENS, stop=None)
            )
            clues += [] if easy is None else [easy]
        if _style(clues)[0] is not None:
            options = options.with_room()
            afford(TRIALS, options.max_new_tokens)
            trials += await gathered([posts(options)(seed=702 + i) for i in range(TRIALS)])
            clues += trials[1:]
        hidden = _style(clues)[0] == "hidden"
        if hidden:
            _check_hidden(options, name)
            afford(REQUESTS, options.max_new_tokens)
        whole = SamplingOptions(
            max_new_tokens=options.max_new_tokens if hidden else TOKENS,
            completion=options.completion,
            extra_body=options.extra_body,
        )
        post = posts(whole)
        first = await _settled(post, dialect, whole, name)
        capabilities = await _seen_capabilities(
            post, RequestBuilder(model, whole, dialect), [first, *trials], clues, options, name
        )
        capabilities = replace(capabilities, models=await client.models())
        await _check_options(posts(options), options, capabilities, name)
    except UsageError:
        raise
    except RefusedError as error:
        raise UsageError(f"{name} cannot be used: {error}") from None
    except TargetError as error:  # the server is not there, or is overloaded: no wrong usage
        raise TargetError(f"{name} cannot be used: {error}") from None
    return capabilities


async def _settled(post: Post, dialect: Dialect, options: SamplingOptions, name: str) -> Answer:
    """The first answer; what the server refuses and nothing depends on is left out from then on."""
    while True:
        try:
            return await post(seed=1)
        except RefusedError as error:
            if error.status not in _BAD_REQUEST or not adapt(dialect, options, error.said, name):
                raise


def _style(answers: Sequence[Answer]) -> tuple[str | None, str | None]:
    return style([choice for answer in answers for choice in answer.choices])


def _check_hidden(options: SamplingOptions, name: str) -> None:
    if options.thinking == "judge":
        raise UsageError(
            f"{name} thinks and does not show what: --thinking judge is not possible, remove it"
        )


async def _seen_capabilities(
    post: Post,
    phrasing: RequestBuilder,
    trials: Sequence[Answer],
    clues: Sequence[Answer],
    options: SamplingOptions,
    name: str,
) -> Capabilities:
    """What a server can do, as short requests show it, most of them sent at once.

    Whether draws are random, seeds reproduce them, `n` gives distinct ones, and temperature, stop
    texts, limits of length, log-probabilities, top-k and min-p are heeded rather than ignored.
    `trials` are the first answer and those of the run's length, `clues` answers that may show
    thoughts. Raises `UsageError` where a run could not be trusted: draws that are not random, a
    temperature that is ignored, endings that are unknown.
    """
    dialect, (first, *long) = phrasing.dialect, trials
    hidden = _style(clues)[0] == "hidden"
    # of a thought that nobody sees, a few tokens show nothing
    brief: dict[str, Any] = {} if hidden else {"max_tokens": 8}
    cold: dict[str, Any] = {"temperature": _COLD_TEMPERATURE, **brief}
    calls: dict[str, list[Awaitable[Answer | None]]] = {
        "hot": [post(seed=101 + i) for i in range(_HOT)],
        "same": [post(seed=7) for _ in range(_SAME)],
        "cold": [_tried(post(seed=201 + i, **cold)) for i in range(_COLD)],
        "many": [_tried(post(seed=301, n=_MANY))],
        "short": [_tried(post(seed=7, max_tokens=1))],
        "log_probs": [_tried(post(seed=401, max_tokens=4, logprobs=phrasing.log_probs_value))],
        "top_k": [_tried(post(seed=501 + i, top_k=1, **brief)) for i in range(_FEW)],
        "min_p": [_tried(post(seed=601 + i, min_p=1.0, **brief)) for i in range(_FEW)],
    }
    flat = await gathered([call for group in calls.values() for call in group])
    answers: dict[str, list[Answer | None]] = {}
    for kind, group in calls.items():
        answers[kind], flat = flat[: len(group)], flat[len(group) :]
    received = {kind: [a for a in group if a is not None] for kind, group in answers.items()}

    _check_endings(received["hot"], name)
    hot, same = _texts(received["hot"]), _texts(received["same"])
    _check_random([*_texts([first]), *hot, *same], name, phrasing.longest)
    varied = _share(hot) < 0.5
    thinking, opening = _style([*clues, first, *received["hot"], *received["same"]])
    # a model that thinks may take the temperature and not heed it, which is the same where it is 1
    fixed = thinking is not None and options.temperature == 1
    temperature = _temperature(_texts(received["cold"]), hot, name, fixed=fixed)
    extras = {
        key: _alike(_texts(received[key]), varied) if key in dialect.extras else False
        for key in ("top_k", "min_p")
    }
    many = [_seen(choice) for answer in received["many"] for choice in answer.choices]
    everyone = [*trials, *(answer for group in received.values() for answer in group)]
    usage_of_all = _counts_all(received["many"], received["hot"])
    seed = dialect.seed and len(set(same)) == 1 and len(set(hot)) > 1
    refused = {*NEUTRAL} - {*dialect.extras} | dialect.left_out
    unfinished = [reply(choice, options, opening).missing for a in long for choice in a.choices]
    return Capabilities(
        random=True,
        n=usage_of_all and len(many) == _MANY and len(set(many)) > (2 if varied else 1),
        seed=seed,
        temperature=temperature,
        stop=await _stop(post, hot, dialect, thinking),
        max_tokens=_max_tokens(
            received["short"], [first, *received["hot"]], name, phrasing.longest
        ),
        log_probs=any(answer.has_log_probs for answer in received["log_probs"]),
        top_k=extras["top_k"],
        min_p=extras["min_p"],
        usage=all(a.tokens_in is not None and a.tokens_out is not None for a in received["hot"]),
        usage_of_all=usage_of_all,
        served=tuple(sorted({a.model for a in everyone if a.model is not None})),
        fingerprints=tuple(sorted({a.fingerprint for a in everyone if a.fingerprint is not None})),
        models=None,
        accepted=tuple(sorted(dialect.extras)),
        refused=tuple(sorted(refused | (set() if dialect.seed else {"seed"}))),
        limit=dialect.limit,
        thinking=thinking,
        opening=opening,
        trials=len(unfinished),
        unfinished=sum(missing is not None for missing in unfinished),
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
    text = sum(len(_seen(answer.choices[0])) for answer in single if answer.tokens_out)
    tokens = sum(answer.tokens_out or 0 for answer in single)
    for answer in many:
        if len(answer.choices) < _MANY or answer.tokens_out is None or not text:
            continue
        expected = sum(len(_seen(choice)) for choice in answer.choices) * tokens / text
        if answer.tokens_out < 0.6 * expected:
            return False
    return True


def _check_random(texts: Sequence[str], name: str, longest: int) -> None:
    if not any(texts):
        raise UsageError(
            f"{name} gave {len(texts)} empty responses to {PROMPT.text!r} within {longest:,} "
            "tokens: nothing can be measured (a model that thinks before it replies needs a larger "
            "--max-new-tokens)"
        )
    if len(set(texts)) == 1:
        raise UsageError(
            f"{name} gives the same text for every draw at temperature 1 ({texts[0][:40]!r}): it "
            "does not sample (for transformers serve, set do_sample in the generation_config)"
        )


def _temperature(cold: Sequence[str], hot: Sequence[str], name: str, *, fixed: bool) -> bool | None:
    """Whether draws next to temperature 0 are alike; a server's batching may make a few differ.

    `fixed` says that a server that does not heed it is none the worse for that.
    """
    if len(cold) < _COLD or not any(cold):
        return None
    if _share(cold) < 0.5:
        if fixed:
            return False
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
    return True if varied and any(texts) else None


def _max_tokens(
    short: Sequence[Answer], long: Sequence[Answer], name: str, longest: int
) -> bool | None:
    """Whether responses end at the limit; some servers count the end of a response as a token.

    `short` is the response to a request for one token, where that was not refused.
    """
    texts = _texts(long)
    typical = sorted(len(text) for text in texts)[len(texts) // 2]
    over = any(_tokens(answer) > longest + 1 for answer in long)
    text, tokens = "", None
    if short:
        text, tokens = _texts(short)[0], short[0].tokens_out
        over = over or _tokens(short[0]) > 2
        over = over or (tokens is None and len(text) >= 0.8 * typical and typical >= 12)
    if over:
        raise UsageError(
            f"{name} ignores max_tokens: asked for 1 token it gave {text[:40]!r}"
            + (f" ({tokens} tokens)" if tokens is not None else "")
            + "; use a server that heeds it"
        )
    return None if not short or typical <= len(text) else True


def _tokens(answer: Answer) -> int:
    """Tokens of a response; those of a thought may have a limit of their own."""
    return max(0, (answer.tokens_out or 0) - answer.tokens_thought)


async def _stop(
    post: Post, hot: Sequence[str], dialect: Dialect, thinking: str | None
) -> bool | None:
    """Whether a character that most texts hold several times ends a text.

    Servers differ in whether they look for it in a thought: then that cannot be determined.
    """
    if not dialect.stop:
        return False
    if thinking is not None:
        return None
    counts = Counter(c for text in hot for c in set(text.strip()) if text.strip().count(c) > 1)
    if not counts or counts.most_common(1)[0][1] < len(hot) * 3 / 8:
        return None
    char = counts.most_common(1)[0][0]
    found = await gathered([_tried(post(seed=101 + i, stop=[char])) for i in range(_HOT)])
    received = [answer for answer in found if answer is not None]
    if not received:
        return False
    # A server may keep the stop string, or the rest of the token that holds it.
    return not any(char in text.strip().partition(char)[2] for text in _texts(received))


async def _check_options(
    post: Post, options: SamplingOptions, capabilities: Capabilities, name: str
) -> None:
    """Raise `UsageError` where the server ignores what was asked for."""
    if options.top_k is not None and capabilities.top_k is False:
        raise UsageError(f"{name} ignores top_k: remove --top-k, or use a server that heeds it")
    if options.top_p < 1:
        found = await gathered([post(seed=801 + i, top_p=1e-6) for i in range(_FEW)])
        if len(set(_texts(found))) == _FEW:
            raise UsageError(f"{name} ignores top_p: remove --top-p, or use a server that heeds it")


def _seen(choice: Choice) -> str:
    """What the server shows of a response, a thought included."""
    return choice.thought + choice.text


def _texts(answers: Sequence[Answer]) -> list[str]:
    return [_seen(answer.choices[0]) for answer in answers]


def _share(texts: Sequence[str]) -> float:
    """The share of the most frequent text."""
    return Counter(texts).most_common(1)[0][1] / len(texts)
