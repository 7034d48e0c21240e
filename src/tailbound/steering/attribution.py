r"""What every candidate direction would do, to first order, from one forward and backward pass.

With m the mean log-odds of some first tokens and g its gradient,

    removing the unit direction d:   m - sum over writers w and tokens t of (d . y_wt) (d . g_wt),
    adding r after layer l:          m + sum over tokens t of r . g_lt,

where y_wt is what writer w writes at token t (the embeddings are the first writer), g_wt the
gradient of m by it, and g_lt that by the stream after layer l. The first is the derivative of
`Ablate` at intensity 0, the second that of `Add` at coefficient 0, carried on to 1. Neither is the
effect itself, which has to be measured; they say which of many candidates are worth it.

Source: the linear approximation of interventions is that of attribution patching (Syed et al.,
arXiv 2310.10348); its use here is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tailbound.core.steps import count
from tailbound.steering.modules import anatomy
from tailbound.steering.reading import TokenIds
from tailbound.targets.capabilities import WhiteBox


class FirstOrder(NamedTuple):
    """Estimated mean log-odds, by direction: ablated, and added after its layer; both (n,)."""

    ablated: Tensor
    added: Tensor


def first_order(
    target: WhiteBox,
    prompts: Sequence[TokenIds],
    tokens: Sequence[int],
    vectors: Tensor,
    layers: Sequence[int],
) -> FirstOrder:
    """The mean log-odds of a reply that begins with one of `tokens`, over `prompts`, in nats.

    `vectors` (n, width) are directions of the stream after `layers` (1: after the first layer).
    """
    vectors = vectors.double()
    units = vectors / vectors.norm(dim=1, keepdim=True)
    plain, removed, shift = 0.0, torch.zeros(len(vectors)), torch.zeros(len(vectors))
    removed, shift = removed.double(), shift.double()
    for ids in prompts:
        written, streams, odds = _passed(target, ids, tokens)
        gradients = torch.autograd.grad(odds, [*written, *streams])
        plain += float(odds.detach())
        for y, g in zip(written, gradients, strict=False):
            removed += (_along(y, units) * _along(g, units)).sum(0)
        after = torch.stack([g[0].double().sum(0).cpu() for g in gradients[len(written) :]])
        shift += (after[[layer - 1 for layer in layers]] * vectors).sum(1)
    n = len(prompts)
    return FirstOrder((plain - removed) / n, (plain + shift) / n)


def _along(states: Tensor, units: Tensor) -> Tensor:
    """Components of `states` (1, tokens, width) along each of `units`: (tokens, n)."""
    return (states[0].detach().float() @ units.T.to(states.device, torch.float32)).double().cpu()


def _passed(
    target: WhiteBox, ids: TokenIds, tokens: Sequence[int]
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """What each writer wrote, the stream after each layer, and the log-odds, with their graph."""
    network = target.network
    count(positions=3 * len(ids))  # a backward pass costs about two forward ones
    row = torch.tensor([ids], device=network.device)
    with torch.enable_grad(), _recorded(network.model) as (written, streams):
        output = network.model(input_ids=row, use_cache=False, **network.last_only)
        log_probs = output.logits[0, -1].double().log_softmax(0)
    refusing = torch.zeros(len(log_probs), dtype=torch.bool, device=log_probs.device)
    refusing[list(tokens)] = True
    return written, streams, log_probs[refusing].logsumexp(0) - log_probs[~refusing].logsumexp(0)


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
