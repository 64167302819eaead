"""What torch's own derivatives lack or get wrong, each as a test that fails once a release mends it; and our own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.backends import cudnn, mkldnn

from normscope.curvature import exact
from normscope.curvature.exact import exact_rules


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights() -> Tensor:
    return draw(4, seed=3)


# torch's function, ours, and the tensors both are differentiated by.
PAIRS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], list[Tensor]]] = {
    "group_norm": (
        lambda x, w, b: F.group_norm(x, 2, w, b, 1e-3),
        lambda x, w, b: exact.group_norm(x, 2, w, b, 1e-3),
        [draw(3, 4, 5), weights(), weights()],
    ),
    "group_norm_plain": (lambda x: F.group_norm(x, 4), lambda x: exact.group_norm(x, 4), [draw(3, 4, 2, 2)]),
    "group_norm_flat": (lambda x: F.group_norm(x, 1), lambda x: exact.group_norm(x, 1), [draw(3, 4)]),
    "silu": (F.silu, exact.silu, [draw(50)]),
    "mish": (F.mish, exact.mish, [draw(50)]),
    "weight_norm": (torch._weight_norm, exact.weight_norm, [draw(3, 4, 2), draw(3, 1, 1)]),
    "weight_norm_along_1": (
        lambda v, g: torch._weight_norm(v, g, 1),
        lambda v, g: exact.weight_norm(v, g, 1),
        [draw(3, 4, 2), draw(1, 4, 1)],
    ),
    "embedding": (
        lambda w: F.embedding(torch.tensor([[0, 2], [1, 2]]), w),
        lambda w: exact.embedding(torch.tensor([[0, 2], [1, 2]]), w, constants={}),
        [draw(3, 4)],
    ),
    "embedding_padded": (
        lambda w: F.embedding(torch.tensor([[0, 2], [1, 2]]), w, -1),
        lambda w: exact.embedding(torch.tensor([[0, 2], [1, 2]]), w, -1, constants={}),
        [draw(3, 4)],
    ),
}


def differentiated(function: Callable[..., Tensor], tensors: list[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    value = function(*leaves)
    return value, torch.autograd.grad(value, leaves, draw(*value.shape, seed=9))


@pytest.mark.parametrize("name", PAIRS)
def test_ours_is_torchs_in_value_and_gradient(name: str) -> None:
    theirs, ours, tensors = PAIRS[name]
    (value, gradients), (expected, expected_gradients) = differentiated(ours, tensors), differentiated(theirs, tensors)
    torch.testing.assert_close(value, expected, rtol=1e-13, atol=1e-14)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", [name for name in PAIRS if name != "embedding_padded"])
def test_ours_has_right_derivatives_of_first_and_second_order_in_both_modes(name: str) -> None:
    _, ours, tensors = PAIRS[name]
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    weights = draw(*ours(*leaves).shape, seed=9).requires_grad_()
    assert torch.autograd.gradcheck(ours, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(ours, leaves, weights, check_fwd_over_rev=True)


def test_hardsigmoid_is_torchs_up_to_its_float32_constant() -> None:
    x = draw(50) * 3
    (value, (gradient,)), (expected, (other,)) = (
        differentiated(exact.hardsigmoid, [x]),
        differentiated(F.hardsigmoid, [x]),
    )
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(gradient, other, rtol=1e-7, atol=0)


def test_a_padding_row_is_read_where_the_constants_say() -> None:
    weight, fixed = draw(3, 4), draw(3, 4, seed=1)
    found = exact.embedding(torch.tensor([0, 2]), weight, 2, constants={id(weight): fixed})
    assert torch.equal(found, torch.stack([weight[0], fixed[2]]))


def test_ours_refuses_groups_as_torch_does() -> None:
    with pytest.raises(RuntimeError, match="divisible by num_groups"):
        exact.group_norm(draw(2, 4), 3)


# What torch lacks


def double_forward(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The tangent of the gradient."""
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x.clone().requires_grad_(), torch.ones_like(x))
        (gradient,) = torch.autograd.grad(function(dual).square().sum(), dual)
        return forward_ad.unpack_dual(gradient).tangent


