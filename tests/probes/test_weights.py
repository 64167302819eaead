from __future__ import annotations

from torch import nn

from normscope.probes.weights import all_parameters, layer_weights


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
