from __future__ import annotations

import inspect

import pytest
import torch

from normscope.models import (
    FAMILIES,
    MLP,
    VGG,
    CifarResNet,
    DeepLinear,
    DeepMLP,
    Recurrent,
    ResNet,
    Transformer,
    WideResNet,
    family,
)
from normscope.nn import normalizer

from .standin import StandIn

CLASSES = {
    "mlp": MLP,
    "wrn": WideResNet,
    "resnet": ResNet,
    "transformer": Transformer,
    "recurrent": Recurrent,
    "cifar_resnet": CifarResNet,
    "vgg": VGG,
    "deep_linear": DeepLinear,
    "deep_mlp": DeepMLP,
}


def build(name, shape, generator, **options):
    row = options.pop("normalizer", StandIn())
    return family(name).build(shape, 10, normalizer=row, generator=generator, **options)


def equal_weights(one, two):
    assert list(one.state_dict()) == list(two.state_dict())
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_the_families_are_these_and_each_builds_its_class(seeded):
    assert tuple(FAMILIES) == tuple(CLASSES)
    shapes = dict.fromkeys(("wrn", "resnet", "cifar_resnet", "vgg"), (3, 8, 8)) | {
        "transformer": (6,),
        "recurrent": (6,),
    }
    small = {
        "mlp": {"depth": 2, "width": 8},
        "wrn": {"depth": 8, "width": 1},
        "resnet": {"depth": 26, "width": 2},
        "transformer": {"dim": 8, "hidden": 8, "heads": 2, "depth": 1},
        "recurrent": {"hidden": 8},
        "cifar_resnet": {"depth": 8, "width": 2},
        "vgg": {"width": 2},
        "deep_linear": {"depth": 3},
        "deep_mlp": {"depth": 2, "width": 8},
    }
    for name, row in FAMILIES.items():
        assert row.name == name
        assert isinstance(build(name, shapes.get(name, (4, 4)), seeded(0), **small[name]), CLASSES[name])


@pytest.mark.parametrize(
    ("name", "shape", "options", "same"),
    [
        ("mlp", (1, 4, 4), {"depth": 2, "width": 8}, lambda **a: MLP(16, 10, depth=2, width=8, **a)),
        (
            "wrn",
            (3, 8, 8),
            {"depth": 14, "width": 1, "skips": False},
            lambda **a: WideResNet(3, 10, depth=14, widen_factor=1, skips=False, **a),
        ),
        ("wrn", (1, 8, 8), {"depth": 8, "dropout": 0.5}, lambda **a: WideResNet(1, 10, depth=8, dropout=0.5, **a)),
        (
            "resnet",
            (3, 8, 8),
            {"depth": 26, "width": 4, "stem": "small", "zero_init_last": False},
            lambda **a: ResNet(3, 10, depth=26, width=4, stem="small", zero_init_last=False, **a),
        ),
        (
            "transformer",
            (6,),
            {"depth": 1, "dim": 8, "heads": 2, "hidden": 12, "dropout": 0.2},
            lambda **a: Transformer(10, depth=1, dim=8, heads=2, hidden=12, dropout=0.2, max_length=6, **a),
        ),
        (
            "transformer",
            (6,),
            {"depth": 1, "dim": 8, "heads": 2, "hidden": 12, "max_length": 9},
            lambda **a: Transformer(10, depth=1, dim=8, heads=2, hidden=12, max_length=9, **a),
        ),
        (
            "recurrent",
            (6,),
            {"cell": "gru", "hidden": 8},
            lambda **a: Recurrent(8, 10, cell="gru", hidden=8, vocabulary=10, **a),
        ),
        ("recurrent", (6, 5), {"layers": 2}, lambda **a: Recurrent(5, 10, layers=2, **a)),
        ("recurrent", (3, 9, 4), {}, lambda **a: Recurrent(12, 10, **a)),
        (
            "cifar_resnet",
            (3, 8, 8),
            {"depth": 8, "width": 4, "norm_at": "last", "shortcut": "padding", "init": "he"},
            lambda **a: CifarResNet(3, 10, depth=8, width=4, norm_at="last", shortcut="padding", init="he", **a),
        ),
        ("vgg", (1, 8, 8), {"depth": 13, "width": 2}, lambda **a: VGG(1, 10, depth=13, width=2, **a)),
        (
            "deep_linear",
            (2, 5),
            {"depth": 3, "width": 4},
            lambda activation_factory=None, **a: DeepLinear(10, 10, depth=3, width=4, **a),
        ),
        (
            "deep_mlp",
            (2, 5),
            {"depth": 3, "width": 4, "weights": "xavier", "activation": "sin", "gain": 1, "gain_exponent": 0.4},
            lambda **a: DeepMLP(
                10, 10, depth=3, width=4, weights="xavier", activation="sin", gain=1, gain_exponent=0.4, **a
            ),
        ),
    ],
)
def test_a_family_builds_what_its_constructor_does(name, shape, options, same, seeded):
    row = normalizer("batchnorm")
    built = build(name, shape, seeded(3), normalizer=row, **options)
    other = same(normalizer=row, generator=seeded(3))
    assert equal_weights(built, other)
    assert str(built) == str(other)  # what has no weights, dropout for one, is alike too
    if not isinstance(built, Transformer) and not (name == "recurrent" and len(shape) == 1):
        x = torch.randn(2, *shape, generator=seeded(4))
        torch.testing.assert_close(built.eval()(x), other.eval()(x))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_option_is_a_keyword_of_the_constructor(name):
    keywords = set(inspect.signature(CLASSES[name]).parameters)
    renamed = {"wrn": {"width": "widen_factor"}}.get(name, {})
    assert {renamed.get(option, option) for option in FAMILIES[name].options} <= keywords


