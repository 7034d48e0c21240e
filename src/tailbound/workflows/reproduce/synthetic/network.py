"""The published predictor of the synthetic experiment: a small network in torch.

10-32-32-32-32-1 with rectified linear units, the binomial likelihood of the counts, AdamW with rate
1e-4 and weight decay 1e-5, batches of 100, 10 epochs (Davidov et al., arXiv 2506.13593). The ridge
regression of `tailbound.predictors` would do as well or better on other features; log p is far from
linear in these, and the study compares designs under the published predictions.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tailbound.core.extras import require

if TYPE_CHECKING:
    import torch
    from torch import nn

WIDTH, LAYERS = 32, 4
RATE, DECAY, BATCH, EPOCHS = 1e-4, 1e-5, 100, 10
LEAST = 1e-12
"""No prediction is below; it is never reached by a network that was trained."""


def check_network() -> None:
    """Raise `MissingExtraError` where torch is not installed."""
    require("the predictor of this study", "hf")


def predicted_risks(
    features: NDArray[np.float64],
    unsafe: NDArray[np.int64],
    draws: int,
    *,
    everyone: NDArray[np.float64],
    seed: int,
) -> NDArray[np.float64]:
    """p_hat of `everyone`, shape (m, dimension), in (0, 1), by a network trained on the others.

    `features`, shape (n, dimension), are those of the training prompts, `unsafe`, shape (n,), their
    events in so many `draws`. The same on every machine that computes alike, for each `seed`.
    """
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    widths = (features.shape[1], *([WIDTH] * LAYERS))
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [_linear(before, after, generator), nn.ReLU()]
    network = nn.Sequential(*layers, _linear(WIDTH, 1, generator))
    x = torch.tensor(features, dtype=torch.float32)
    share = torch.tensor(unsafe / draws, dtype=torch.float32)[:, None]
    loss = nn.BCEWithLogitsLoss()
    steps = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    for _ in range(EPOCHS):
        order = torch.randperm(len(x), generator=generator)
        for start in range(0, len(x), BATCH):
            batch = order[start : start + BATCH]
            steps.zero_grad()
            loss(network(x[batch]), share[batch]).backward()
            steps.step()
    with torch.no_grad():
        logits = network(torch.tensor(everyone, dtype=torch.float32))[:, 0].double()
    p: NDArray[np.float64] = torch.sigmoid(logits).numpy()
    return np.clip(p, LEAST, 1 - LEAST)


def _linear(before: int, after: int, generator: torch.Generator) -> nn.Linear:
    """A layer with weights and biases uniform on +-1 / sqrt(inputs), as torch has them."""
    import torch
    from torch import nn

    layer = nn.Linear(before, after)
    with torch.no_grad():
        for values in (layer.weight, layer.bias):
            values.uniform_(-(before**-0.5), before**-0.5, generator=generator)
    return layer
