from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from normscope.probes import InformationPropagation, Subject

DEPTH, WIDTH, BATCH, NETWORKS = 12, 256, 256, 8


def kernel(c: float) -> float:
    """E[relu(u) relu(v)] of standard normals u, v with correlation c."""
    return (math.sqrt(1 - c * c) + c * (math.pi - math.acos(c))) / (2 * math.pi)


def ordered(c: float) -> float:
    """One layer normalized within each example: the mean of a unit stays."""
    return kernel(c) / kernel(1)


def chaotic(c: float) -> float:
    """One layer normalized over the batch: the mean 1/sqrt(2 pi) of every unit is removed."""
    return (kernel(c) - 1 / (2 * math.pi)) / (kernel(1) - 1 / (2 * math.pi))


def deep_network(norm: nn.Module, generator: torch.Generator) -> nn.Sequential:
    model = nn.Sequential()
    for _ in range(DEPTH):
        layer = nn.Linear(WIDTH, WIDTH, bias=False, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.normal_(0, WIDTH**-0.5, generator=generator)
        model.extend([layer, norm, nn.ReLU()])
    return model


def readings(norm: nn.Module) -> Tensor:
    """The correlation at every site for independently drawn networks, shape (NETWORKS, DEPTH)."""
    rows = []
    for seed in range(NETWORKS):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(BATCH, WIDTH, generator=generator, dtype=torch.float64)
        subject = Subject(deep_network(norm, generator), lambda outputs, _: outputs.mean(), (x, None))
        rows.append(InformationPropagation(noise=0.3)(subject, generator=generator).values)
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("norm", "step"),
    [
        (nn.BatchNorm1d(WIDTH, affine=False, track_running_stats=False), chaotic),
        (nn.LayerNorm(WIDTH, elementwise_affine=False), ordered),
    ],
    ids=["batch_norm_is_chaotic", "layer_norm_is_ordered"],
)
def test_correlation_follows_the_mean_field_map(norm: nn.Module, step: object) -> None:
    c = 1 / math.sqrt(1 + 0.3**2)  # the cosine of x and x + 0.3 eps, kept by a linear layer
    expected = []
    for _ in range(DEPTH):
        expected.append(c)
        c = step(c)  # type: ignore[operator]

    measured = readings(norm)

    stderr = measured.std(dim=0) / math.sqrt(NETWORKS)
    finite_size = torch.arange(DEPTH) / WIDTH  # each layer misses its infinite limit by O(1 / width)
    deviation = (measured.mean(dim=0) - torch.tensor(expected, dtype=torch.float64)).abs()
    assert (deviation <= 4 * stderr + finite_size).all(), (deviation, stderr)


def test_batch_norm_forgets_and_layer_norm_does_not() -> None:
    forgets = readings(nn.BatchNorm1d(WIDTH, affine=False, track_running_stats=False))
    keeps = readings(nn.LayerNorm(WIDTH, elementwise_affine=False))

    assert (forgets[:, -1] < 0.5).all()
    assert (keeps[:, -1] > 0.96).all()


def test_without_noise_the_correlation_is_exactly_one(generator: torch.Generator) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Linear(8, 8), nn.LayerNorm(8))
    subject = Subject(model, lambda outputs, _: outputs.mean(), (torch.randn(16, 8, generator=generator), None))

    assert InformationPropagation(noise=0.0)(subject, generator=generator).values.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("centered", [False, True])
def test_the_value_is_the_cosine_of_the_flattened_outputs(centered: bool, generator: torch.Generator) -> None:
    x = 3 + 2 * torch.randn(4, 3, 6, 6, generator=generator, dtype=torch.float64)
    subject = Subject(nn.Identity(), lambda outputs, _: outputs.mean(), (x, None))
    seen: list[Tensor] = []

    def see(name: str, module: nn.Module) -> bool:
        return isinstance(module, nn.Identity)

    def forward(model: nn.Module, inputs: Tensor) -> Tensor:
        seen.append(inputs.clone())
        return model(inputs)

    probe = InformationPropagation(noise=0.5, centered=centered, select=see)
    value = probe(Subject(subject.model, subject.loss_fn, subject.batch, forward=forward), generator=generator).values

    a, b = (s.flatten() - (s.mean() if centered else 0) for s in seen)
    assert torch.equal(seen[0], x)
    torch.testing.assert_close(value, (a @ b / (a.norm() * b.norm())).reshape(1))


def test_an_activation_in_place_does_not_reach_what_is_compared(generator: torch.Generator) -> None:
    x = torch.randn(32, 8, generator=generator, dtype=torch.float64)
    layers = nn.Linear(8, 8, dtype=torch.float64), nn.BatchNorm1d(8, dtype=torch.float64)
    values = []
    for inplace in (False, True):
        subject = Subject(
            nn.Sequential(*layers, nn.ReLU(inplace=inplace)), lambda outputs, _: outputs.mean(), (x, None)
        )
        values.append(InformationPropagation()(subject, generator=torch.Generator().manual_seed(0)).values)

    assert torch.equal(*values)


def test_last_is_the_last_entry_of_the_whole_reading() -> None:
    model = deep_network(nn.LayerNorm(WIDTH, elementwise_affine=False), torch.Generator().manual_seed(0))[:9]
    x = torch.randn(8, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    subject = Subject(model, lambda outputs, _: outputs.mean(), (x, None))
    whole, last = (
        InformationPropagation(select=select)(subject, generator=torch.Generator().manual_seed(2))
        for select in (None, "last")
    )

    assert whole.labels["layer"] == ("1", "1#2", "1#3")  # one module, shared: once a call
    assert last.labels["layer"] == ("1#3",)
    assert last.values.tolist() == whole.values[-1:].tolist()


def test_what_a_model_draws_for_itself_is_the_same_in_both_passes(generator: torch.Generator) -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(x, 0.5, training=True)

    subject = Subject(
        nn.Sequential(Noisy(), nn.LayerNorm(64)), lambda y, _: y.mean(), (torch.randn(4, 64, generator=generator), None)
    )

    assert InformationPropagation(noise=0.0)(subject, generator=generator).values.item() == 1.0


@pytest.mark.parametrize("noise", [-0.1, math.inf, math.nan])
def test_a_negative_or_infinite_noise_is_refused(noise: float) -> None:
    with pytest.raises(ValueError, match=r"`noise` is a finite share .* Try 0.1"):
        InformationPropagation(noise=noise)


def test_tokens_are_refused_before_anything_runs(generator: torch.Generator) -> None:
    def never(model: nn.Module, inputs: Tensor) -> Tensor:
        raise AssertionError("ran")

    subject = Subject(nn.LayerNorm(4), lambda y, _: y.mean(), (torch.arange(8).reshape(2, 4), None), forward=never)

    with pytest.raises(
        ValueError, match=r"InformationPropagation does not fit .* torch.int64 tensor arrived. For tokens"
    ):
        InformationPropagation()(subject, generator=generator)


def test_sites_that_come_and_go_are_refused(generator: torch.Generator) -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.calls = nn.LayerNorm(4), nn.LayerNorm(4), 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return self.first(x) if self.calls % 2 else self.second(x)

    subject = Subject(Branching(), lambda y, _: y.mean(), (torch.randn(2, 4, generator=generator), None))

    with pytest.raises(ValueError, match=r"none of the sites did|did not run alike in two passes"):
        InformationPropagation()(subject, generator=generator)
