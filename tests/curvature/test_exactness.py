"""Every product is exact, by finite differences, by dense double backward and in closed form; or it is refused."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import parametrizations

import normscope as ns
from curvature import zoo
from curvature.oracles import Function, assert_close_to, dense
from normscope.curvature import MACHINERIES, CurvatureOperator, GGNOperator, HessianOperator

OPERATORS: dict[str, Any] = {"hessian": HessianOperator, "ggn": GGNOperator}


def directions(size: int, count: int = 3) -> Tensor:
    draw = torch.Generator().manual_seed(3)
    V = torch.randn(size, count, generator=draw, dtype=torch.float64)
    return V / V.norm(dim=0)


class Expected:
    """What the oracles say of the products with some directions."""

    def __init__(self, kind: str, function: Function, *, double_backward: bool = True) -> None:
        self.V = directions(len(function.theta))
        self._products: list[tuple[Tensor, float]] = []  # and how exact they are
        if kind == "ggn":
            self._products.append((function.ggn() @ self.V, 1e-10))
        else:
            self._products.append((function.products_by_differences(self.V), 1e-6))
            if double_backward:
                self._products.append((function.products_by_autograd(self.V), 1e-10))

    def assert_products(self, operator: CurvatureOperator) -> None:
        products = operator.matmat(self.V)
        for expected, tolerance in self._products:
            assert_close_to(products, expected, tolerance=tolerance)
        inner = self.V.T @ products
        assert_close_to(inner, inner.T, tolerance=1e-12)


def function_of(case: zoo.Case, model: nn.Module, mode: str) -> Function:
    return Function(model, case.loss, case.batch, mode=mode, forward=case.forward)


@pytest.mark.parametrize(("name", "mode"), [(name, mode) for name, case in zoo.CASES.items() for mode in case.modes])
@pytest.mark.parametrize("kind", OPERATORS)
def test_each_machinery_is_exact(kind: str, name: str, mode: str) -> None:
    case = zoo.CASES[name]
    model = zoo.randomized(case.build())
    expected = Expected(kind, function_of(case, model, mode), double_backward=case.double_backward)

    for machinery in MACHINERIES:
        options = {"mode": mode, "forward": case.forward, "machinery": machinery}
        if machinery in case.refused:
            with pytest.raises(ValueError, match="exact or refused"):
                OPERATORS[kind](model, case.loss, case.batch, **options)
            continue
        expected.assert_products(OPERATORS[kind](model, case.loss, [case.batch], **options))


@pytest.mark.parametrize("name", [name for name, case in zoo.CASES.items() if case.refused])
@pytest.mark.parametrize("kind", OPERATORS)
def test_auto_finds_a_machinery_where_another_is_refused(kind: str, name: str) -> None:
    case = zoo.CASES[name]
    model = zoo.randomized(case.build())

    operator = OPERATORS[kind](model, case.loss, [case.batch], forward=case.forward)

    Expected(kind, function_of(case, model, "train"), double_backward=case.double_backward).assert_products(operator)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("row", ns.normalizers(), ids=lambda row: row.name)
def test_each_row_is_exact_in_a_wide_resnet(row: Any, mode: str) -> None:
    draw = torch.Generator().manual_seed(0)
    model = ns.models.WideResNet(1, 3, depth=8, widen_factor=1, normalizer=row, generator=draw)
    zoo.randomized(model, scale=0.02)
    batch = torch.randn(5, 1, 4, 4, generator=draw, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    function = Function(model, F.cross_entropy, batch, mode=mode)

    operator = HessianOperator(model, F.cross_entropy, batch, mode=mode)

    V = directions(operator.size, 2)
    products = operator.matmat(V)
    assert_close_to(products, function.products_by_autograd(V), tolerance=1e-10)
    assert_close_to(products, function.products_by_differences(V), tolerance=1e-5)


@pytest.mark.parametrize("kind", OPERATORS)
def test_the_dense_matrix_is_the_one_of_double_backward(kind: str) -> None:
    case = zoo.CASES["row_batchnorm_conv"]
    model = zoo.randomized(case.build())
    function = function_of(case, model, "train")

    matrix = dense(OPERATORS[kind](model, case.loss, case.batch))

    expected = function.hessian_by_autograd() if kind == "hessian" else function.ggn()
    assert_close_to(matrix, expected, tolerance=1e-11)
    assert_close_to(matrix, matrix.T, tolerance=1e-13)
    if kind == "hessian":
        assert_close_to(matrix, function.hessian_by_differences(), tolerance=1e-6)


# Closed forms


def test_linear_regression_has_the_second_moment_of_its_inputs_for_each_output() -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = (torch.randn(9, columns, generator=draw, dtype=torch.float64) for columns in (4, 3))
    model = nn.Linear(4, 3, bias=False).double()
    half_square = lambda outputs, targets: 0.5 * (outputs - targets).square().sum(1).mean()  # noqa: E731

    expected = torch.kron(torch.eye(3, dtype=torch.float64), x.T @ x / 9)

    for operator in OPERATORS.values():
        assert_close_to(dense(operator(model, half_square, (x, y))), expected, tolerance=1e-14)


def test_softmax_regression_has_the_covariance_of_its_classes_times_the_inputs() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(9, 4, generator=draw, dtype=torch.float64)
    y = torch.randint(3, (9,), generator=draw)
    model = nn.Linear(4, 3, bias=False).double()
    p = model(x).softmax(1).detach()

    covariance = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    expected = sum(torch.kron(c, torch.outer(row, row)) for c, row in zip(covariance, x, strict=True)) / 9

    for operator in OPERATORS.values():
        assert_close_to(dense(operator(model, F.cross_entropy, (x, y))), expected, tolerance=1e-13)


class Point(nn.Module):
    """A vector of parameters; the inputs do not matter."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta)

    def forward(self, x: Tensor) -> Tensor:
        return self.theta


