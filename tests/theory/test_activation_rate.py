from __future__ import annotations

import math

import pytest
import torch

from normscope import theory
from normscope.models import DeepMLP
from normscope.nn import normalizer

# Growth by gain, of sin and tanh, to the digits that they were given with.
PRINTED = {
    0.1: ("0.00002", "0.00006"),
    0.3: ("0.0013", "0.0035"),
    0.5: ("0.0103", "0.0165"),
    0.7: ("0.0379", "0.0387"),
    0.9: ("0.0952", "0.0666"),
    1.0: ("0.1362", "0.0818"),
}


@pytest.mark.parametrize("gain", [1e-3, 0.1, 0.7, 1.0, 3.0, 10.0])
def test_closed_forms(gain):
    square = gain**2
    assert theory.activation_growth("sin", gain) == pytest.approx(0.5 * math.log(square / math.tanh(square)), abs=1e-14)
    assert theory.activation_growth("relu", gain) == pytest.approx(0.5 * math.log(math.pi / (math.pi - 1)), abs=1e-14)
    assert theory.activation_growth("identity", gain) == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("gain", [0.05, 0.7, 10.0])
def test_tanh_by_another_quadrature(gain):
    """The trapezoidal rule, which converges geometrically on analytic functions that vanish at both ends."""
    z = torch.linspace(-12, 12, 100_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2)
    slopes = (density * torch.cosh(gain * z) ** -4).sum()
    values = (density * torch.tanh(gain * z).square()).sum()
    expected = 0.5 * (gain**2 * slopes / values).log().item()
    assert theory.activation_growth("tanh", gain) == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize(("gain", "printed"), PRINTED.items())
def test_printed_rates_are_reproduced(gain, printed):
    for activation, text in zip(("sin", "tanh"), printed, strict=True):
        digits = len(text) - 2
        assert f"{theory.activation_growth(activation, gain):.{digits}f}" == text


def test_small_gains_grow_with_the_fourth_power():
    for activation, factor in (("sin", 1 / 6), ("tanh", 2 / 3)):
        assert theory.activation_growth(activation, 1e-2) == pytest.approx(factor * 1e-8, rel=2e-3)


def test_growth_of_shaped_networks():
    layers = theory.shaped_growth("tanh", 0.4, 50)
    assert (layers.shape, layers.dtype) == ((50,), torch.float64)
    for layer in (1, 7, 50):
        assert layers[layer - 1].item() == pytest.approx(theory.activation_growth("tanh", layer**-0.4), abs=1e-15)
    for exponent, digits, printed in ((0.4, 2, "0.34 0.45"), (0.25, 2, "1.19 2.27"), (0.2, 1, "2.5 4.8")):
        totals = [theory.shaped_growth(name, exponent, 1000).sum().item() for name in ("sin", "tanh")]
        assert " ".join(f"{total:.{digits}f}" for total in totals) == printed


@pytest.mark.parametrize(("exponent", "bounded"), [(0.4, True), (0.27, True), (0.24, False)])
def test_total_growth_is_bounded_where_the_exponent_exceeds_a_quarter(exponent, bounded):
    """Cauchy's condensation: of a power of l, the sum converges if a term four times as far is less than a quarter."""
    growth = theory.shaped_growth("sin", exponent, 4000)
    assert bool(4 * growth[3999] < growth[999]) == bounded


