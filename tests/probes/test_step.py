from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normscope.probes import LossAlongGradient, RelativeLoss, Subject

SIZES = (1e-3, 0.1, 2.0)


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(12, 6, generator=generator, dtype=torch.float64), torch.arange(12) % 4


def model() -> nn.Module:
    layers = [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)]
    return nn.Sequential(*layers).double()


def stepped(network: nn.Module, x: Tensor, y: Tensor, size: float) -> tuple[float, list[Tensor]]:
    """Loss and gradient after a step of torch's own optimizer, on a copy."""
    network = copy.deepcopy(network).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=size)
    F.cross_entropy(network(x), y).backward()
    optimizer.step()
    loss = F.cross_entropy(network(x), y)
    return loss.item(), list(torch.autograd.grad(loss, list(network.parameters())))


def test_the_relative_loss_is_that_of_the_optimizers_own_step(generator: torch.Generator) -> None:
    network, (x, y) = model(), batch()
    reading = RelativeLoss(step_sizes=SIZES)(Subject(network, F.cross_entropy, (x, y)), generator=generator)

    before = F.cross_entropy(copy.deepcopy(network)(x), y).item()
    expected = [stepped(network, x, y, size)[0] / before for size in SIZES]
    assert reading.values.tolist() == pytest.approx(expected, rel=1e-12)
    assert reading.labels == {"step_size": ("0.001", "0.1", "2.0")}
    assert reading.values[0] < 1


def test_batches_have_steps_of_their_own(generator: torch.Generator) -> None:
    network, batches = model(), [batch(0), batch(1)]
    both = Subject(network, F.cross_entropy, batches[0], more=batches[1:])
    reading = RelativeLoss(step_sizes=SIZES)(both, generator=generator)
    alone = [
        RelativeLoss(step_sizes=SIZES)(Subject(network, F.cross_entropy, one), generator=generator).values
        for one in batches
    ]
    torch.testing.assert_close(reading.values, torch.stack(alone).mean(0))
    assert reading.stderr is not None


@pytest.mark.parametrize("probe", [RelativeLoss, LossAlongGradient])
def test_a_step_that_overflows_is_infinite_and_no_error(
    probe: Callable[..., RelativeLoss], generator: torch.Generator
) -> None:
    class Explodes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return self.w * x

    quartic = Subject(Explodes(), lambda y, _: y.pow(4).mean(), (torch.ones(3, 1), None))
    values = probe(step_sizes=(0.1, 1e3, 1e10, 1e30))(quartic, generator=generator).values.view(-1, 4)
    assert values[0].isfinite().tolist() == [True, True, False, False]
    assert values[:, 3].tolist() == [math.inf] * len(values)
    # Infinity less infinity: the loss is no number, which is infinite too.
    undefined = lambda y, _: (y.square().exp() - y.square().exp() + y.square()).mean()  # noqa: E731
    difference = Subject(Explodes(), undefined, (torch.ones(3, 1), None))
    assert probe(step_sizes=(1e3,))(difference, generator=generator).values.view(-1, 1)[0].item() == math.inf


@pytest.mark.parametrize("probe", [RelativeLoss, LossAlongGradient])
def test_where_the_loss_is_not_finite_before_the_step_nothing_is_defined(
    probe: Callable[..., RelativeLoss], generator: torch.Generator
) -> None:
    network, (x, y) = model(), batch()
    with torch.no_grad():
        network[3].weight[0, 0] = math.inf
    assert probe()(Subject(network, F.cross_entropy, (x, y)), generator=generator).values.isnan().all()


