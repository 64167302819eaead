from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from normscope.probes import GradientCorrelation, GradientNorm, Subject


def batch(generator: torch.Generator, size: int = 16) -> tuple[Tensor, Tensor]:
    return (
        torch.randn(size, 8, generator=generator, dtype=torch.float64),
        torch.randint(4, (size,), generator=generator),
    )


def small(activation: nn.Module | None = None) -> nn.Sequential:
    activation = activation or nn.ReLU()
    layers = [nn.Linear(8, 6), nn.BatchNorm1d(6), activation, nn.Linear(6, 6), nn.BatchNorm1d(6), activation]
    model = nn.Sequential(*layers, nn.Linear(6, 4)).double()
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))
    return model


def norms_by_hand(model: nn.Sequential, x: Tensor, y: Tensor) -> Tensor:
    """dL/dz layer by layer: the batch norms written out, the chain rule by autograd on one intermediate at a time."""
    weights = [p.detach() for p in model.parameters()]
    w1, b1, g1, s1, w2, b2, g2, s2, w3, b3 = weights

    def standardized(z: Tensor) -> Tensor:
        return (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()

    z1 = (standardized(x @ w1.T + b1) * g1 + s1).requires_grad_()
    z2 = standardized(z1.relu() @ w2.T + b2) * g2 + s2
    z2.retain_grad()
    logits = z2.relu() @ w3.T + b3
    (torch.logsumexp(logits, 1) - logits[torch.arange(len(y)), y]).mean().backward()
    return torch.stack([z.grad.square().sum().sqrt() for z in (z1, z2)])


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU(inplace=True)], ids=["out_of_place", "in_place"])
def test_gradient_norm_is_the_one_computed_by_hand(activation: nn.Module, generator: torch.Generator) -> None:
    model, (x, y) = small(activation), batch(generator)

    reading = GradientNorm()(Subject(model, F.cross_entropy, (x, y)), generator=generator)

    torch.testing.assert_close(reading.values, norms_by_hand(model, x, y), rtol=1e-10, atol=0)
    assert reading.labels["layer"] == ("1", "4")


def test_last_reads_the_last_site_only(generator: torch.Generator) -> None:
    model, (x, y) = small(), batch(generator)

    reading = GradientNorm(select="last")(Subject(model, F.cross_entropy, (x, y)), generator=generator)

    torch.testing.assert_close(reading.values, norms_by_hand(model, x, y)[1:], rtol=1e-10, atol=0)
    assert reading.labels["layer"] == ("4",)


def test_a_view_overwritten_in_place_keeps_its_gradient(generator: torch.Generator) -> None:
    class Transposed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mT

    x = torch.randn(6, 8, generator=generator, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(8, 4, dtype=torch.float64), nn.LayerNorm(4).double(), Transposed(), nn.ReLU(True))
    select: Callable[[str, nn.Module], bool] = lambda name, module: isinstance(module, (nn.LayerNorm, Transposed))  # noqa: E731
    values = GradientNorm(select=select)(
        Subject(model, lambda y, _: y.square().sum(), (x, None)), generator=generator
    ).values

    torch.testing.assert_close(values[0], values[1])
    assert values[0] > 0