@pytest.mark.parametrize(("row", "centered"), [("bnl2", False), ("batchnorm", True)])
def test_gaussian_growth_is_what_one_normalization_does_to_a_gradient(row, centered):
    """Over many units of 7 Gaussian examples each, with a random gradient: the mean ratio of squared norms."""
    examples, units = 7, 200_000
    options = {"eps": 0.0} if centered else {"moment": "rms"}
    site = normalizer(row, **options).site(units, ndim=2, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    u, g = (torch.randn(examples, units, generator=generator, dtype=torch.float64) for _ in range(2))
    u.requires_grad_()
    (gradient,) = torch.autograd.grad((site(u) * g).sum(), u)
    ratios = gradient.square().sum(0) / g.square().mean()
    measured, stderr = ratios.mean().item() / examples, ratios.std().item() / examples / math.sqrt(units)
    expected = math.exp(2 * theory.gaussian_growth(examples, centered))
    assert abs(measured - expected) < 4 * stderr
    assert 4 * stderr < 0.5 * abs(expected - math.exp(2 * theory.gaussian_growth(examples, not centered)))


def rate(
    activation: str, weights: str, examples: int, width: int, *, networks: int = 4, depth: int = 40, first: int = 0
) -> float:
    """Growth per layer of the log norm of gradients at the sites of real networks, from the first to the last."""
    rates = []
    for seed in range(networks):
        generator = torch.Generator().manual_seed(seed)
        row = normalizer("bnl2", moment="rms")
        model = DeepMLP(
            width,
            4,
            depth=depth,
            width=width,
            normalizer=row,
            generator=generator,
            weights=weights,
            activation=activation,
        ).double()
        outputs: list[torch.Tensor] = []
        for norm in model.norms:
            norm.register_forward_hook(lambda _m, _x, y, outputs=outputs: outputs.append(y))
        logits = model(torch.randn(examples, width, generator=generator, dtype=torch.float64))
        loss = (logits * torch.randn(logits.shape, generator=generator, dtype=torch.float64)).sum()
        early, late = torch.autograd.grad(loss, [outputs[first], outputs[-1]])
        rates.append((early.norm() / late.norm()).log().item() / (depth - 1 - first))
    return sum(rates) / networks


def test_gaussian_weights_explode_and_orthogonal_ones_do_not():
    """Eight examples in 256 units are nearly the infinite width; as many examples as units are what the source has."""
    assert rate("identity", "gaussian", 8, 256) == pytest.approx(theory.gaussian_growth(8, False), rel=0.1)
    deep = {weights: rate("identity", weights, 24, 24, depth=400, first=100) for weights in ("gaussian", "orthogonal")}
    assert deep["gaussian"] > theory.gaussian_growth(24, False)
    layers = 400 - 1 - 100
    assert layers * deep["gaussian"] > 5
    assert layers * abs(deep["orthogonal"]) < math.log(2)  # at most the symmetric half of the gradient, not a rate


@pytest.mark.parametrize("rank", [3, 7, 40, 99])
def test_growth_by_orthogonal_weights_is_half_the_difference_of_reciprocals_to_leading_order(rank):
    growth = theory.orthogonal_growth(rank, 10**6)
    assert growth == pytest.approx(theory.gaussian_growth(rank, False), abs=1e-6)
    wide = theory.orthogonal_growth(1000 * rank, 1500 * rank)
    assert wide == pytest.approx(0.5 * (1 / (1000 * rank) - 1 / (1500 * rank)), rel=1e-2 / rank + 1e-3)
    assert theory.orthogonal_growth(rank, rank) == 0.0


def test_growth_by_orthogonal_weights_is_what_a_layer_does_to_an_antisymmetric_gradient():
    """Its two factors, sampled on isometric X: E[1/s] over Haar's rows, and what the rows of G keep beside X."""
    rank, width, draws = 6, 10, 40_000
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(draws, width, generator=generator, dtype=torch.float64), dim=1)
    inverse = rank / width / rows[:, :rank].square().sum(1)
    projection = torch.diag((torch.arange(width) < rank).double())
    along = rows[:, :rank] / rows[:, :rank].norm(dim=1, keepdim=True) * (rank / width) ** 0.5  # P_jj = r / d
    across = rows[:, rank:] / rows[:, rank:].norm(dim=1, keepdim=True) * (1 - rank / width) ** 0.5
    unit = torch.cat([along, across], dim=1)
    omega = torch.randn(draws, width, width, generator=generator, dtype=torch.float64)
    omega = (omega - omega.mT) / 2**0.5  # entries of variance 1
    diagonal = torch.einsum("ni,nij,nj->n", unit, omega @ projection, unit)
    whole = (omega @ projection).square().sum((1, 2)).mean() * rank / width  # of G: X's singular values are (d/r)^1/2
    lost = width * diagonal.square() / whole
    measured = (inverse.mean() * (1 - lost.mean())).item()
    stderr = math.hypot(inverse.std() / inverse.mean(), lost.std()) * measured / draws**0.5
    expected = math.exp(2 * theory.orthogonal_growth(rank, width))
    assert abs(measured - expected) < 4 * stderr
    assert 4 * stderr < 0.3 * (expected - 1)


@pytest.mark.parametrize("rank", [8, 16])
def test_linear_networks_on_batches_of_lesser_rank_grow_at_the_predicted_rate(rank):
    measured = rate("identity", "orthogonal", rank, 40, depth=260, first=60)
    assert measured == pytest.approx(theory.orthogonal_growth(rank, 40), rel=0.15)
    assert theory.orthogonal_growth(2 * rank, 40) < 0.6 * measured  # the tolerance tells these ranks apart


@pytest.mark.parametrize("activation", ["sin", "tanh"])
def test_real_networks_grow_at_the_predicted_rate(activation):
    measured = rate(activation, "orthogonal", 96, 96)
    assert measured == pytest.approx(theory.activation_growth(activation, 1.0), rel=0.08)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: theory.activation_growth("gelu", 1.0), "one of identity, tanh, sin, relu, got 'gelu'"),
        (lambda: theory.activation_growth("sin", 0.0), "gain is above 0 and at most 10, got 0"),
        (lambda: theory.activation_growth("sin", math.nan), "gain is above 0 and at most 10, got nan"),
        (lambda: theory.shaped_growth("sin", -1.0, 20), "gain is above 0 and at most 10, got 11"),
        (lambda: theory.shaped_growth("sin", 0.4, 0), "depth must be at least 1, got 0"),
        (lambda: theory.gaussian_growth(2, False), "at least 3 examples, got 2"),
        (lambda: theory.gaussian_growth(3, True), "at least 4 examples, got 3"),
        (lambda: theory.orthogonal_growth(0, 5), "through 5 units has a rank from 1 to 5, got 0"),
        (lambda: theory.orthogonal_growth(6, 5), "through 5 units has a rank from 1 to 5, got 6"),
        (lambda: theory.orthogonal_growth(2, 5), "finite for at least rank 3, got 2"),
    ],
)
def test_bad_arguments_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize("gain", [1e-9, 1e-160, 1e-300])
def test_gains_whose_squares_underflow_have_their_rate(gain):
    for activation in ("identity", "tanh", "sin"):
        assert theory.activation_growth(activation, gain) == pytest.approx(0, abs=1e-14)
    assert theory.activation_growth("relu", gain) == pytest.approx(0.5 * math.log(math.pi / (math.pi - 1)), abs=1e-14)
