from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from curvature import zoo
from normscope.curvature.parameters import Layout


def model() -> nn.Module:
    return nn.ModuleDict({"stem": nn.Linear(2, 3), "norm": nn.LayerNorm(3), "head": nn.Linear(3, 1, bias=False)})


@pytest.mark.parametrize(
    ("params", "names"),
    [
        (None, ("stem.weight", "stem.bias", "norm.weight", "norm.bias", "head.weight")),
        ("stem.*", ("stem.weight", "stem.bias")),
        ("*.weight", ("stem.weight", "norm.weight", "head.weight")),
        (["head.*", "stem.bias", "s*.bias"], ("stem.bias", "head.weight")),
        (lambda name, parameter: parameter.ndim == 1, ("stem.bias", "norm.weight", "norm.bias")),
    ],
)
def test_parameters_are_chosen_in_the_models_order(params: Any, names: tuple[str, ...]) -> None:
    layout = Layout.of(model(), params)
    assert layout.names == names
    assert layout.size == sum(dict(model().named_parameters())[name].numel() for name in names)


@pytest.mark.parametrize("params", ["stage1.*", ["stem.*", "stage1.*"], "STEM.*"])
def test_a_pattern_that_matches_nothing_is_refused(params: Any) -> None:
    with pytest.raises(ValueError, match=r"matches none of stem\.weight, .*, head\.weight\. Patterns are"):
        Layout.of(model(), params)


@pytest.mark.parametrize("params", [lambda name, parameter: False, []])
def test_an_empty_choice_is_refused(params: Any) -> None:
    with pytest.raises(ValueError, match=r"at least one parameter, but .* matches none of stem"):
        Layout.of(model(), params)


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one parameter"):
        Layout.of(nn.ReLU(), None)


def test_long_lists_of_names_are_cut() -> None:
    long = nn.ModuleList([nn.Linear(1, 1) for _ in range(4)])
    with pytest.raises(ValueError, match=r"2\.weight and 3 more\. Patterns"):
        Layout.of(long, "x")


def test_parameters_that_are_no_real_numbers_are_refused() -> None:
    odd = nn.Module()
    odd.code = nn.Parameter(torch.zeros(2, dtype=torch.int8), requires_grad=False)
    with pytest.raises(TypeError, match=r"floating-point parameters, but code is torch\.int8"):
        Layout.of(odd, None)


def test_a_tied_parameter_counts_once() -> None:
    assert Layout.of(zoo.TiedLanguageModel(), None).names == ("embedding.weight", "body.weight", "body.bias")


def test_split_is_the_inverse_of_flatten() -> None:
    layout = Layout.of(model(), None)
    vector = torch.arange(layout.size)
    parts = layout.split(vector)
    assert tuple(part.shape for part in parts) == layout.shapes
    assert torch.equal(layout.flatten(parts), vector)
    assert parts[0].untyped_storage().data_ptr() == vector.untyped_storage().data_ptr()