def test_a_squared_loss_has_its_residuals_as_gradient(generator: torch.Generator) -> None:
    x, target = (torch.randn(5, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    model = nn.Linear(8, 8, dtype=torch.float64)

    reading = GradientNorm()(
        Subject(model, lambda y, t: 0.5 * (y - t).square().sum(), (x, target)), generator=generator
    )

    torch.testing.assert_close(reading.values, (model(x) - target).detach().norm().reshape(1))
    assert reading.labels["layer"] == ("Linear",)


def test_a_site_the_loss_does_not_see_has_norm_zero(generator: torch.Generator) -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.LayerNorm(8), nn.LayerNorm(8)

        def forward(self, x: Tensor) -> Tensor:
            self.unused(x)
            return self.used(x)

    x, y = batch(generator)
    subject = Subject(TwoHeads(), F.cross_entropy, (x.float(), y))
    reading = GradientNorm()(subject, generator=generator)

    assert reading.labels["layer"] == ("unused", "used")
    assert reading.values[0] == 0
    assert reading.values[1] > 0


@pytest.mark.parametrize(
    ("norm", "growth"),
    [
        (lambda width: nn.BatchNorm1d(width, affine=False, track_running_stats=False), math.pi / (math.pi - 1)),
        (lambda width: nn.LayerNorm(width, elementwise_affine=False), 1.0),
    ],
    ids=["batch_norm_explodes", "layer_norm_does_not"],
)
def test_gradient_norm_grows_backwards_at_the_mean_field_rate(norm: Callable[[int], nn.Module], growth: float) -> None:
    width, depth, networks = 256, 16, 8
    rates = []
    for seed in range(networks):
        generator = torch.Generator().manual_seed(seed)
        model = nn.Sequential()
        for _ in range(depth):
            layer = nn.Linear(width, width, bias=False, dtype=torch.float64)
            nn.init.normal_(layer.weight, 0, width**-0.5, generator=generator)
            model.extend([layer, norm(width), nn.ReLU()])
        x, readout = (torch.randn(256, width, generator=generator, dtype=torch.float64) for _ in range(2))
        subject = Subject(model, lambda y, readout: (y * readout).mean(), (x, readout))
        norms = GradientNorm()(subject, generator=generator).values
        rates.append((norms[0] / norms[-1]).square() ** (1 / (depth - 1)))

    measured, stderr = torch.stack(rates).mean(), torch.stack(rates).std() / math.sqrt(networks)
    assert stderr < 0.02
    assert abs(measured - growth) <= 4 * stderr


def test_checkpointed_layers_read_like_others(generator: torch.Generator) -> None:
    first, second = batch(generator), batch(generator)
    model = small()

    def checkpointed(model: nn.Module, x: Tensor) -> Tensor:
        return checkpoint(model, x, use_reentrant=False)

    for probe in (GradientNorm(), GradientCorrelation(pairs="independent")):
        plain, saved = (
            probe(Subject(model, F.cross_entropy, first, more=[second], forward=forward), generator=generator)
            for forward in (None, checkpointed)
        )
        assert torch.equal(plain.values, saved.values)
        assert plain.labels == saved.labels
    assert model[1].num_batches_tracked == 0


def test_a_site_that_autograd_does_not_record_is_refused(generator: torch.Generator) -> None:
    def unrecorded(model: nn.Module, x: Tensor) -> Tensor:
        with torch.no_grad():
            return model(x)

    with pytest.raises(ValueError, match=r"'1' runs under no_grad or reentrant checkpointing. Checkpoint with"):
        GradientNorm()(Subject(small(), F.cross_entropy, batch(generator), forward=unrecorded), generator=generator)


@pytest.mark.parametrize("probe", [GradientNorm(), GradientCorrelation()])
def test_a_loss_without_a_gradient_is_refused(
    probe: GradientNorm | GradientCorrelation, generator: torch.Generator
) -> None:
    subject = Subject(small(), lambda y, t: F.cross_entropy(y.detach(), t), batch(generator))
    with pytest.raises(ValueError, match="depends on the network through autograd"):
        probe(subject, generator=generator)


@pytest.mark.parametrize("by", ["layer", "network"])
def test_identical_batches_have_gradient_correlation_one(by: str, generator: torch.Generator) -> None:
    first = batch(generator)
    similar = GradientCorrelation(by=by, noise=0.0)(Subject(small(), F.cross_entropy, first), generator=generator)
    independent = GradientCorrelation(pairs="independent", by=by)(
        Subject(small(), F.cross_entropy, first, more=[first]), generator=generator
    )

    for reading in (similar, independent):
        torch.testing.assert_close(reading.values, torch.ones_like(reading.values), rtol=0, atol=1e-14)


def test_opposite_targets_have_gradient_correlation_minus_one(generator: torch.Generator) -> None:
    x = torch.randn(16, 8, generator=generator, dtype=torch.float64)
    model = nn.Linear(8, 3, dtype=torch.float64)
    outputs = model(x).detach()
    loss = lambda y, t: 0.5 * (y - t).square().mean()  # noqa: E731
    subject = Subject(model, loss, (x, outputs + 1), more=[(x, outputs - 1)])

    for by in ("layer", "network"):
        reading = GradientCorrelation(pairs="independent", by=by)(subject, generator=generator)
        torch.testing.assert_close(reading.values, -torch.ones_like(reading.values))


def test_linear_regression_has_its_closed_form_gradient_correlation(generator: torch.Generator) -> None:
    model = nn.Linear(8, 3, bias=False, dtype=torch.float64)
    batches = [
        (
            torch.randn(16, 8, generator=generator, dtype=torch.float64),
            torch.randn(16, 3, generator=generator, dtype=torch.float64),
        )
        for _ in range(5)
    ]
    loss = lambda y, t: 0.5 * (y - t).square().sum()  # noqa: E731
    subject = Subject(model, loss, batches[0], more=batches[1:])

    reading = GradientCorrelation(pairs="independent")(subject, generator=generator)

    g = [((x @ model.weight.T - t).T @ x).detach() for x, t in batches]  # d/dW of half the squared residual
    cosines = torch.stack([(g[i] * g[i + 1]).sum() / (g[i].norm() * g[i + 1].norm()) for i in (0, 2)])
    torch.testing.assert_close(reading.values, cosines.mean().reshape(1))  # the fifth batch has no partner
    torch.testing.assert_close(reading.stderr, ((cosines[0] - cosines[1]).abs() / 2).reshape(1))


def test_layers_are_those_that_own_weights(generator: torch.Generator) -> None:
    model = nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 2, 3)),
        nn.LayerNorm([2, 6, 6]),
        nn.Flatten(),
        nn.Linear(72, 4),
    )
    subject = Subject(
        model, F.cross_entropy, (torch.randn(4, 1, 8, 8, generator=generator), torch.tensor([0, 1, 2, 3]))
    )

    assert GradientCorrelation()(subject, generator=generator).labels["layer"] == ("0", "3")


