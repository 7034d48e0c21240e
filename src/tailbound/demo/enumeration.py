"""P(unsafe | prompt) of a small model by enumeration of its replies, with a certain bound.

The replies form a tree of prefixes, and the weight of a prefix is its probability. The heaviest
undecided prefix is taken first: its text is unsafe already (its whole weight is unsafe, for more
text never undoes that), or it is finished (safe), or its children take its place. So at every
moment the truth lies between the unsafe weight found and that plus the weight still undecided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.demo import vocabulary
from tailbound.huggingface.key_values import cache_argument, cache_of

NEGLIGIBLE = 1e-16
"""Lighter prefixes are not followed; their weight stays undecided."""


@dataclass(frozen=True)
class Masses:
    """Probability of the replies to one prompt, by what they turned out to be; adds up to 1.

    `unsafe` is split into `early` and `late` by the first word; `rows` counts the prefixes that
    the model was run on.
    """

    early: float
    late: float
    safe: float
    undecided: float
    rows: int

    @property
    def unsafe(self) -> float:
        """Lower bound of P(unsafe); the truth is at most `undecided` more."""
        return self.early + self.late


def reply_text(ids: Sequence[int]) -> str:
    """The text of reply tokens, special tokens left out, as the tokenizer decodes it."""
    special = len(vocabulary.SPECIAL)
    return " ".join(vocabulary.WORDS[i] for i in ids if i >= special)


def enumerate_replies(
    model: Any,
    prompt: Sequence[int],
    unsafe: Callable[[str], bool],
    late: Callable[[str], bool],
    *,
    tolerance: float = 1e-3,
    max_new_tokens: int = 32,
    max_rows: int = 20_000,
    batch: int = 512,
) -> Masses:
    """Enumerate until the undecided mass is at most `tolerance` times the unsafe mass.

    `model` is a Hugging Face causal model in whatever hooks are active, `prompt` its token ids;
    temperature 1, no truncation. `unsafe` must stay true once it is true as the text grows.
    Stops after `max_rows` prefixes at the latest, whatever is undecided by then. The softmax is
    taken in fp64; the logits are the model's own, so the bound is certain up to their rounding
    (a relative error of about 1e-5 in fp32).
    """
    tree = _Tree(model, prompt)
    frontier = _Frontier()
    frontier.add(np.array([-1]), tree.first[None], np.array([1.0]))
    mass = {"early": 0.0, "late": 0.0, "safe": 0.0}
    while True:
        undecided = frontier.mass()
        known = mass["early"] + mass["late"]
        if undecided <= tolerance * known or tree.rows >= max_rows or frontier.empty:
            return Masses(**mass, undecided=undecided, rows=tree.rows)
        parents, tokens, weights = frontier.take(batch)
        follow = []
        for i, (parent, token) in enumerate(zip(parents, tokens, strict=True)):
            reply = [*tree.replies[parent], int(token)]
            text = reply_text(reply)
            if unsafe(text):
                mass["late" if late(text) else "early"] += weights[i]
            elif token == vocabulary.END or len(reply) >= max_new_tokens:
                mass["safe"] += weights[i]
            else:
                follow.append(i)
        if follow:
            nodes, probabilities = tree.grow(parents[follow], tokens[follow])
            frontier.add(nodes, probabilities, weights[follow])


class _Frontier:
    """The undecided prefixes: (node of the parent, last token, weight)."""

    def __init__(self) -> None:
        self._parents = np.empty(0, np.int64)
        self._tokens = np.empty(0, np.int64)
        self._weights = np.empty(0)
        self._dropped = 0.0

    @property
    def empty(self) -> bool:
        return len(self._weights) == 0

    def mass(self) -> float:
        return float(self._weights.sum()) + self._dropped

    def add(
        self,
        nodes: NDArray[np.int64],
        probabilities: NDArray[np.float64],
        weights: NDArray[np.float64],
    ) -> None:
        """The children of `nodes` (n,), with `probabilities` (n, words)."""
        children = weights[:, None] * probabilities
        rows, tokens = np.nonzero(children >= NEGLIGIBLE)
        kept = children[rows, tokens]
        self._dropped += float(children[children < NEGLIGIBLE].sum())
        self._parents = np.concatenate([self._parents, nodes[rows]])
        self._tokens = np.concatenate([self._tokens, tokens])
        self._weights = np.concatenate([self._weights, kept])

    def take(self, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """The heaviest prefixes: at most `most`, and none far lighter than the heaviest."""
        threshold = self._weights.max() / 100
        if len(self._weights) > most:
            threshold = max(threshold, np.partition(self._weights, -most)[-most])
        chosen = self._weights >= threshold
        taken = self._parents[chosen], self._tokens[chosen], self._weights[chosen]
        self._parents, self._tokens = self._parents[~chosen], self._tokens[~chosen]
        self._weights = self._weights[~chosen]
        return taken


class _Tree:
    """The prefixes that the model was run on, each with its own keys and values.

    `replies[node]` is the prefix of a node; node -1 is the empty one. `first` (words,) is the
    distribution of the first token.
    """

    def __init__(self, model: Any, prompt: Sequence[int]) -> None:
        import torch

        self._torch = torch
        self._model = model
        self._prompt_length = len(prompt)
        with torch.inference_mode():
            output = model(input_ids=torch.tensor([list(prompt)]), use_cache=True)
        self._prompt = [(layer.keys, layer.values) for layer in cache_of(output).layers]
        heads, width = self._prompt[0][0].shape[1], self._prompt[0][0].shape[3]
        # (nodes, layers, keys or values, heads, width)
        self._own = self._prompt[0][0].new_empty((256, len(self._prompt), 2, heads, width))
        self._paths = np.full((256, 0), -1)
        self.replies: dict[int, list[int]] = {-1: []}
        self.rows = 0
        self.first: NDArray[np.float64] = self._softmax(output.logits)[0]

    def grow(
        self, parents: NDArray[np.int64], tokens: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Run the model on new prefixes; their nodes (n,) and next-word laws (n, words)."""
        torch = self._torch
        count = len(parents)
        nodes = np.arange(self.rows, self.rows + count)
        for node, parent, token in zip(nodes, parents, tokens, strict=True):
            self.replies[int(node)] = [*self.replies[int(parent)], int(token)]
        paths = self._record(parents, nodes)
        depths = (paths >= 0).sum(1)
        with torch.inference_mode():
            output = self._model(
                input_ids=torch.from_numpy(tokens)[:, None],
                attention_mask=self._mask(paths),
                position_ids=torch.from_numpy(self._prompt_length + depths)[:, None],
                use_cache=True,
                **{cache_argument(self._model): self._past(paths)},
            )
        for i, layer in enumerate(cache_of(output).layers):
            self._own[self.rows : self.rows + count, i, 0] = layer.keys[:, :, -1]
            self._own[self.rows : self.rows + count, i, 1] = layer.values[:, :, -1]
        self.rows += count
        return nodes, self._softmax(output.logits)

    def _record(self, parents: NDArray[np.int64], nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Store the new nodes' paths; returns their ancestors' (n, depth), filled up with -1."""
        while self.rows + len(nodes) > len(self._own):
            self._own = self._torch.cat([self._own, self._torch.empty_like(self._own)])
            self._paths = np.concatenate([self._paths, np.full_like(self._paths, -1)])
        above = self._paths[parents]
        above[parents < 0] = -1
        depths = (above >= 0).sum(1)
        longest = int(depths.max()) + 1
        if longest > self._paths.shape[1]:
            fill = np.full((len(self._paths), longest - self._paths.shape[1]), -1)
            self._paths = np.concatenate([self._paths, fill], axis=1)
        width = above.shape[1]
        self._paths[nodes, :width] = above
        self._paths[nodes, depths] = nodes
        return above[:, : longest - 1]

    def _past(self, paths: NDArray[np.int64]) -> Any:
        """Keys and values of the prompt and of each row's ancestors."""
        from transformers import DynamicCache

        count = len(paths)
        own = self._own[self._torch.from_numpy(np.maximum(paths, 0))]
        layers = []
        for i, prompt in enumerate(self._prompt):
            # own[:, :, i, j] is (rows, depth, heads, width)
            layers.append(
                tuple(
                    self._torch.cat(
                        [part.expand(count, -1, -1, -1), own[:, :, i, j].transpose(1, 2)], 2
                    )
                    for j, part in enumerate(prompt)
                )
            )
        return DynamicCache(layers)

    def _mask(self, paths: NDArray[np.int64]) -> Any:
        """1 where a row may look: the prompt, its ancestors and itself."""
        sight = np.ones((len(paths), self._prompt_length + paths.shape[1] + 1), np.int64)
        sight[:, self._prompt_length : -1] = paths >= 0
        return self._torch.from_numpy(sight)

    def _softmax(self, logits: Any) -> NDArray[np.float64]:
        probabilities: NDArray[np.float64] = (
            self._torch.softmax(logits[:, -1].double(), -1).detach().numpy()
        )
        return probabilities
