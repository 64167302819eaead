from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from normscope import theory
from normscope.models import MLP
from normscope.nn import normalizer, normalizers

COSINES = torch.tensor([-0.9, -0.3, 0.0, 0.4, 0.995], dtype=torch.float64)


def quadrature(c: float) -> float:
    """E[relu(u) relu(v)] in polar coordinates: the radius by hand (1 / pi), the angle by Gauss-Legendre."""
    between = math.acos(c)
    low, high = between - math.pi / 2, math.pi / 2  # where both are positive
    nodes, weights = np.polynomial.legendre.leggauss(40)
    angles = (high - low) / 2 * nodes + (high + low) / 2
    return float((high - low) / 2 * (weights * np.cos(angles) * np.cos(angles - between)).sum() / math.pi)


@pytest.mark.parametrize("c", [-1.0, *COSINES.tolist(), 1.0])
def test_the_kernel_is_the_second_moment_of_two_relus(c):
    assert theory.relu_kernel(torch.tensor(c, dtype=torch.float64)).item() == pytest.approx(quadrature(c), abs=1e-14)


def test_the_kernel_is_nan_where_there_is_no_cosine():
    assert theory.relu_kernel(torch.tensor([-1.1, 1.1])).isnan().all()


@pytest.mark.parametrize(
    ("function", "slope"),
    [
        (theory.relu_kernel, theory.relu_kernel_slope),
        (theory.ordered_map, theory.ordered_slope),
        (theory.chaotic_map, theory.chaotic_slope),
    ],
)
def test_slopes_are_the_derivatives(function, slope):
    c = COSINES.clone().requires_grad_()
    (derivative,) = torch.autograd.grad(function(c).sum(), c)
    torch.testing.assert_close(slope(COSINES), derivative)


