"""Keys and values of many rows, each filled to its own length.

Column j of a row holds that row's token j, whatever the other rows do: rows need no padding, a
finished row is overwritten in place, and masking is "columns up to the row's own position".

Tensors of one shape (heads, dimension) live together in one bank, shape
(tensors, rows, heads, columns, dimension), so that copying a whole prompt is one operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each layer's keys and values live.

    `shapes[b]` is (heads, dimension) of bank b and `sizes[b]` its number of tensors; `places` maps
    (layer, 0 for keys or 1 for values) to (bank, index in the bank).
    """

    shapes: tuple[tuple[int, int], ...]
    sizes: tuple[int, ...]
    places: dict[tuple[int, int], tuple[int, int]]
    dtype: torch.dtype
    device: torch.device

    def empty(self, *lead: int, columns: int) -> list[Tensor]:
        """Uninitialised banks of shape (tensors, *lead, heads, columns, dimension)."""
        return [
            # zeros: a masked column still enters 0 * value, and 0 * (left-over NaN) is NaN
            torch.zeros(size, *lead, heads, columns, width, dtype=self.dtype, device=self.device)
            for size, (heads, width) in zip(self.sizes, self.shapes, strict=True)
        ]

    @property
    def bytes_per_token(self) -> int:
        """Memory of one token of one row."""
        elements = sum(
            size * heads * width
            for size, (heads, width) in zip(self.sizes, self.shapes, strict=True)
        )
        return elements * self.dtype.itemsize


class LayoutProbe(Cache):
    """Stands in for a cache during one forward pass and sees what the model would store."""

    def __init__(self) -> None:
        super().__init__(layers=[])
        self._seen: dict[tuple[int, int], Tensor] = {}

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Called by each attention layer."""
        self._seen[layer_idx, 0] = key_states
        self._seen[layer_idx, 1] = value_states
        return key_states, value_states

    def layout(self) -> Layout:
        """The layout of what was seen."""
        shapes: list[tuple[int, int]] = []
        sizes: list[int] = []
        places: dict[tuple[int, int], tuple[int, int]] = {}
        for place, tensor in self._seen.items():
            shape = (tensor.shape[1], tensor.shape[3])
            if shape not in shapes:
                shapes.append(shape)
                sizes.append(0)
            bank = shapes.index(shape)
            places[place] = (bank, sizes[bank])
            sizes[bank] += 1
        if not self._seen:
            raise ValueError("no layer stored keys and values in the cache that it was given")
        first = next(iter(self._seen.values()))
        return Layout(tuple(shapes), tuple(sizes), places, first.dtype, first.device)


class RowCache(Cache):
    """The cache that the model sees: the first rows of the banks, up to some column.

    All changes happen in inference mode: banks that grew in a forward pass can be changed in no
    other.
    """

    def __init__(self, layout: Layout, *, rows: int, columns: int) -> None:
        super().__init__(layers=[])
        self.layout = layout
        self.rows = rows
        self.columns = columns
        self._banks = layout.empty(rows, columns=columns)
        self._row_index = torch.arange(rows, device=layout.device)
        self._index_views()
        self._aim: tuple[Any, ...] = ()
        self._visible = (0, 0)

    def _index_views(self) -> None:
        self._views = {
            place: self._banks[bank][index] for place, (bank, index) in self.layout.places.items()
        }

    @torch.inference_mode()
    def reserve(self, columns: int, rows: int = 0) -> None:
        """Make room for `columns` tokens per row and for `rows` rows, keeping what is there."""
        if columns <= self.columns and rows <= self.rows:
            return
        wider, longer = self.columns, self.rows
        if columns > wider:
            wider = max(columns, wider + wider // 2)
        if rows > longer:
            longer = rows
            self._row_index = torch.arange(rows, device=self.layout.device)
        banks = self.layout.empty(longer, columns=wider)
        for new, old in zip(banks, self._banks, strict=True):
            new[:, : self.rows, :, : self.columns] = old
        self._banks, self.columns, self.rows = banks, wider, longer
        self._index_views()

    def aim(self, positions: Tensor, columns: int) -> None:
        """Say where the next forward pass writes: `positions` (rows, width) int64.

        Its attention sees columns 0 .. columns - 1 of as many rows.
        """
        rows, width = positions.shape
        self._visible = (rows, columns)
        if width == 1:
            self._aim = (self._row_index[:rows], slice(None), positions[:, 0])
        else:
            self._aim = (self._row_index[:rows, None], slice(None), positions)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Called by each attention layer: stores new tokens, returns all that may be attended."""
        keys, values = self._views[layer_idx, 0], self._views[layer_idx, 1]
        if key_states.shape[2] == 1:
            keys[self._aim] = key_states[:, :, 0]
            values[self._aim] = value_states[:, :, 0]
        else:
            keys[self._aim] = key_states.transpose(1, 2)
            values[self._aim] = value_states.transpose(1, 2)
        rows, columns = self._visible
        return keys[:rows, :, :columns], values[:rows, :, :columns]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens seen so far; models ask only where positions are not given."""
        return 0

    @torch.inference_mode()
    def load(self, row: int | slice, prefix: list[Tensor]) -> None:
        """Fill a row, or all rows of a slice, with the banks of a prefix (see `save`)."""
        length = prefix[0].shape[-2]
        for bank, part in zip(self._banks, prefix, strict=True):
            if isinstance(row, slice):
                bank[:, row, :, :length] = part[:, None]
            else:
                bank[:, row, :, :length] = part

    @torch.inference_mode()
    def save(self, row: int, length: int) -> list[Tensor]:
        """Copies of the first `length` columns of a row: (tensors, heads, length, dimension)."""
        return [bank[:, row, :, :length].clone() for bank in self._banks]

    @torch.inference_mode()
    def move(self, source: Tensor, destination: Tensor, columns: int) -> None:
        """Copy rows `source` (n,) over rows `destination` (n,), the first `columns` of them."""
        for bank in self._banks:
            bank[:, destination, :, :columns] = bank[:, source, :, :columns]
