from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curvature import zoo
from curvature.oracles import Function, assert_close_to
from curvature.test_risk import risk_of
from normscope.curvature import products
from normscope.curvature.parameters import Layout
from normscope.curvature.risk import Risk

PRODUCTS: dict[str, Callable[[Risk, list[Tensor]], list[Tensor]]] = {
    "hessian_tangent": products.hessian_tangent,
    "hessian_reverse": lambda risk, v: products.hessian_reverse(risk, products.leaves_of(risk.values))(v),
    "ggn_tangent": products.ggn_tangent,
    "ggn_reverse": lambda risk, v: products.ggn_reverse(risk, products.leaves_of(risk.values))(v),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_each_way_gives_the_product(name: str, generator: torch.Generator) -> None:
    model = zoo.randomized(zoo.mlp(nn.LayerNorm, nn.GELU()))
    risk, function = risk_of(model), Function(model, F.cross_entropy, zoo.features())
    matrix = function.ggn() if name.startswith("ggn") else function.hessian_by_autograd()
    v = torch.randn(len(matrix), generator=generator, dtype=torch.float64)
    assert_close_to(Layout.flatten(PRODUCTS[name](risk, risk.layout.split(v))), matrix @ v, tolerance=1e-11)


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_are_linear(name: str, generator: torch.Generator) -> None:
    risk = risk_of(zoo.randomized(zoo.mlp(nn.LayerNorm)))
    u, v = ([torch.randn(value.shape, generator=generator, dtype=value.dtype) for value in risk.values] for _ in "uv")
    together = PRODUCTS[name](risk, [2 * a - 3 * b for a, b in zip(u, v, strict=True)])
    apart = [2 * a - 3 * b for a, b in zip(PRODUCTS[name](risk, u), PRODUCTS[name](risk, v), strict=True)]
    assert_close_to(Layout.flatten(together), Layout.flatten(apart), tolerance=1e-12)


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_parameter_the_loss_is_linear_in_alone_has_a_product_of_zero(name: str) -> None:
    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return self.shift + x.sum()

    model = Apart().double()
    risk = risk_of(model)
    linear = Risk.of(
        type(risk.stand_in.subject)(model, lambda out, _: out.sum(), risk.batch), risk.layout, mode="train", dtype=None
    )
    assert torch.equal(PRODUCTS[name](linear, [torch.ones(1).double()])[0], torch.zeros(1).double())


@pytest.mark.parametrize("name", ["ggn_tangent", "ggn_reverse"])
def test_outputs_that_depend_on_nothing_are_refused(name: str) -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).detach()

    risk = risk_of(Detached().double())
    with pytest.raises(ValueError, match="outputs that depend on the chosen parameters through autograd"):
        PRODUCTS[name](risk, risk.values)


@pytest.mark.parametrize("name", ["ggn_tangent", "ggn_reverse"])
def test_outputs_without_a_gradient_stay_as_they_are(name: str, generator: torch.Generator) -> None:
    """Labels, masks and constants among the outputs reach the loss unchanged."""

    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> dict[str, object]:
            return {"keep": x[:, 0] > 0, "logits": self.layer(x), "scale": 2.0}

    def loss(outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        return (
            F.cross_entropy(outputs["logits"] * outputs["scale"], targets, reduction="none") * outputs["keep"]
        ).mean()

    model = Several().double()
    function = Function(model, loss, zoo.features())
    risk = Risk.of(
        type(risk_of(model).stand_in.subject)(model, loss, zoo.features()),
        Layout.of(model, None),
        mode="train",
        dtype=None,
    )
    v = torch.randn(15, generator=generator, dtype=torch.float64)
    product = Layout.flatten(PRODUCTS[name](risk, risk.layout.split(v)))
    assert_close_to(product, function.ggn() @ v, tolerance=1e-12)


def test_leaves_are_roots_with_the_same_numbers() -> None:
    value = torch.ones(2, requires_grad=True) * 3
    (leaf,) = products.leaves_of([value])
    assert leaf.is_leaf
    assert leaf.requires_grad
    assert torch.equal(leaf, value)
