"""Layers whose derivatives need care: exact, or refused by name."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import parametrizations

from curvature import zoo
from curvature.oracles import Expected, Function, assert_close_to, dense, directions
from normscope.curvature import MACHINERIES, GGNOperator, HessianOperator

OPERATORS: dict[str, Any] = {"hessian": HessianOperator, "ggn": GGNOperator}


@pytest.mark.parametrize("machinery", MACHINERIES)
def test_a_padding_row_is_a_constant(machinery: Any) -> None:
    model = zoo.randomized(nn.Sequential(nn.Embedding(5, 3, padding_idx=-3), nn.Linear(3, 5)))
    function = Function(model, zoo.token_loss, zoo.tokens())
    trained = torch.ones(5, 3, dtype=torch.bool)
    trained[2] = False
    trained = torch.cat([trained.flatten(), torch.ones(20, dtype=torch.bool)])

    matrix = dense(HessianOperator(model, zoo.token_loss, zoo.tokens(), machinery=machinery))

    by_differences = function.hessian_by_differences()
    assert by_differences[:, ~trained].abs().max() > 1e-3  # the others' gradients do depend on the row
    assert_close_to(matrix[trained][:, trained], by_differences[trained][:, trained], tolerance=1e-6)
    assert not matrix[~trained].any()
    assert not matrix[:, ~trained].any()


def test_a_padding_row_that_is_also_a_readout_is_differentiated_there() -> None:
    class Tied(zoo.TiedLanguageModel):
        def forward(self, x: Tensor) -> Tensor:
            self.embedding.padding_idx = 2
            return super().forward(x)

    model = zoo.randomized(Tied())

    operator = HessianOperator(model, zoo.token_loss, zoo.tokens())

    assert operator.size == 40
    expected = Function(model, zoo.token_loss, zoo.tokens()).hessian_by_autograd()
    assert_close_to(dense(operator), expected, tolerance=1e-10)
    assert expected[8:12].abs().max() > 1e-3


def test_sparse_embedding_gradients_make_no_difference() -> None:
    model = zoo.randomized(nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5)))
    expected = dense(HessianOperator(model, zoo.token_loss, zoo.tokens()))
    model[0].sparse = True

    assert_close_to(dense(HessianOperator(model, zoo.token_loss, zoo.tokens())), expected, tolerance=1e-13)


def test_both_weight_norms_are_exact_and_the_same() -> None:
    new = zoo.randomized(zoo.CASES["weight_norm"].build())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        old = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4)), nn.Tanh(), nn.Linear(4, 3)).double()
    names = {"0.bias": "0.bias", "0.weight_g": "0.parametrizations.weight.original0"}
    names |= {"0.weight_v": "0.parametrizations.weight.original1"}
    values = dict(new.named_parameters())
    with torch.no_grad():
        for name, parameter in old.named_parameters():
            parameter.copy_(values[names.get(name, name)])
    function = Function(new, F.cross_entropy, zoo.features())

    for kind, operator in OPERATORS.items():
        theirs, ours = (operator(model, F.cross_entropy, zoo.features()) for model in (new, old))
        Expected(kind, function, double_backward=False).assert_products(theirs)
        v = theirs.split(directions(theirs.size, 1).squeeze(1))
        product = ours.split(ours.matvec(ours.flatten({name: v[names.get(name, name)] for name in ours.names})))
        expected = theirs.split(theirs.matvec(theirs.flatten(v)))
        for name in ours.names:
            torch.testing.assert_close(product[name], expected[names.get(name, name)], rtol=1e-10, atol=1e-14)


def spectral() -> nn.Module:
    return zoo.randomized(nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 4)), nn.Tanh(), nn.Linear(4, 3)))


@pytest.mark.parametrize("kind", OPERATORS)
def test_spectral_norm_is_exact_where_its_vectors_are_fixed(kind: str) -> None:
    model = spectral()
    operator = OPERATORS[kind](model, F.cross_entropy, zoo.features(), mode="eval")
    Expected(kind, Function(model, F.cross_entropy, zoo.features(), mode="eval")).assert_products(operator)


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (4 * x).round() / 4

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Surrogate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x**3

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 3 * ctx.saved_tensors[0] ** 2 * gradient


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 3 * ctx.saved_tensors[0] ** 2 * gradient


class Activation(nn.Module):
    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self._function = function

    def forward(self, x: Tensor) -> Tensor:
        return self._function.apply(x)


class Quantized(nn.Module):
    """Its inner layer holds the weight, and is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor, *, scale: float) -> Tensor:
        return scale * F.linear(x, StraightThrough.apply(self.inner.weight), self.inner.bias)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quantized, self.readout = Quantized(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(torch.tanh(self.quantized(x, scale=2.0)))


class Bags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag, self.readout = nn.EmbeddingBag(5, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(torch.tanh(self.bag(x)))


def with_activation(function: type[torch.autograd.Function]) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), Activation(function), nn.Linear(4, 3))


