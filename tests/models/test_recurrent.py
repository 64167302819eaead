from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import normscope as ns
from normscope.models import Recurrent
from normscope.nn import normalizer, normalizers
from normscope.probes.tap import sites as tapped_sites
from normscope.probes.tap import tap

from .standin import StandIn, affine_layers, sites

CELLS = ["lstm", "gru"]


def recurrent(generator, **changes):
    arguments = {"cell": "lstm", "hidden": 8, "normalizer": StandIn(), "generator": generator}
    return Recurrent(6, 5, **(arguments | changes))


def randomized(model, generator):
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, -1.0, 1.0, generator=generator)
    return model.double()


def sequences(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def torchs_layer(layer, state):
    """torch's own recurrent layer with the weights of one of ours, its second bias zero where ours is one."""
    hidden = layer.weight_hh_l0.shape[1]
    if isinstance(layer, nn.LSTM):
        parts = (state.input.weight, state.state.weight, state.bias, torch.zeros(4 * hidden))
    else:
        parts = (
            torch.cat([state.input_gates.weight, state.input_candidate.weight]),
            torch.cat([state.state_gates.weight, state.state_candidate.weight]),
            torch.cat([state.bias_gates, state.bias_candidate]),
            torch.cat([torch.zeros(2 * hidden), state.bias_state]),
        )
    layer.load_state_dict(dict(zip(("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"), parts, strict=True)))
    return layer


@pytest.mark.parametrize("cell", CELLS)
def test_unnormalized_it_is_torchs_own_layer(cell, seeded):
    model = randomized(recurrent(seeded(0), cell=cell, layers=2, normalizer=normalizer("none")), seeded(1))
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
    x = sequences(seeded(2), 3, 7, 6)
    y = x
    for layer in model.layers:
        y, _ = torchs_layer(kind(y.shape[2], 8, batch_first=True, dtype=torch.float64), layer)(y)
    expected = y[:, -1] @ model.readout.weight.T + model.readout.bias
    torch.testing.assert_close(model(x), expected, rtol=1e-6, atol=1e-9)


def layer_norm(z, site):
    return F.layer_norm(z, z.shape[1:], site.weight, site.bias)


def prelayer_norm(z, site):
    return z / (z.var(1, correction=0, keepdim=True) + 1e-5).sqrt() * site.weight + site.bias


def as_is(x):
    return x


def centered(x):
    return x - x.mean(1, keepdim=True)


# The published equations at one step that is not the first: how the site and the affine layer's input are changed.
ROWS = {"layernorm": (layer_norm, as_is), "prelayernorm": (prelayer_norm, centered)}


@pytest.mark.parametrize("name", ROWS)
def test_a_step_of_the_lstm_is_the_published_equation(name, seeded):
    layer = randomized(recurrent(seeded(0), normalizer=normalizer(name)), seeded(1)).layers[0]
    norm, taken = ROWS[name]
    x = sequences(seeded(2), 2, 3, 6)
    h1 = layer(x[:1])[0]
    i, f, g, o = (norm(taken(x[0]) @ layer.input.weight.T, layer.input_norm) + layer.bias).split(8, 1)
    c1 = i.sigmoid() * g.tanh()
    torch.testing.assert_close(h1, o.sigmoid() * norm(c1, layer.cell_norm).tanh())
    z = norm(taken(x[1]) @ layer.input.weight.T, layer.input_norm)
    z = z + norm(taken(h1) @ layer.state.weight.T, layer.state_norm) + layer.bias
    i, f, g, o = z.split(8, 1)
    c2 = f.sigmoid() * c1 + i.sigmoid() * g.tanh()
    torch.testing.assert_close(layer(x)[1], o.sigmoid() * norm(c2, layer.cell_norm).tanh())


@pytest.mark.parametrize("name", ROWS)
def test_a_step_of_the_gru_is_the_published_equation(name, seeded):
    layer = randomized(recurrent(seeded(0), cell="gru", normalizer=normalizer(name)), seeded(1)).layers[0]
    norm, taken = ROWS[name]
    x = sequences(seeded(2), 2, 3, 6)
    h1 = layer(x[:1])[0]
    gates = norm(taken(x[1]) @ layer.input_gates.weight.T, layer.input_gates_norm)
    gates = gates + norm(taken(h1) @ layer.state_gates.weight.T, layer.state_gates_norm) + layer.bias_gates
    r, z = gates.sigmoid().split(8, 1)
    inner = norm(taken(h1) @ layer.state_candidate.weight.T, layer.state_candidate_norm) + layer.bias_state
    outer = norm(taken(x[1]) @ layer.input_candidate.weight.T, layer.input_candidate_norm) + layer.bias_candidate
    torch.testing.assert_close(layer(x)[1], (1 - z) * (outer + r * inner).tanh() + z * h1)


def test_images_are_read_row_by_row(seeded):
    model = recurrent(seeded(0)).double()
    images = sequences(seeded(1), 2, 3, 4, 2)  # 4 rows of 3 channels times 2 pixels
    rows = torch.stack([images[:, :, row].reshape(2, 6) for row in range(4)], dim=1)
    torch.testing.assert_close(model(images), model(rows))
    assert model(images).shape == (2, 5)


@pytest.mark.parametrize("cell", CELLS)
def test_tokens_get_an_output_at_every_step_that_depends_on_no_later_one(cell, seeded):
    model = recurrent(seeded(0), cell=cell, vocabulary=9, normalizer=normalizer("layernorm")).double()
    tokens = torch.randint(0, 9, (2, 7), generator=seeded(1))
    changed = tokens.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 9
    before, after = model(tokens), model(changed)
    assert before.shape == (2, 7, 5)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.isclose(before[:, 4:], after[:, 4:]).all(-1).any()


@pytest.mark.parametrize(("cell", "affines", "norms"), [("lstm", 2, 3), ("gru", 4, 4)])
def test_each_layer_has_its_sites_and_every_affine_layer_was_shown_to_the_normalizer(cell, affines, norms, seeded):
    row = StandIn()
    model = recurrent(seeded(0), cell=cell, layers=3, normalizer=row)
    assert set(row.seen) == set(affine_layers(model))
    assert len(row.seen) == 3 * affines + 1
    assert row.before == []
    assert len(sites(model)) == 3 * norms
    assert {site.ndim for site in sites(model)} == {2}


@pytest.mark.parametrize(("cell", "once_less"), [("lstm", {"state"}), ("gru", {"state_gates", "state_candidate"})])
def test_probes_read_every_step_of_a_site(cell, once_less, seeded):
    model = recurrent(seeded(0), cell=cell, normalizer=normalizer("layernorm"))
    labels = []
    with tap(tapped_sites(model), lambda label, output: labels.append(label)):
        model(torch.randn(2, 5, 6, generator=seeded(1)))
    assert len(set(labels)) == len(labels)
    runs = Counter(label.split("#")[0] for label in labels)
    for name, times in runs.items():
        is_state = any(name == f"layers.0.{part}_norm" for part in once_less)
        assert times == (4 if is_state else 5)
    subject = ns.Subject(
        model,
        F.cross_entropy,
        (torch.randn(4, 5, 6, generator=seeded(1)), torch.randint(0, 5, (4,), generator=seeded(2))),
    )
    for probe in (ns.probes.InformationPropagation(), ns.probes.GradientNorm()):
        reading = probe(subject, generator=seeded(3))
        assert reading.labels["layer"] == tuple(labels)
        assert reading.values.isfinite().all()


def test_the_penalty_is_summed_over_steps_by_penalised_and_refused_in_a_plain_loop(seeded):
    model = recurrent(seeded(0), normalizer=normalizer("regnorm")).double()
    x = sequences(seeded(1), 1, 5, 6)  # of one example every value is its own batch mean: each penalty is near 1
    _, penalty = ns.nn.Penalised(model)(x)
    assert penalty.item() == pytest.approx(5 + 4 + 5, rel=0.01)
    penalty.backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if name.endswith("put.weight"))
    model(x)
    with pytest.raises(RuntimeError, match=r"site 'layers\.0\.input_norm' ran 5 times .* use ns\.nn\.Penalised"):
        ns.penalty(model)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("row", [row for row in normalizers() if not row.needs_positions], ids=lambda row: row.name)
