"""Every product is exact, by finite differences, by dense double backward and in closed form; or it is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import normscope as ns
from curvature import zoo
from curvature.oracles import Expected, Function, assert_close_to, dense, directions
from normscope.curvature import MACHINERIES, GGNOperator, HessianOperator

OPERATORS: dict[str, Any] = {"hessian": HessianOperator, "ggn": GGNOperator}


def function_of(case: zoo.Case, model: nn.Module, mode: str) -> Function:
    return Function(model, case.loss, case.batch, mode=mode, forward=case.forward)


@pytest.mark.parametrize(
    ("name", "mode", "kind"),
    [(name, mode, kind) for name, case in zoo.CASES.items() for mode in case.modes for kind in case.kinds],
)
def test_each_machinery_is_exact(name: str, mode: str, kind: str) -> None:
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


@pytest.mark.parametrize(
    ("row", "mode"),
    [
        (row, mode)
        for row in zoo.ROWS.values()
        for mode in ("train", "eval")
        if mode == "train" or row.evaluation == "running"
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_each_row_is_exact_in_a_wide_resnet(row: Any, mode: str) -> None:
    draw = torch.Generator().manual_seed(0)
    model = ns.models.WideResNet(1, 3, depth=8, widen_factor=1, normalizer=row, generator=draw)
    zoo.randomized(model, scale=0.02)
    # The last blocks see a quarter of each side. Over one position, two values of a group are +1 and -1, whose
    # derivatives cancel but for rounding, and one value of a channel is refused.
    side = 8 if row.scale in ("group", "instance") else 4
    batch = torch.randn(5, 1, side, side, generator=draw, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    function = Function(model, F.cross_entropy, batch, mode=mode)

    operator = HessianOperator(model, F.cross_entropy, batch, mode=mode)

    V = directions(operator.size, 1)
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