# The Gauss-Newton matrix sees first derivatives alone, which spectral norm has once its vectors have converged.
HESSIAN_ALONE = {"spectral_norm"}
REFUSED = {
    "straight_through": (lambda: with_activation(StraightThrough), zoo.features(), r"the layer 1 \(Activation\)"),
    "surrogate": (lambda: with_activation(Surrogate), zoo.features(), r"the layer 1 \(Activation\)"),
    "once_differentiable": (lambda: with_activation(Once), zoo.features(), r"the layer 1 \(Activation\)"),
    "quantized_weight": (Scaled, zoo.features(), r"the layer quantized \(Quantized\)"),
    "spectral_norm": (spectral, zoo.features(), "the layer 0"),
    "embedding_bag": (Bags, (zoo.tokens()[0], torch.tensor([0, 1, 2, 0])), r"the layer bag \(EmbeddingBag\)"),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in REFUSED for kind in OPERATORS if kind == "hessian" or name not in HESSIAN_ALONE],
)
def test_a_layer_without_an_exact_second_derivative_is_refused_by_name(name: str, kind: str) -> None:
    build, batch, match = REFUSED[name]
    with pytest.raises(ValueError, match=f"{kind} are exact or refused, and {match}") as raised:
        OPERATORS[kind](zoo.randomized(build()), F.cross_entropy, [batch])
    assert "\n" not in str(raised.value)


def test_a_gradient_that_is_no_gradient_is_refused() -> None:
    model = nn.Sequential(nn.Embedding(5, 3, scale_grad_by_freq=True), nn.Flatten(), nn.Linear(9, 3)).double()
    batch = torch.tensor([[0, 0, 1], [1, 1, 1]]), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="exact or refused"):
        HessianOperator(model, F.cross_entropy, batch)


def test_a_loss_without_an_exact_second_derivative_is_refused() -> None:
    surrogate = lambda outputs, targets: F.cross_entropy(Surrogate.apply(outputs), targets)  # noqa: E731
    with pytest.raises(ValueError, match="the model outside its layers, or its loss, has no exact"):
        HessianOperator(zoo.mlp().double(), surrogate, zoo.features())


@pytest.mark.parametrize("kind", OPERATORS)
def test_a_custom_function_with_a_right_backward_is_exact(kind: str) -> None:
    model = zoo.randomized(with_activation(Cube))
    operator = OPERATORS[kind](model, F.cross_entropy, zoo.features())
    Expected(kind, Function(model, F.cross_entropy, zoo.features())).assert_products(operator)
    assert "jvp" in operator.report.refused["linearized"]


def test_reentrant_checkpoints_are_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"use_reentrant=True arrived.*use_reentrant=False"):
        HessianOperator(zoo.Checkpointed(zoo.mlp(), use_reentrant=True).double(), F.cross_entropy, zoo.features())