def double_backward(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
    return torch.autograd.grad(gradient.sum(), x)[0]


def by_differences(function: Callable[[Tensor], Tensor], x: Tensor, step: float = 1e-6) -> Tensor:
    def gradient(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(function(x).square().sum(), x)[0]

    return (gradient(x + step) - gradient(x - step)) / (2 * step)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.group_norm(x, 2),
        lambda x: torch.group_norm(x, 2),
        F.silu,
        torch._C._nn.silu,
        F.mish,
        torch._C._nn.mish,
    ],
    ids=["group_norm", "torch_group_norm", "silu", "native_silu", "mish", "native_mish"],
)
def test_torch_has_no_forward_derivative_of_these_backward_passes(function: Callable[[Tensor], Tensor]) -> None:
    x = draw(3, 4)
    with pytest.raises(NotImplementedError, match="forward AD"):
        double_forward(function, x)
    with exact_rules({}):
        torch.testing.assert_close(double_forward(function, x), by_differences(function, x), rtol=1e-6, atol=1e-7)


def test_torch_has_no_second_derivative_of_hardsigmoid() -> None:
    with pytest.raises(RuntimeError, match="hardsigmoid_backward"):
        double_backward(F.hardsigmoid, draw(3, 4))
    with exact_rules({}):
        assert double_backward(F.hardsigmoid, draw(3, 4)).abs().max() == pytest.approx(2 / 36)


def test_torch_has_no_second_derivative_of_fused_attention() -> None:
    attend = lambda x: F.scaled_dot_product_attention(x, x, x)  # noqa: E731
    x = draw(2, 2, 3, 4)
    with pytest.raises(RuntimeError, match="not implemented"):
        double_backward(attend, x)
    with exact_rules({}):
        right = double_backward(attend, x)
        torch.testing.assert_close(right, by_differences(attend, x), rtol=1e-6, atol=1e-7)


def test_torch_gets_the_second_derivative_of_weight_norm_wrong() -> None:
    g = draw(3, 1).abs()
    function = lambda v: torch._weight_norm(v, g, 0)  # noqa: E731
    # The norm of each row is g whatever v is, so a fixed weighing of the entries gives it something to depend on.
    weighed = lambda v: function(v) + draw(3, 4, seed=5)  # noqa: E731
    wrong, right = double_backward(weighed, draw(3, 4)), by_differences(weighed, draw(3, 4))
    assert (wrong - right).abs().max() > 1e-2 * right.abs().max()
    with exact_rules({}):
        torch.testing.assert_close(double_backward(weighed, draw(3, 4)), right, rtol=1e-6, atol=1e-7)


def test_torch_gives_a_padding_row_no_gradient_while_others_depend_on_it() -> None:
    weight = draw(2, 3).requires_grad_()
    found = F.embedding(torch.tensor([0, 1]), weight, padding_idx=1)
    (gradient,) = torch.autograd.grad(found.prod(0).sum(), weight)
    assert not gradient[1].any()
    assert torch.equal(gradient[0], weight[1])


@pytest.mark.skipif(not mkldnn.is_available(), reason="without oneDNN there is no fused layer")
def test_torch_has_no_forward_derivative_of_fused_recurrent_layers() -> None:
    core = nn.LSTM(4, 3)
    x = draw(2, 2, 4).float()
    with pytest.raises(NotImplementedError, match="mkldnn_rnn_layer"):
        double_forward(lambda x: core(x)[0], x)
    with exact_rules({}):
        torch.testing.assert_close(
            double_forward(lambda x: core(x)[0], x), double_backward(lambda x: core(x)[0], x), rtol=1e-4, atol=1e-6
        )


def test_libraries_are_switched_off_while_a_recurrent_layer_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mkldnn, "enabled", True)
    monkeypatch.setattr(cudnn, "enabled", True)
    before = (True, True)
    assert exact._by_native_kernels(lambda: (mkldnn.enabled, cudnn.enabled))() == (False, False)
    assert (mkldnn.enabled, cudnn.enabled) == before

    def failing() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        exact._by_native_kernels(failing)()
    assert (mkldnn.enabled, cudnn.enabled) == before


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.SiLU(inplace=True), draw(5)),
        (nn.Mish(inplace=True), draw(5)),
        (nn.Hardsigmoid(inplace=True), draw(5)),
        (nn.GroupNorm(2, 4), draw(2, 4)),
    ],
    ids=["silu", "mish", "hardsigmoid", "group_norm"],
)
def test_modules_compute_by_the_rules_inside_and_as_ever_outside(layer: nn.Module, x: Tensor) -> None:
    layer = layer.double()
    tangent = lambda: double_forward(lambda x: layer(x * 1), x)  # noqa: E731
    with exact_rules({}):
        tangent()
    with pytest.raises((NotImplementedError, RuntimeError), match="forward AD"):
        tangent()