def test_one_batch_has_no_independent_pair(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match=r"come in pairs, but one batch arrived. Pass further batches in more="):
        GradientCorrelation(pairs="independent")(
            Subject(small(), F.cross_entropy, batch(generator)), generator=generator
        )


@pytest.mark.parametrize(("by", "complaint"), [("layer", "weight matrices or kernels"), ("network", "parameters, but")])
def test_a_model_without_parameters_is_refused(by: str, complaint: str, generator: torch.Generator) -> None:
    subject = Subject(nn.Sequential(nn.LayerNorm(8, elementwise_affine=False)), F.cross_entropy, batch(generator))
    with pytest.raises(ValueError, match=complaint):
        GradientCorrelation(by=by)(subject, generator=generator)


@pytest.mark.parametrize("field", ["pairs", "by"])
def test_an_unknown_choice_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"`{field}` is one of .* but 'both' arrived"):
        GradientCorrelation(**{field: "both"})


def test_the_standard_error_is_that_of_the_mean_over_batches(generator: torch.Generator) -> None:
    batches = [batch(generator) for _ in range(4)]
    model = small()
    single = torch.stack(
        [GradientNorm()(Subject(model, F.cross_entropy, one), generator=generator).values for one in batches]
    )

    reading = GradientNorm()(Subject(model, F.cross_entropy, batches[0], more=batches[1:]), generator=generator)

    torch.testing.assert_close(reading.values, single.mean(0))
    spread = ((single - single.mean(0)) ** 2).sum(0)
    torch.testing.assert_close(reading.stderr, (spread / (4 * 3)).sqrt())
