"""The cache goes to a model by the name that its own transformers version uses."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from tiny_models import network

from tailbound.errors import UsageError
from tailbound.huggingface.key_values import cache_argument, cache_of
from tailbound.targets.decoding.batched_model import BatchedModel


class _Old:
    def forward(self, input_ids: Any, past_key_values: Any = None) -> None: ...


class _New:
    def forward(self, input_ids: Any, cache: Any = None, **kwargs: Any) -> None: ...


class _Wrapper:
    def forward(self, *args: Any, **kwargs: Any) -> None: ...

    def get_base_model(self) -> Any:
        return _Old()


def test_the_forward_method_decides_the_name() -> None:
    assert cache_argument(_Old()) == "past_key_values"
    assert cache_argument(_New()) == "cache"
    assert cache_argument(_Wrapper()) == "past_key_values"


def test_output_fields_of_both_names_are_read() -> None:
    assert cache_of({"cache": 1}) == 1
    assert cache_of({"past_key_values": 2}) == 2
    assert cache_of({"logits": 3}) is None


def test_decoding_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BatchedModel(network("llama"))


def test_a_warning_is_not_taken_for_a_model_that_does_not_decode() -> None:
    model = network("llama")
    original = model.forward

    def forward(*args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        warnings.warn("this name goes away", FutureWarning, stacklevel=1)
        return original(*args, position_ids=position_ids, **kwargs)

    model.forward = forward
    with pytest.raises(FutureWarning, match="this name goes away"):
        BatchedModel(model)


def test_a_model_that_fails_without_a_cache_too_says_so() -> None:
    model = network("llama")

    def forward(*args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        raise RuntimeError("weights are on the moon")

    model.forward = forward
    with pytest.raises(UsageError, match=r"fails in a plain forward pass.*weights are on the moon"):
        BatchedModel(model)


def test_a_model_that_stores_nothing_in_the_cache_is_refused() -> None:
    model = network("llama")
    original = model.forward

    def forward(*args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        kwargs.pop(cache_argument(_Old() if "past_key_values" in kwargs else _New()), None)
        return original(*args, position_ids=position_ids, **{**kwargs, "use_cache": False})

    model.forward = forward
    with pytest.raises(UsageError, match="runs, but does not decode row by row"):
        BatchedModel(model)
    assert torch.isfinite(original(torch.tensor([[1]])).logits).all()