def test_fixed_points_and_their_slopes():
    zero, one = torch.tensor(0.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    assert theory.ordered_map(one).item() == pytest.approx(1)
    assert theory.ordered_slope(one).item() == pytest.approx(1)
    assert theory.chaotic_map(one).item() == pytest.approx(1)
    assert theory.chaotic_slope(one).item() == pytest.approx(1.4669, abs=1e-4)
    assert theory.chaotic_map(zero).item() == pytest.approx(0, abs=1e-16)
    assert theory.chaotic_slope(zero).item() == pytest.approx(0.7335, abs=1e-4)


def test_propagation_gives_the_published_numbers():
    """Section 1.6 of the reconstruction of arXiv:2010.10687, after 0, 4, 9, ... 39 layers from 0.995."""
    chaotic = theory.propagate(theory.chaotic_map, 0.995, 40)[[0, 4, 9, 14, 19, 24, 29, 39]]
    expected = torch.tensor([0.995, 0.979, 0.898, 0.652, 0.298, 0.086, 0.020, 0.001], dtype=torch.float64)
    torch.testing.assert_close(chaotic, expected, atol=6e-4, rtol=0)
    ordered = theory.propagate(theory.ordered_map, 0.995, 40)
    assert ordered[-1].item() == pytest.approx(0.998, abs=6e-4)
    assert (ordered.dtype, ordered.shape) == (torch.float64, (40,))


def test_order_comes_by_a_power_of_depth():
    depth = 5000
    last = theory.propagate(theory.ordered_map, 0.5, depth)[-1].item()
    assert (1 - last) * depth**2 == pytest.approx(9 * math.pi**2 / 2, rel=0.02)


@pytest.mark.parametrize("one_layer", [theory.ordered_map, theory.chaotic_map])
def test_equal_inputs_stay_equal_and_rounding_never_leaves_the_domain(one_layer):
    cosines = theory.propagate(one_layer, 1.0, 50)
    torch.testing.assert_close(cosines, torch.ones(50, dtype=torch.float64))
    assert cosines.max() <= 1


def test_growth_is_the_slope_at_one():
    one = torch.tensor(1.0, dtype=torch.float64)
    assert theory.gradient_growth("ordered") == pytest.approx(theory.ordered_slope(one).item())
    assert theory.gradient_growth("chaotic") == pytest.approx(theory.chaotic_slope(one).item())
    assert theory.gradient_growth("chaotic") == pytest.approx(math.pi / (math.pi - 1)) == theory.CHAOTIC_GROWTH


def measure(name: str, *, depth: int = 14, width: int = 768, examples: int = 96) -> tuple[torch.Tensor, float]:
    """Cosine by layer of a batch and a noisy copy, and growth per layer of squared gradients, in one real network."""
    generator = torch.Generator().manual_seed(0)
    model = MLP(width, 10, depth=depth, width=width, normalizer=normalizer(name), generator=generator)
    x = torch.randn(examples, width, generator=generator)
    noise = torch.randn(x.shape, generator=generator)
    targets = torch.randint(10, (examples,), generator=generator)
    outputs: list[torch.Tensor] = []
    for norm in model.norms:
        norm.register_forward_hook(lambda _m, _x, y: outputs.append(y))
    loss = F.cross_entropy(model(x), targets)
    gradients = [gradient.norm().item() for gradient in torch.autograd.grad(loss, outputs)]
    with torch.no_grad():
        model(x + 0.1 * noise)
    cosines = [F.cosine_similarity(outputs[i].flatten(), outputs[i + depth].flatten(), dim=0) for i in range(depth)]
    # The last layers are left out: a loss of few logits does not yet look random to them.
    return torch.stack(cosines).detach().double(), (gradients[2] / gradients[-4]) ** (2 / (depth - 6))


@pytest.mark.parametrize("name", [row.name for row in normalizers() if theory.phase(row.name)])
def test_wide_networks_follow_the_theory_of_their_phase(name):
    phase = theory.phase(name)
    cosines, growth = measure(name)
    expected = theory.propagate(theory.correlation_map(phase), cosines[0].item(), len(cosines))
    torch.testing.assert_close(cosines, expected, atol=0.03, rtol=0)
    assert growth == pytest.approx(theory.gradient_growth(phase), abs=0.06)


def test_the_two_rows_without_a_phase_follow_neither():
    cosines, growth = measure("bnl2")
    assert growth == pytest.approx(1.338, abs=0.05)  # its own rate
    assert 0.9 < cosines[9] < 0.98  # chaotic would be 0.90, ordered 0.996
    cosines, growth = measure("lmbv")
    assert cosines[9] > 0.99  # as ordered
    assert growth > 1.12  # but not the gradients


def test_rows_the_theory_does_not_know_have_no_phase():
    assert theory.phase("bnl2") is None
    assert theory.phase("lmbv") is None
    assert theory.phase("something of yours") is None


def test_the_stated_rate_of_bnl2_solves_its_own_equations():
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    weights = weights / weights.sum()

    def mean_of_relu(mean, variance):
        deviation = np.sqrt(variance)
        ratio = mean / deviation
        cdf = 0.5 * (1 + np.vectorize(math.erf)(ratio / math.sqrt(2)))
        return mean * cdf + deviation * np.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)

    cosine = 0.3
    for _ in range(60):
        divisor = cosine * nodes**2 + 1 - cosine
        means = mean_of_relu(math.sqrt(cosine) * nodes / np.sqrt(divisor), (1 - cosine) / divisor)
        cosine = float(2 * (weights * means**2).sum())
    assert cosine == pytest.approx(0.519, abs=1e-3)
    assert (weights / (cosine * nodes**2 + 1 - cosine)).sum() == pytest.approx(1.338, abs=1e-3)


@pytest.mark.parametrize(
    ("c0", "depth", "match"), [(1.5, 3, "cosine in"), (math.nan, 3, "cosine in"), (0.5, 0, "depth")]
)
def test_bad_arguments_are_refused(c0, depth, match):
    with pytest.raises(ValueError, match=match):
        theory.propagate(theory.ordered_map, c0, depth)
