from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import normscope as ns
from normscope.probes import CovariateShift, Subject

LR = 0.3


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, 6, generator=generator, dtype=torch.float64), torch.arange(12) % 4


def gradients(network: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    parameters = dict(network.named_parameters())
    found = torch.autograd.grad(F.cross_entropy(network(x), y), list(parameters.values()))
    return dict(zip(parameters, found, strict=True))


def after(network: nn.Module, x: Tensor, y: Tensor, below: list[str]) -> nn.Module:
    """A copy of the network in which the parameters named have taken their step."""
    g, moved = gradients(copy.deepcopy(network), x, y), copy.deepcopy(network)
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            if name in below:
                parameter -= LR * g[name]
    return moved


def compared(network: nn.Module, x: Tensor, y: Tensor, layer: str, below: list[str]) -> list[float]:
    first = gradients(copy.deepcopy(network), x, y)[f"{layer}.weight"]
    second = gradients(after(network, x, y, below), x, y)[f"{layer}.weight"]
    cosine = F.cosine_similarity(first.flatten(), second.flatten(), dim=0)
    return [(first - second).norm().item(), cosine.item()]


def test_one_linear_layer_has_no_layers_below_it(generator: torch.Generator) -> None:
    x, y = batch()
    layer = nn.Linear(6, 4, dtype=torch.float64)
    reading = CovariateShift(lr=LR)(Subject(layer, F.cross_entropy, (x, y)), generator=generator)
    assert reading.values.squeeze(1).tolist() == [0, 1]
    assert reading.labels == {"quantity": ("distance", "cosine"), "layer": ("Linear",)}


def test_biases_and_gains_below_a_layer_step_too(generator: torch.Generator) -> None:
    x, y = batch()
    layers = [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)]
    network = nn.Sequential(*layers).double()
    reading = CovariateShift(lr=LR)(Subject(network, F.cross_entropy, (x, y)), generator=generator)

    assert reading.labels["layer"] == ("0", "3", "5")
    first = ["0.weight", "0.bias", "1.weight", "1.bias"]
    second = [*first, "3.weight", "3.bias", "4.weight", "4.bias"]
    assert reading.values[:, 0].tolist() == [0, 1]
    assert reading.values[:, 1].tolist() == pytest.approx(compared(network, x, y, "3", first), rel=1e-9)
    assert reading.values[:, 2].tolist() == pytest.approx(compared(network, x, y, "5", second), rel=1e-9)


def test_below_is_what_runs_before_not_what_is_listed_before(generator: torch.Generator) -> None:
    class Reversed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.top, self.bottom = nn.Linear(5, 4), nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.top(self.bottom(x).tanh())

    x, y = batch()
    network = Reversed().double()
    reading = CovariateShift(lr=LR)(Subject(network, F.cross_entropy, (x, y)), generator=generator)

    assert reading.labels["layer"] == ("bottom", "top")
    expected = compared(network, x, y, "top", ["bottom.weight", "bottom.bias"])
    assert reading.values[:, 1].tolist() == pytest.approx(expected, rel=1e-9)


def test_a_deep_linear_networks_shift_is_that_of_its_matrices(generator: torch.Generator) -> None:
    """Two square matrices and a squared loss: G' of the second has W₁' in place of W₁."""
    x = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    target = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    row = ns.normalizer("none")
    network = ns.models.DeepLinear(3, 3, depth=2, width=3, normalizer=row, generator=generator).double()
    W1, W2 = (layer.weight.detach() for layer in network.affines)

    def by_second(W1: Tensor) -> Tensor:
        return (x @ W1.T @ W2.T - target).T @ (x @ W1.T) / 20

    stepped = W1 - LR * (W2.T @ (x @ W1.T @ W2.T - target).T @ x / 20)
    loss = lambda outputs, target: 0.5 * (outputs - target).square().sum(1).mean()  # noqa: E731
    reading = CovariateShift(lr=LR)(Subject(network, loss, (x, target)), generator=generator)

    assert reading.values[0, 1].item() == pytest.approx((by_second(W1) - by_second(stepped)).norm().item(), rel=1e-9)


def test_what_a_weight_is_made_of_belongs_to_its_layer_and_unrun_modules_to_the_one_around_them(
    generator: torch.Generator,
) -> None:
    x, y = batch()
    network = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    for index in (0, 2):
        network[index] = ns.normalizer("weightnorm").affine(network[index])
    reading = CovariateShift(lr=LR)(Subject(network, F.cross_entropy, (x, y)), generator=generator)
    assert reading.labels["layer"] == ("0", "2")
    assert reading.values[0, 0] == 0
    assert reading.values[0, 1] > 0

    attention = nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)  # uses out_proj without running it
    sequence = torch.randn(12, 3, 4, generator=generator, dtype=torch.float64)
    subject = Subject(
        nn.ModuleDict({"first": nn.Linear(4, 4, dtype=torch.float64), "attention": attention}),
        F.cross_entropy,
        (sequence, y),
        forward=lambda m, x: m["attention"](m["first"](x), x, x, need_weights=False)[0][:, 0],
    )
    reading = CovariateShift(lr=LR)(subject, generator=generator)
    assert reading.labels["layer"] == ("first", "attention", "attention.out_proj")
    assert (reading.values[0, 1:] > 0).all()


def test_a_bad_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="`lr` is positive and finite, but 0 arrived"):
        CovariateShift(lr=0)
