r"""What every candidate direction would do, to first order, from one forward pass and a few back.

With m the mean log-odds of some first tokens and g its gradient,

    removing the unit direction d:   m - sum over writers w and tokens t of (d . y_wt) (d . g_wt),
    adding r after layer l:          m + sum over tokens t of r . g_lt,

where y_wt is what writer w writes at token t (the embeddings are the first writer), g_wt the
gradient of m by it, and g_lt that by the stream after layer l. The first is the derivative of
`Ablate` at intensity 0, the second that of `Add` at coefficient 0, carried on to 1.

The KL divergence from the plain distribution p of the first token has no first order. Its second
one is half of E_p[(c_v)^2], c_v being the change of log p_v to first order; with e standard normal,
that of sum_v sqrt(p_v) e_v log p_v has just this second moment, so each such e, at one backward
pass, gives an unbiased guess for all directions at once. (The noise is the same for all, which
leaves their order.)

None of these is the effect itself, which has to be measured; they say which of many candidates are
worth it. What all prompts begin with is read once.

Source: the linear approximation of interventions is that of attribution patching (Syed et al.,
arXiv 2310.10348); its use here and the guess at KL are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tailbound.core.steps import count
from tailbound.steering.modules import anatomy
from tailbound.steering.reading import TokenIds, common_beginning
from tailbound.targets.capabilities import WhiteBox
from tailbound.targets.decoding.cache import Layout, RowCache


class FirstOrder(NamedTuple):
    """By direction, all (n,): mean log-odds if ablated, if added after its layer, mean KL.

    `kl` is the guess at KL(plain | ablated) in nats, 0 where no probes were asked for.
    """

    ablated: Tensor
    added: Tensor
    kl: Tensor


def first_order(
    target: WhiteBox,
    prompts: Sequence[TokenIds],
    tokens: Sequence[int],
    vectors: Tensor,
    layers: Sequence[int],
    *,
    probes: int = 0,
) -> FirstOrder:
    """The mean log-odds of a reply that begins with one of `tokens`, over `prompts`, in nats.

    `vectors` (n, width) are directions of the stream after `layers` (1: after the first layer).
    `probes` are the random e for the KL divergence, always the same ones.
    """
    vectors = vectors.double()
    units = vectors / vectors.norm(dim=1, keepdim=True)
    depth = len(anatomy(target.model).layers)
    written, streams, log_probs = _passed(target, prompts)
    refusing = torch.zeros(log_probs.shape[1], dtype=torch.bool, device=log_probs.device)
    refusing[list(tokens)] = True
    odds = log_probs[:, refusing].logsumexp(1) - log_probs[:, ~refusing].logsumexp(1)
    plain, n = float(odds.detach().mean()), len(prompts)
    along = [_along(y, units) for y in written]

    def back(value: Tensor, by: list[Tensor], *, again: bool) -> Sequence[Tensor | None]:
        count(positions=sum(y.shape[0] * y.shape[1] for y in streams[::depth]))
        found: Sequence[Tensor | None] = torch.autograd.grad(
            value, by, retain_graph=again, allow_unused=True
        )
        return found

    def removed(gradients: Sequence[Tensor | None]) -> Tensor:
        total = torch.zeros(len(units), dtype=torch.float64)
        for y, g in zip(along, gradients, strict=True):
            if g is not None:  # the last layer's at a beginning that is only attended to
                total += (y * _along(g, units)).sum(0)
        return total

    gradients = back(odds.sum(), [*written, *streams], again=probes > 0)
    after = torch.zeros(depth, vectors.shape[1], dtype=torch.float64)
    for number, g in enumerate(gradients[len(written) :]):
        if g is not None:
            after[number % depth] += g.double().sum((0, 1)).cpu()
    shift = (after[[layer - 1 for layer in layers]] * vectors).sum(1)
    kl = torch.zeros(len(units), dtype=torch.float64)
    noise = torch.Generator().manual_seed(0)
    weights = log_probs.detach().mul(0.5).exp()
    for number in range(probes):
        e = torch.randn(log_probs.shape, generator=noise, dtype=torch.float64).to(weights.device)
        # (a common shift of all log p_v is none: they sum to 1)
        value = (weights * e * log_probs).sum()
        kl += removed(back(value, written, again=number < probes - 1)) ** 2 / (2 * n * probes)
    return FirstOrder(plain - removed(gradients[: len(written)]) / n, plain + shift / n, kl)


def _along(states: Tensor, units: Tensor) -> Tensor:
    """Components of `states` (rows, tokens, width) along `units`: (rows * tokens, n)."""
    flat = states.detach().float().flatten(0, 1)
    return (flat @ units.T.to(states.device, torch.float32)).double().cpu()


def _passed(
    target: WhiteBox, prompts: Sequence[TokenIds]
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """What each writer wrote, the stream after each layer, and log-probs (prompts, vocabulary).

    With their graph, from one pass for what all prompts begin with and one for each length of the
    rest, so that nothing is padded: the lists hold what belongs to each pass one after the other.
    """
    network = target.network
    shared = common_beginning(prompts)
    by_length: dict[int, list[int]] = {}
    for number, ids in enumerate(prompts):
        by_length.setdefault(len(ids), []).append(number)
    rows: dict[int, Tensor] = {}
    with torch.enable_grad(), _recorded(network.model) as (written, streams):
        cache = _GraphCache(network.layout)
        if shared:
            row = torch.tensor([prompts[0][:shared]], device=network.device)
            start = torch.zeros(1, dtype=torch.int64, device=network.device)
            network.forward(row, start, cache, columns=shared, last=True)
            cache.keep()
        for length, numbers in by_length.items():
            rest = torch.tensor([prompts[n][shared:] for n in numbers], device=network.device)
            starts = torch.full((len(numbers),), shared, device=network.device)
            logits = network.forward(rest, starts, cache, columns=length, last=True)[:, -1]
            rows.update(zip(numbers, logits.double().log_softmax(1), strict=True))
        log_probs = torch.stack([rows[number] for number in range(len(prompts))])
    return written, streams, log_probs


class _GraphCache(RowCache):
    """Keys and values of a beginning, with their graph, for any number of rows that share it."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout, rows=0, columns=0)
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def keep(self) -> None:
        """What was read so far is what all later rows begin with."""
        self._kept = self._seen

    def reserve(self, columns: int, rows: int = 0) -> None:
        """Nothing is written in place."""

    def aim(self, positions: Tensor, columns: int) -> None:
        """New tokens follow the beginning."""

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Called by each attention layer: the beginning's, then the new ones."""
        if not self._kept:
            self._seen[layer_idx] = (key_states, value_states)
            return key_states, value_states
        rows = len(key_states)
        keys, values = (part.expand(rows, -1, -1, -1) for part in self._kept[layer_idx])
        return torch.cat([keys, key_states], 2), torch.cat([values, value_states], 2)


@contextmanager
def _recorded(model: Any) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Record what the writers write, embeddings first, and the stream after each layer."""
    parts = anatomy(model)
    written: list[Tensor] = []
    streams: list[Tensor] = []

    def enter(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        stream = args[0] if args else kwargs["hidden_states"]
        stream = stream.detach().requires_grad_(True)
        written.append(stream)
        return ((stream, *args[1:]), kwargs) if args else ((), {**kwargs, "hidden_states": stream})

    def into(record: list[Tensor]) -> Any:
        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            record.append(output[0] if isinstance(output, tuple) else output)

        return keep

    hooks = [parts.layers[0].register_forward_pre_hook(enter, with_kwargs=True)]
    hooks += [writer.register_forward_hook(into(written)) for writer in parts.writers]
    hooks += [layer.register_forward_hook(into(streams)) for layer in parts.layers]
    try:
        yield written, streams
    finally:
        for hook in hooks:
            hook.remove()