class Point(nn.Module):
    """Parameters as outputs, in two pieces."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.first, self.rest = nn.Parameter(start[:1].clone()), nn.Parameter(start[1:].clone())

    def forward(self, _x: Tensor) -> Tensor:
        return torch.cat([self.first, self.rest])


def test_along_the_gradient_of_a_quadratic_loss_all_three_are_known(generator: torch.Generator) -> None:
    r"""L = θ'Aθ/2: g = Aθ, g_η = (1 - ηA) g, and the smoothness is ‖Ag‖/‖g‖ whatever the step."""
    root = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    A, theta = root @ root.T, torch.randn(5, generator=generator, dtype=torch.float64)
    subject = Subject(Point(theta), lambda y, _: 0.5 * y @ A @ y, (torch.zeros(1), None))

    reading = LossAlongGradient(step_sizes=SIZES)(subject, generator=generator)

    g = A @ theta
    losses = [(0.5 * (theta - size * g) @ A @ (theta - size * g)).item() for size in SIZES]
    distances = [size * (A @ g).norm().item() for size in SIZES]
    assert reading.labels["quantity"] == ("loss", "gradient_distance", "smoothness")
    assert reading.values[0].tolist() == pytest.approx(losses, rel=1e-9)
    assert reading.values[1].tolist() == pytest.approx(distances, rel=1e-9)
    assert reading.values[2].tolist() == pytest.approx([(A @ g).norm().item() / g.norm().item()] * 3, rel=1e-9)
    assert reading.values[2, 0] <= torch.linalg.eigvalsh(A)[-1]


def test_along_the_gradient_of_a_network_it_is_the_optimizers_own_step(generator: torch.Generator) -> None:
    network, (x, y) = model(), batch()
    values = LossAlongGradient(step_sizes=SIZES)(Subject(network, F.cross_entropy, (x, y)), generator=generator).values

    start = copy.deepcopy(network)
    g = torch.autograd.grad(F.cross_entropy(start(x), y), list(start.parameters()))
    for column, size in enumerate(SIZES):
        loss, there = stepped(network, x, y, size)
        distance = math.sqrt(sum((a - b).square().sum().item() for a, b in zip(g, there, strict=True)))
        length = size * math.sqrt(sum(a.square().sum().item() for a in g))
        assert values[:, column].tolist() == pytest.approx([loss, distance, distance / length], rel=1e-9)


def test_eval_mode_steps_with_running_statistics(generator: torch.Generator) -> None:
    network, (x, y) = model(), batch()
    value = RelativeLoss(step_sizes=(0.1,), mode="eval")(Subject(network, F.cross_entropy, (x, y)), generator=generator)
    network.eval()
    loss = F.cross_entropy(network(x), y)
    loss.backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= 0.1 * parameter.grad
    assert value.values.item() == pytest.approx(F.cross_entropy(network(x), y).item() / loss.item(), rel=1e-12)


@pytest.mark.parametrize("probe", [RelativeLoss, LossAlongGradient])
@pytest.mark.parametrize("sizes", [(), (0.0,), (0.1, -1.0), (math.inf,), (math.nan,)])
def test_step_sizes_that_are_none_are_refused(probe: Callable[..., RelativeLoss], sizes: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="`step_sizes` are positive finite numbers, at least one, but"):
        probe(step_sizes=sizes)


def test_where_the_gradient_is_zero_nothing_moves_and_the_smoothness_is_not_defined(generator: torch.Generator) -> None:
    network, (x, y) = model(), batch()
    flat = Subject(network, lambda z, _: 0 * z.sum() + 2, (x, y))
    loss, distance, smoothness = LossAlongGradient(step_sizes=SIZES)(flat, generator=generator).values
    assert (loss.tolist(), distance.tolist()) == ([2.0] * 3, [0.0] * 3)
    assert smoothness.isnan().all()
    assert RelativeLoss(step_sizes=SIZES)(flat, generator=generator).values.tolist() == [1.0] * 3


def test_a_loss_of_zero_has_no_ratio(generator: torch.Generator) -> None:
    vanishing = Subject(model(), lambda z, _: 0 * z.sum(), batch())
    assert RelativeLoss(step_sizes=SIZES)(vanishing, generator=generator).values.isnan().all()