def test_every_row_trains_every_parameter(row, cell, seeded):
    model = recurrent(seeded(0), cell=cell, normalizer=row)
    outputs = model(torch.randn(7, 3, 6, generator=seeded(1)))
    F.cross_entropy(outputs, torch.arange(7) % 5).backward()
    assert outputs.isfinite().all()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())


def test_batch_statistics_are_those_of_one_step(seeded):
    model = recurrent(seeded(0), normalizer=normalizer("batchnorm")).double()
    x = sequences(seeded(1), 4, 6, 6)
    outputs = []
    model.layers[0].input_norm.register_forward_hook(lambda _m, _x, y: outputs.append(y))
    model(x)
    assert len(outputs) == 6
    for output in outputs:
        torch.testing.assert_close(output.mean(0), torch.zeros(32, dtype=torch.float64), rtol=0, atol=1e-12)
    assert model.layers[0].input_norm.num_batches_tracked == 6


@pytest.mark.parametrize("cell", CELLS)
def test_weights_come_from_the_generator_alone(cell, seeded):
    before = torch.get_rng_state()
    one, two, other = (
        recurrent(seeded(s), cell=cell, vocabulary=9, normalizer=normalizer(name))
        for s, name in ((5, "layernorm"), (5, "prelayernorm"), (6, "layernorm"))
    )
    assert torch.equal(before, torch.get_rng_state())
    weights = [name for name, parameter in one.named_parameters() if parameter.ndim == 2]
    assert len(weights) == {"lstm": 4, "gru": 6}[cell]
    for name in weights:
        assert torch.equal(one.get_parameter(name), two.get_parameter(name))
        assert not torch.equal(one.get_parameter(name), other.get_parameter(name))


