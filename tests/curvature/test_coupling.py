from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor, nn

import normscope as ns
from curvature import zoo
from curvature.test_risk import risk_of
from normscope.curvature.coupling import coupling_layers


class Mixing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


def layers_of(model: nn.Module, mode: str = "train") -> tuple[str, ...]:
    return coupling_layers(risk_of(model.double(), mode=mode))


@pytest.mark.parametrize("row", [r for r in ns.normalizers() if not r.needs_positions], ids=lambda row: row.name)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_each_row_couples_as_its_table_says(row: ns.Normalizer, mode: str) -> None:
    couples = row.couples_batch and (mode == "train" or row.evaluation == "batch")
    assert layers_of(zoo.row_mlp(row), mode) == (("norms.0", "norms.1") if couples else ())


@pytest.mark.parametrize(
    ("norm", "mode", "found"),
    [
        (nn.BatchNorm1d, "train", ("1",)),
        (nn.BatchNorm1d, "eval", ()),
        (lambda c: nn.BatchNorm1d(c, track_running_stats=False), "eval", ("1",)),
        (nn.LayerNorm, "train", ()),
        (lambda c: nn.GroupNorm(2, c), "train", ()),
        (lambda c: Mixing(), "train", ("1",)),
        (lambda c: Mixing(), "eval", ("1",)),
    ],
)
def test_torchs_layers_and_unknown_ones(norm: Callable[[int], nn.Module], mode: str, found: tuple[str, ...]) -> None:
    assert layers_of(zoo.mlp(norm), mode) == found


def test_of_undeclared_layers_the_first_is_named() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Mixing(), nn.Tanh(), Mixing(), nn.Linear(4, 3))
    assert layers_of(model) == ("1",)


def test_a_model_that_mixes_outside_its_layers_is_named() -> None:
    class Outside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.first(x)
            return self.last(hidden - hidden.mean(0))

    assert layers_of(Outside()) == ("last",)  # the first layer whose outputs show it


def test_mixing_after_the_last_layer_is_seen() -> None:
    class After(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.last(x)
            return hidden - hidden.mean(0)

    assert layers_of(After()) == ("",)


def test_one_example_is_coupled_to_none() -> None:
    model = zoo.mlp(lambda c: Mixing()).double()
    assert coupling_layers(risk_of(model, zoo.features(1))) == ()


def test_instance_norm_couples_nothing() -> None:
    model = zoo.convnet(lambda c: nn.InstanceNorm2d(c, track_running_stats=True)).double()
    assert coupling_layers(risk_of(model, zoo.images())) == ()


def test_a_model_that_draws_noise_is_not_taken_for_coupling() -> None:
    assert layers_of(zoo.Noisy()) == ()
