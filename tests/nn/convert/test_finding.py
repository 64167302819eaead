"""Which norms are found, what they are read as, and what is refused by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import normscope as ns
from normscope.nn.convert import ConversionRefusedError, NormClass, register, registry

from .networks import with_random_vectors


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


SAME = [
    (nn.BatchNorm1d(4), "batchnorm", (5, 4)),
    (nn.BatchNorm1d(4), "batchnorm", (5, 4, 3)),
    (nn.BatchNorm2d(4, eps=0.1, momentum=None), "batchnorm", (5, 4, 3, 3)),
    (nn.BatchNorm2d(4, affine=False, track_running_stats=False), "batchnorm", (5, 4, 3, 3)),
    (nn.BatchNorm3d(4), "batchnorm", (5, 4, 2, 3, 3)),
    (nn.LayerNorm(4), "layernorm", (4,)),
    (nn.LayerNorm(4), "layernorm", (5, 4)),
    (nn.LayerNorm(4, eps=0.1), "layernorm", (5, 3, 4)),
    (nn.LayerNorm(4, bias=False), "layernorm", (5, 3, 3, 4)),
    (nn.LayerNorm((4, 3, 3), elementwise_affine=False), "layernorm", (5, 4, 3, 3)),
    (nn.RMSNorm(4, eps=0.1), "rmsnorm", (5, 3, 4)),
    (nn.GroupNorm(2, 4), "groupnorm", (5, 4, 3, 3)),
    (nn.InstanceNorm2d(4, affine=True), "instancenorm", (5, 4, 3, 3)),
    (nn.InstanceNorm1d(4), "instancenorm", (5, 4, 3)),
]


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("norm", "row", "shape"), SAME, ids=lambda v: str(v) if not isinstance(v, nn.Module) else None)
def test_every_norm_of_torch_is_read(norm, row, shape, training, traced):
    model = with_random_vectors(nn.Sequential(norm)).train(training)
    x = random(*shape)
    converted = ns.convert_norm(model, row, example_inputs=x if traced else None)
    new = model(x)
    converted.revert()
    torch.testing.assert_close(new, model(x), rtol=1e-12, atol=1e-12)


class OwnRMSNorm(nn.Module):
    """Named as others name it, with its own name for eps."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.weight, self.variance_epsilon, self.factor = nn.Parameter(torch.ones(4)), 0.1, factor

    def forward(self, x):
        return self.factor * self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon)


