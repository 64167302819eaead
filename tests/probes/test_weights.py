from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from normscope.isolation import StandIn
from normscope.probes import Subject
from normscope.probes.weights import all_parameters, layer_weights, weight_matrices


def test_a_layer_owns_its_parameters_of_two_or_more_axes() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.MultiheadAttention(4, 2))

    assert layer_weights(model) == {
        "0": ("0.weight",),
        "2": ("2.in_proj_weight",),
        "2.out_proj": ("2.out_proj.weight",),
    }
    assert all_parameters(model) == tuple(name for name, _ in model.named_parameters())


def test_normalizers_are_no_layers() -> None:
    site = nn.Linear(2, 2)
    site.normalizer_site = "mine"  # type: ignore[assignment]
    assert layer_weights(nn.Sequential(site, nn.LayerNorm([3, 4]))) == {}


def test_what_a_weight_is_made_of_belongs_to_its_layer() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))

    assert layer_weights(model) == {"0": ("0.parametrizations.weight.original0", "0.parametrizations.weight.original1")}


def test_a_model_that_is_one_layer_goes_by_its_class() -> None:
    assert layer_weights(nn.Linear(2, 2)) == {"Linear": ("weight",)}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (nn.utils.weight_norm, "weight_g"),
        (nn.utils.spectral_norm, "weight_orig"),
        (lambda layer: prune.random_unstructured(layer, "weight", 0.3), "weight_orig"),
    ],
    ids=["weight_norm", "spectral_norm", "prune"],
)
def test_a_weight_that_a_hook_makes_is_that_of_the_parameters_as_they_are(make, name) -> None:
    """And not that of the last forward pass: after a step of the optimizer the attribute is behind."""
    torch.manual_seed(0)
    layer = make(nn.Linear(5, 5)).eval()
    layer(torch.zeros(1, 5))
    with torch.no_grad():
        getattr(layer, name).add_(torch.arange(5.0).unsqueeze(1))
    before = layer.weight
    model = nn.Sequential(layer)
    subject = Subject(model, lambda y, _: y.mean(), (torch.zeros(1, 5), None))

    matrices = weight_matrices(StandIn.of(subject), layer_weights(model), seed=0)

    assert not torch.allclose(matrices["0"], before)
    layer(torch.zeros(1, 5))
    torch.testing.assert_close(matrices["0"], layer.weight.detach())