def test_initial_variance_is_one_over_fan_in_and_the_forget_gate_starts_open(seed, seeded):
    model = recurrent(seeded(seed), hidden=64)
    for layer in affine_layers(model):
        scaled = layer.weight.square().mean().item() * layer.in_features
        assert abs(scaled - 1) < 4 * math.sqrt(2 / layer.weight.numel())
    assert torch.equal(model.layers[0].bias.view(4, 64).mean(1), torch.tensor([0.0, 1.0, 0.0, 0.0]))


def test_bad_arguments_and_inputs_are_refused(seeded):
    with pytest.raises(ValueError, match="cell must be one of lstm, gru, got 'rnn'"):
        recurrent(seeded(0), cell="rnn")
    with pytest.raises(ValueError, match="vocabulary must be a positive integer, got 0"):
        recurrent(seeded(0), vocabulary=0)
    with pytest.raises(ValueError, match="layers must be a positive integer, got 0"):
        recurrent(seeded(0), layers=0)
    with pytest.raises(TypeError, match="takes a normalizer with site"):
        recurrent(seeded(0), normalizer=nn.LayerNorm)
    numbers = recurrent(seeded(0))
    for wrong in (torch.zeros(2, 6), torch.zeros(2, 0, 6), torch.zeros(2, 3, 7), torch.zeros(2, 3, 6).long()):
        with pytest.raises(ValueError, match=r"numbers of shape \(N, T, 6\) or images of 6 numbers a row"):
            numbers(wrong)
    tokens = recurrent(seeded(0), vocabulary=9)
    for wrong in (torch.zeros(2, 3), torch.zeros(2, 0).long(), torch.zeros(2, 3, 6)):
        with pytest.raises(ValueError, match=r"takes int64 tokens of shape \(N, T\), with at least one step"):
            tokens(wrong)