class ChannelsFirst(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class WithActivation(nn.GroupNorm):
    def __init__(self):
        super().__init__(2, 4)
        self.activation = nn.ReLU()

    def forward(self, x):
        return self.activation(super().forward(x))


class GemmaRMSNorm(OwnRMSNorm):
    def forward(self, x):
        return super().forward(x) * (1 + self.weight) / self.weight


@pytest.mark.parametrize(
    ("norm", "row", "shape"),
    [
        (OwnRMSNorm(), "rmsnorm", (2, 3, 4)),
        (GemmaRMSNorm(), "rmsnorm", (2, 3, 4)),
        (ChannelsFirst(4), "layernorm", (2, 4, 3, 3)),
        (WithActivation(), "groupnorm", (2, 4, 3, 3)),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_classes_that_resemble_known_ones_are_read_by_what_they_compute(norm, row, shape):
    model = with_random_vectors(nn.Sequential(norm))
    expected = model(random(*shape))
    ns.convert_norm(model, row, example_inputs=random(*shape))
    torch.testing.assert_close(model(random(*shape)), expected, rtol=1e-12, atol=1e-12)


def test_one_that_computes_something_else_is_refused_by_name():
    model = nn.Sequential(OwnRMSNorm(factor=2.0))
    with pytest.raises(ConversionRefusedError, match=r"0 \(OwnRMSNorm\): .*OwnRMSNorm does not compute what"):
        ns.convert_norm(model, "layernorm")
    assert isinstance(model[0], OwnRMSNorm)


class Unheard(nn.Module):
    def __init__(self):
        super().__init__()
        self.channels, self.gamma, self.tiny, self.act = 4, nn.Parameter(torch.ones(4)), 0.1, nn.ReLU()

    def forward(self, x):
        centered = x - x.mean(-1, keepdim=True)
        return self.act(self.gamma * centered * torch.rsqrt(centered.square().mean(-1, keepdim=True) + self.tiny))


class UnheardNorm(Unheard):
    pass


def test_a_registered_class_is_converted(monkeypatch):
    monkeypatch.setattr(registry, "_KNOWN", list(registry._KNOWN))
    register(
        NormClass(
            path=registry.import_path(Unheard),
            statistic="position",
            channels="last",
            features="channels",
            weight="gamma",
            eps=("tiny",),
            after=("act",),
        )
    )
    model = with_random_vectors(nn.Sequential(Unheard(), UnheardNorm()))
    expected = model(random(2, 3, 4))
    conversion = ns.convert_norm(model, "layernorm", example_inputs=random(2, 3, 4))
    torch.testing.assert_close(model(random(2, 3, 4)), expected, rtol=1e-12, atol=1e-12)
    assert [row.note for row in conversion.rows] == ["followed by ReLU"] * 2
    with pytest.raises(TypeError, match=r"register takes rows .* got 'Unheard'"):
        register("Unheard")


class Leaf(nn.Module):
    """Looks like a norm, and no one has said what it is."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return x * self.scale


LeafNorm = type("LeafNorm", (Leaf,), {})


def test_what_normalizes_and_is_not_replaced_is_in_the_table():
    model = nn.Sequential(LeafNorm(), nn.LocalResponseNorm(2), nn.LayerNorm(4))
    conversion = ns.convert_norm(model, "layernorm", example_inputs=torch.randn(2, 3, 4))
    refused = {row.name: row.refused for row in conversion.rows if row.refused}
    assert refused["0"].endswith("LeafNorm is not known; describe it by normscope.nn.convert.register")
    assert refused["1"] == "local response normalization has no row"
    assert "left: local response" in str(conversion)
    assert str(ns.convert_norm(nn.Linear(2, 2), "layernorm")) == "no norm modules were found"


REFUSED = [
    (lambda: nn.Sequential(nn.LazyBatchNorm2d()), "layernorm", None, r"0 \(LazyBatchNorm2d\): it is not initialised"),
    (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.BatchNorm2d(4)).double(),
        "prelayernorm",
        (2, 3, 4, 4),
        r"0 \(ConvTranspose2d\): .* filter_fn can leave it out",
    ),
    (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.LayerNorm(4)).double(),
        "weightnorm",
        (2, 3),
        r"0 \(ParametrizedLinear\): the weight .* is made by a parametrization or a hook",
    ),
    (
        lambda: nn.Sequential(nn.MultiheadAttention(4, 2, add_bias_kv=True).double(), nn.LayerNorm(4)),
        "weightnorm",
        None,
        "weightnorm acts on affine layers, found by a run; give example_inputs",
    ),
]


@pytest.mark.parametrize(("build", "row", "shape", "message"), REFUSED)
def test_what_cannot_be_converted_is_refused_by_name(build, row, shape, message):
    model = build()
    before = [(name, id(module)) for name, module in model.named_modules()]
    with pytest.raises(ConversionRefusedError, match=message) as caught:
        ns.convert_norm(model, row, example_inputs=None if shape is None else random(*shape))
    assert "\n" not in str(caught.value)
    assert [(name, id(module)) for name, module in model.named_modules()] == before


def test_a_scripted_model_is_refused():
    with pytest.warns(DeprecationWarning, match="script"):
        scripted = torch.jit.script(nn.Sequential(nn.BatchNorm2d(3)))
    with pytest.raises(ConversionRefusedError, match="convert the model before it is scripted"):
        ns.convert_norm(scripted, "layernorm")


def test_parametrized_layers_are_centered():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)).double()
    model = nn.Sequential(layer, nn.LayerNorm(4).double())
    x = random(2, 3)
    z = layer(x - x.mean(-1, keepdim=True))
    ns.convert_norm(model, "prelayernorm", example_inputs=x)
    torch.testing.assert_close(model(x), z / (z.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt())