def test_an_unknown_family_is_refused_with_the_close_ones():
    with pytest.raises(ValueError, match="Unknown family 'resnet50'; did you mean resnet"):
        family("resnet50")
    with pytest.raises(ValueError, match="Unknown family 'x'; choose from mlp, wrn, resnet, transformer, recurrent"):
        family("x")


def test_unknown_and_missing_options_and_those_of_another_type_are_refused(seeded):
    with pytest.raises(ValueError, match="Unknown option 'widht' of the family wrn; did you mean width"):
        build("wrn", (3, 8, 8), seeded(0), widht=2)
    with pytest.raises(ValueError, match="Unknown option 'bias' of the family mlp; choose from depth, width"):
        build("mlp", (3,), seeded(0), bias=False)
    with pytest.raises(ValueError, match="the family mlp needs the option width; give depth, width"):
        build("mlp", (3,), seeded(0), depth=2)
    for options, rule in (
        ({"skips": "false"}, "skips of the family wrn must be True or False, got 'false'"),
        ({"skips": 0}, "skips of the family wrn must be True or False, got 0"),
        ({"depth": 26.0}, r"depth of the family wrn must be an integer, got 26\.0"),
        ({"depth": True}, "depth of the family wrn must be an integer, got True"),
        ({"dropout": True}, "dropout of the family wrn must be a number, got True"),
        ({"width": None}, "width of the family wrn must be an integer, got None"),
    ):
        with pytest.raises(ValueError, match=rule):
            build("wrn", (3, 8, 8), seeded(0), **options)
    with pytest.raises(ValueError, match="stem of the family resnet must be a text, got 3"):
        build("resnet", (3, 8, 8), seeded(0), stem=3)
    with pytest.raises(ValueError, match="max_length must be at least the length of the examples, 6, got 5"):
        build("transformer", (6,), seeded(0), max_length=5)


@pytest.mark.parametrize(
    ("name", "shape", "takes"),
    [
        ("wrn", (64,), "images"),
        ("resnet", (8, 8), "images"),
        ("cifar_resnet", (64,), "images"),
        ("vgg", (64,), "images"),
        ("transformer", (3, 8, 8), "texts"),
        ("recurrent", (3, 4, 8, 8), "texts, sequences and images"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused_with_a_family_that_does(name, shape, takes, seeded):
    with pytest.raises(ValueError) as refused:  # noqa: PT011  # the whole sentence is compared
        build(name, shape, seeded(0))
    assert str(refused.value) == f"the family {name} takes {takes}, got examples of shape {shape}; use mlp."
    assert isinstance(build("mlp", shape, seeded(0), depth=1, width=4), MLP)
