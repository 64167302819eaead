"""What every switch must do with every normalizer."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import normscope as ns
from normscope.models import Recurrent, ResNet, Transformer, WideResNet
from normscope.nn import switches
from normscope.nn.switches import switch

from .networks import CLASSES, DEPTH, FEATURES, draw, gradients, marked, plain_mlp, switched_mlp

ROWS = [row for row in ns.normalizers() if not row.needs_positions]  # what an MLP can have
ADAPTED = (
    ns.as_normalizer(nn.BatchNorm1d),
    ns.as_normalizer(lambda c: nn.Sequential(nn.BatchNorm1d(c)), name="boxed"),
    ns.as_normalizer(functools.partial(nn.GroupNorm, 2), name="groupnorm2"),
    ns.as_normalizer(nn.LayerNorm),
    ns.as_normalizer(lambda _c: nn.Identity(), name="identity"),
)
SWITCHES = {
    "gradient_scale": switch("gradient_scale", k=1.21),
    "gradient_scale_until": switch("gradient_scale", k=0.8, until=50),
    "batch_noise": switch("batch_noise", samples=16),
    "batch_noise_shift": switch("batch_noise", samples=16, kind="shift", shared=False),
    "random_sign": switch("signed_relu"),
    "mean_shifted": switch("signed_relu", kind="mean_shifted"),
    "cosine": switch("normalized_affine", kind="cosine"),
    "centered_cosine": switch("normalized_affine", kind="centered_cosine"),
    "weight_standardization": switch("normalized_affine", kind="weight_standardization"),
    "tlu": switch("tlu"),
    "logits_norm": switch("logits_norm"),
    "logits_mean": switch("logits_norm", variance=False),
    "logits_variance": switch("logits_norm", mean=False),
    "variance_penalty": switch("variance_penalty", weight=0.5),
    "noisy_batch_norm": switch("noisy_batch_norm"),
}
TOGETHER = [switch("gradient_scale", k=1.1), switch("batch_noise", samples=8), switch("tlu")]
TOGETHER += [switch("normalized_affine"), switch("logits_norm"), switch("variance_penalty", weight=0.5)]


@pytest.fixture(params=[*ROWS, *ADAPTED], ids=lambda row: row.name)
def row(request: pytest.FixtureRequest):
    return request.param


@pytest.mark.parametrize("name", [*SWITCHES, "together"])
def test_a_switch_goes_with_every_normalizer(row, name):
    """It trains, every site is marked once, and a probe reads as many sites as there are."""
    model, switched = switched_mlp(row, TOGETHER if name == "together" else [SWITCHES[name]])
    x, y = draw(9, FEATURES), torch.arange(9) % CLASSES

    switched.at_step(model, 1)
    outputs, penalty = ns.nn.Penalised(model)(x)
    (F.cross_entropy(outputs, y) + penalty).backward()

    assert outputs.shape == (9, CLASSES)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert [module.normalizer_site for module in marked(model)] == [row.name] * DEPTH
    assert sum(hasattr(module, "normalizer_site") for module in model.modules()) == DEPTH
    reading = ns.probes.InformationPropagation()(
        ns.Subject(model, F.cross_entropy, (x, y)), generator=torch.Generator().manual_seed(0)
    )
    assert len(reading.values) == DEPTH
    assert reading.values.isfinite().all()
    penalized = getattr(row, "penalized", False) or name in ("variance_penalty", "together")
    assert any(getattr(module, "penalized", False) for module in model.modules()) == penalized
    assert (penalty > 0) == penalized


NEUTRAL = {
    "k=1": [switch("gradient_scale", k=1.0)],
    "k=1 until": [switch("gradient_scale", k=1, until=50)],
    "threshold 0": [switch("tlu")],
    "weight 0": [switch("variance_penalty", weight=0)],
    "none": [],
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_where_a_switch_does_nothing_the_network_is_the_plain_one_bit_for_bit(row, name):
    plain = plain_mlp(row)
    model, _ = switched_mlp(row, NEUTRAL[name])
    x = draw(9, FEATURES)

    assert torch.equal(model(x), plain(x))
    kept = [p for n, p in model.named_parameters() if not n.startswith("activations.")]
    assert all(torch.equal(a, b) for a, b in zip(kept, plain.parameters(), strict=True))
    got = torch.autograd.grad(model(x).square().sum(), kept, allow_unused=True, materialize_grads=True)
    want = gradients(plain, x, lambda outputs: outputs.square().sum())
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_weights_do_not_depend_on_the_switches(row):
    plain = dict(plain_mlp(row).named_parameters())
    model, _ = switched_mlp(row, TOGETHER)
    assert torch.equal(dict(model.named_parameters())["model.readout.bias"], plain["readout.bias"])


def test_the_penalty_of_a_row_is_the_plain_networks():
    x = draw(9, FEATURES)
    for name in ("regnorm", "preregnorm"):
        _, want = ns.nn.Penalised(plain_mlp(ns.normalizer(name)))(x)
        model, _ = switched_mlp(ns.normalizer(name), [SWITCHES["gradient_scale"]])
        _, got = ns.nn.Penalised(model)(x)
        assert torch.equal(got, want)
        model(x)
        torch.testing.assert_close(ns.penalty(model), want)


def test_a_generators_state_decides_what_is_drawn_and_is_left_where_it_is():
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    same = [switches.apply(ns.normalizer("none"), [], generator=generator).seed for _ in range(2)]
    assert torch.equal(generator.get_state(), before)
    assert same[0] == same[1]
    torch.rand(1, generator=generator)
    assert switches.apply(ns.normalizer("none"), [], generator=generator).seed != same[0]


def test_the_global_random_state_is_not_used():
    before = torch.get_rng_state()
    switched_mlp(ns.normalizer("layernorm"), [SWITCHES["batch_noise"], SWITCHES["random_sign"]])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_switched_normalizer_is_one():
    switched = switches.apply(ns.normalizer("layernorm"), TOGETHER, generator=torch.Generator())
    assert isinstance(switched, ns.NormalizerLike)
    assert switched.name == "layernorm"


@pytest.mark.parametrize(("name", "couples"), [("layernorm", False), ("batchnorm", True)])
def test_batch_statistics_at_the_logits_couple_the_batch(name, couples):
    def made(chosen):
        return switches.apply(ns.normalizer(name), chosen, generator=torch.Generator()).couples_batch

    assert made([SWITCHES["batch_noise"]]) is couples
    assert made([SWITCHES["logits_norm"]]) is True


def test_affine_layers_are_left_untouched_and_their_parameters_shared(row):
    switched = switches.apply(row, [SWITCHES["cosine"]], generator=torch.Generator())
    layer = nn.Linear(5, 4)
    keys = set(vars(layer))
    new = switched.affine(layer)
    assert new is not layer
    assert set(vars(layer)) == keys
    assert not layer._forward_hooks
    assert new.bias is layer.bias


def test_without_a_switch_at_sites_the_site_is_the_rows_own():
    switched = switches.apply(ns.normalizer("batchnorm"), [SWITCHES["tlu"]], generator=torch.Generator())
    assert isinstance(switched.site(4), ns.nn.Site)
    assert switches.apply(ns.normalizer("none"), [], generator=torch.Generator()).activation_factory is None


def test_a_mark_of_the_class_is_hidden_inside():
    class Marked(nn.Identity):
        normalizer_site = "always"

    adapted = ns.as_normalizer(lambda _c: Marked(), name="always")
    switched = switches.apply(adapted, [SWITCHES["gradient_scale"]], generator=torch.Generator())
    assert len(marked(switched.site(4, 2))) == 1


def test_noise_comes_before_what_stands_behind_the_site():
    chosen = [SWITCHES["gradient_scale"], SWITCHES["batch_noise"]]
    site = switches.apply(ns.normalizer("layernorm"), chosen, generator=torch.Generator()).site(4, 2)
    assert [type(module).__name__ for module in site.behind] == ["BatchNoise", "GradientScale"]


def test_state_dict_and_deep_copy_make_the_round_trip():
    chosen = [*TOGETHER, switch("gradient_scale", k=2.0, until=9)][1:]
    model, switched = switched_mlp(ns.normalizer("batchnorm"), chosen)
    switched.at_step(model, 5)
    model(draw(9, FEATURES))
    twin = copy.deepcopy(model)
    other, _ = switched_mlp(ns.normalizer("batchnorm"), chosen, seed=1)
    other.load_state_dict(model.state_dict(), strict=True)
    x = draw(9, FEATURES, seed=4)
    assert torch.equal(other(x), twin(x))
    got, want = (gradients(m, x, lambda outputs: outputs.sin().sum()) for m in (other, twin))
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


FAMILIES = {
    "wrn": (functools.partial(WideResNet, 3, CLASSES, depth=8, widen_factor=1), (3, 8, 8)),
    "resnet": (functools.partial(ResNet, 3, CLASSES, depth=50, width=4, stem="small"), (3, 8, 8)),
    "transformer": (functools.partial(Transformer, CLASSES, depth=1, dim=8, heads=2, hidden=16, dropout=0.0), (7,)),
    "recurrent": (functools.partial(Recurrent, 6, CLASSES, hidden=8), (4, 6)),
}


@pytest.mark.parametrize("name", ["layernorm", "prelayernorm", "none", "batchnorm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_switches_go_with_every_family_of_networks(family, name):
    construct, shape = FAMILIES[family]
    generator = torch.Generator().manual_seed(0)
    chosen = [one for one in TOGETHER if family != "recurrent" or one.name != "tlu"]  # gates are no ReLU
    switched = switches.apply(ns.normalizer(name), chosen, generator=generator)
    factory = switched.activation_factory
    options = {} if factory is None else {"activation_factory": factory}
    model = switched.around(construct(normalizer=switched, generator=generator, **options), CLASSES)
    tokens = family == "transformer"
    x = torch.randint(CLASSES, (6, *shape), generator=generator) if tokens else torch.randn(6, *shape)
    switched.at_step(model, 1)
    outputs, penalty = ns.nn.Penalised(model)(x)
    (outputs.square().mean() + penalty).backward()
    assert penalty > 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_model_that_initializes_a_sites_gain_finds_it_behind_the_switches():
    row, x = ns.normalizer("layernorm"), torch.randn(2, 3, 8, 8)
    plain = ResNet(3, CLASSES, width=4, stem="small", normalizer=row, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    switched = switches.apply(row, [switch("gradient_scale", k=1.0)], generator=generator)
    model = ResNet(3, CLASSES, width=4, stem="small", normalizer=switched, generator=generator)
    assert any(p.ndim == 1 and p.abs().max() == 0 for n, p in plain.named_parameters() if n.endswith("norm3.weight"))
    assert torch.equal(model(x), plain(x))


def test_compiles_to_one_graph_with_equal_values():
    row = ns.normalizer("layernorm")
    chosen = [one for one in TOGETHER if one.name != "variance_penalty"]
    model, _ = switched_mlp(row, chosen)
    expected, _ = switched_mlp(row, chosen)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = draw(9, FEATURES)
    torch.testing.assert_close(compiled(x), expected(x))


def test_bad_arguments_are_refused_with_the_remedy():
    generator = torch.Generator()
    row = ns.normalizer("none")
    with pytest.raises(TypeError, match=r"normalizer with site\(\) and affine\(\), got 'none'"):
        switches.apply("none", [], generator=generator)
    with pytest.raises(TypeError, match=r"apply takes switches, got 'tlu'; make them by switches\.switch"):
        switches.apply(row, ["tlu"], generator=generator)
    with pytest.raises(TypeError, match=r"draw from a torch\.Generator, got a int"):
        switches.apply(row, [], generator=0)
    with pytest.raises(ValueError, match="at most once, got tlu, tlu"):
        switches.apply(row, [switch("tlu"), switch("tlu")], generator=generator)
    with pytest.raises(ValueError, match="replaces the activation, got tlu and signed_relu; choose one"):
        switches.apply(row, [switch("tlu"), switch("signed_relu")], generator=generator)