def test_a_quadratic_has_its_own_matrix() -> None:
    A = torch.tensor([[2.0, -1.0, 0.5], [-1.0, -3.0, 0.0], [0.5, 0.0, 1.0]], dtype=torch.float64)
    model = Point(torch.tensor([0.3, -2.0, 5.0], dtype=torch.float64))

    operator = HessianOperator(model, lambda theta, _: 0.5 * theta @ A @ theta, (torch.zeros(1), None))

    assert_close_to(dense(operator), A, tolerance=1e-15)


def test_a_linear_loss_has_no_curvature() -> None:
    model = nn.Linear(4, 3).double()
    for operator in OPERATORS.values():
        assert torch.equal(
            dense(operator(model, lambda out, _: out.mean(), zoo.features())), torch.zeros(15, 15).double()
        )


@pytest.mark.parametrize("name", ["row_batchnorm_mlp", "relu", "multihead_attention", "lstm"])
def test_the_ggn_is_positive_semidefinite_where_the_hessian_is_not(name: str) -> None:
    case = zoo.CASES[name]
    model = zoo.randomized(case.build())

    ggn = torch.linalg.eigvalsh(dense(GGNOperator(model, case.loss, [case.batch])))
    hessian = torch.linalg.eigvalsh(dense(HessianOperator(model, case.loss, [case.batch])))

    assert ggn[0] > -1e-13 * ggn[-1]
    assert hessian[0] < -1e-3 * hessian[-1]


# Layers that need care


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


REFUSED = {
    "straight_through": (lambda: with_activation(StraightThrough), zoo.features(), r"the layer 1 \(Activation\)"),
    "surrogate": (lambda: with_activation(Surrogate), zoo.features(), r"the layer 1 \(Activation\)"),
    "once_differentiable": (lambda: with_activation(Once), zoo.features(), r"the layer 1 \(Activation\)"),
    "quantized_weight": (Scaled, zoo.features(), r"the layer quantized \(Quantized\)"),
    "spectral_norm": (spectral, zoo.features(), "the layer 0"),
    "embedding_bag": (Bags, (zoo.tokens()[0], torch.tensor([0, 1, 2, 0])), r"the layer bag \(EmbeddingBag\)"),
    "embedding_scaled_by_frequency": (
        lambda: nn.Sequential(nn.Embedding(5, 3, scale_grad_by_freq=True), nn.Flatten(), nn.Linear(9, 3)),
        (torch.tensor([[0, 0, 1], [1, 1, 1]]), torch.tensor([0, 1])),
        r"the layer 0 \(Embedding\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("kind", OPERATORS)
def test_a_layer_without_an_exact_second_derivative_is_refused_by_name(kind: str, name: str) -> None:
    build, batch, match = REFUSED[name]
    with pytest.raises(ValueError, match=f"{kind} are exact or refused, and {match}") as raised:
        OPERATORS[kind](zoo.randomized(build()), F.cross_entropy, [batch])
    assert "\n" not in str(raised.value)


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


# Precision


@pytest.mark.parametrize("name", ["row_batchnorm_conv", "silu", "lstm", "gru", "rnn", "transformer"])
@pytest.mark.parametrize("kind", OPERATORS)
def test_float32_products_are_those_of_float64_up_to_rounding(kind: str, name: str) -> None:
    case = zoo.CASES[name]
    model = zoo.randomized(case.build()).float()
    inputs, targets = case.batch[0].float(), case.batch[1]
    wide = OPERATORS[kind](model, case.loss, (inputs, targets), dtype=torch.float64)
    V = directions(wide.size)

    for machinery in MACHINERIES:
        narrow = OPERATORS[kind](model, case.loss, (inputs, targets), machinery=machinery)
        products = narrow.matmat(V.float())
        assert products.dtype == narrow.dtype == torch.float32
        assert_close_to(products.double(), wide.matmat(V), tolerance=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_model_is_multiplied_in_float32(dtype: torch.dtype) -> None:
    model = zoo.randomized(zoo.mlp(nn.LayerNorm)).to(dtype)
    x, y = zoo.features()
    same_numbers = zoo.mlp(nn.LayerNorm)
    same_numbers.load_state_dict({name: value.double() for name, value in model.state_dict().items()})
    function = Function(same_numbers.double(), F.cross_entropy, (x.to(dtype).double(), y))

    operator = HessianOperator(model, F.cross_entropy, (x.to(dtype), y))

    assert operator.dtype == torch.float32
    assert_close_to(dense(operator).double(), function.hessian_by_autograd(), tolerance=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize(
    "name", ["row_batchnorm_conv", "row_layernorm_conv", "silu", "transformer", "lstm", "gru", "tied"]
)
@pytest.mark.parametrize("kind", OPERATORS)
def test_products_on_a_gpu_are_those_of_the_cpu(kind: str, name: str) -> None:
    case = zoo.CASES[name]
    model = zoo.randomized(case.build())
    V = directions(sum(parameter.numel() for parameter in model.parameters()))
    expected = OPERATORS[kind](model, case.loss, [case.batch]).matmat(V)
    inputs, targets = (tensor.cuda() for tensor in case.batch)

    for machinery in MACHINERIES:
        operator = OPERATORS[kind](model.cuda(), case.loss, [(inputs, targets)], machinery=machinery)
        assert operator.device.type == "cuda"
        assert_close_to(operator.matmat(V.cuda()).cpu(), expected, tolerance=1e-9)
