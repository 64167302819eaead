from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

import normscope as ns
from normscope.nn import switches
from normscope.nn.switches import switch
from normscope.nn.switches.variance import batch_variance_penalty

from .networks import FEATURES, draw, switched_mlp

WEIGHT = 0.7


def network(row: str, weight: float = WEIGHT) -> nn.Module:
    return switched_mlp(ns.normalizer(row), [switch("variance_penalty", weight=weight)])[0]


def preactivations(model: nn.Module, x: Tensor) -> list[Tensor]:
    """What arrives at each site, computed layer by layer."""
    seen = []
    for affine, norm in zip(model.affines, model.norms, strict=True):
        seen.append(affine(x))
        x = norm(seen[-1]).relu()
    return seen


def spread(z: Tensor) -> Tensor:
    return (z.var(0, correction=0) - 1).square().mean()


@pytest.mark.parametrize("row", ["none", "layernorm"])
def test_the_penalty_is_the_sum_of_both_terms_over_sites(row):
    model, x = network(row), draw(9, FEATURES)
    expected = sum(z.mean(0).square().mean() + WEIGHT * spread(z) for z in preactivations(model, x))
    torch.testing.assert_close(ns.nn.Penalised(model)(x)[1], expected)


def test_a_row_with_a_penalty_of_its_own_gets_the_second_term_alone():
    model, x = network("regnorm"), draw(9, FEATURES)
    expected = torch.zeros((), dtype=torch.float64)
    for z in preactivations(model, x):
        normalized = z / (z.square().mean(1, keepdim=True) + 1e-5).sqrt()
        expected = expected + normalized.mean(0).square().mean() + WEIGHT * spread(z)
    torch.testing.assert_close(ns.nn.Penalised(model)(x)[1], expected)


def test_at_weight_zero_regnorms_term_is_left():
    model, x = network("none", weight=0.0), draw(9, FEATURES)
    expected = sum(z.mean(0).square().mean() for z in preactivations(model, x))
    torch.testing.assert_close(ns.nn.Penalised(model)(x)[1], expected)


def test_it_is_zero_exactly_at_unit_variance():
    z = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]]).expand(4, 5)
    assert batch_variance_penalty(z) == 0
    assert batch_variance_penalty(2 * z) == 9
    assert batch_variance_penalty(z.unsqueeze(-1).expand(4, 5, 3)) == 0


def test_positions_are_neurons():
    z = draw(6, 5, 3, 2)
    torch.testing.assert_close(batch_variance_penalty(z), spread(z.flatten(1)))


def test_it_is_twice_differentiable_and_reaches_earlier_layers():
    row = switches.apply(
        ns.normalizer("none"), [switch("variance_penalty", weight=WEIGHT)], generator=torch.Generator()
    )

    def penalty_of(x: Tensor) -> Tensor:
        return ns.nn.Penalised(row.site(5, 2))(x)[1]

    x = draw(4, 5).requires_grad_()
    assert gradcheck(penalty_of, x)
    assert gradgradcheck(penalty_of, x)

    model, x = network("none"), draw(9, FEATURES)
    (gradient,) = torch.autograd.grad(ns.nn.Penalised(model)(x)[1], model.affines[0].weight)
    assert gradient.abs().min() > 0


def test_a_plain_loop_reads_it_too():
    for row in ("none", "regnorm"):
        model = network(row)
        for step in range(2):
            x = draw(9, FEATURES, seed=step)
            _, expected = ns.nn.Penalised(model)(x)
            model(x)
            torch.testing.assert_close(ns.penalty(model), expected)


def test_the_outputs_are_the_plain_ones_and_eval_mode_has_no_penalty():
    model, x = network("layernorm"), draw(9, FEATURES)
    outputs, _ = ns.nn.Penalised(model)(x)
    assert torch.equal(outputs, network("layernorm", weight=0.0)(x))
    assert ns.nn.Penalised(model.eval())(x)[1] == 0


def test_an_empty_batch_has_none():
    model = network("none")
    assert ns.nn.Penalised(model)(draw(0, FEATURES))[1] == 0


def test_half_precision_is_taken_in_float32():
    z = 30 * draw(9, 5).bfloat16()
    torch.testing.assert_close(batch_variance_penalty(z), batch_variance_penalty(z.float()))
    assert batch_variance_penalty(z).dtype == torch.float32
