from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import normscope as ns
from normscope.nn.convert import ConversionRefusedError

from .networks import Gated, Odd, PreNorm, ResNet, with_random_vectors

IMAGES = torch.randn(4, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randn(4, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
MODELS = {"images": (ResNet, IMAGES), "tokens": (PreNorm, TOKENS)}


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def modules(model):
    return [(name, id(module), module.training) for name, module in model.named_modules(remove_duplicate=False)]


def assert_same_state(model, saved):
    assert list(model.state_dict()) == list(saved)
    for name, value in model.state_dict().items():
        assert torch.equal(value, saved[name]), name


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("row", [row.name for row in ns.normalizers()])
def test_every_row_computes_learns_and_is_reverted_bit_for_bit(row, kind):
    build, x = MODELS[kind]
    model = with_random_vectors(build())
    saved, before, named = state(model), modules(model), [(n, id(p)) for n, p in model.named_parameters()]
    conversion = ns.convert_norm(model, row, example_inputs=x)
    assert_same_state_unless_weights_are_made(conversion, saved)
    optimizer = torch.optim.SGD(conversion.model.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        torch.manual_seed(0)  # of dropout
        outputs, penalty = ns.nn.Penalised(conversion.model)(x)
        loss = (outputs - 1).square().mean() + 0.1 * penalty
        loss.backward()
        missing = [name for name, p in conversion.model.named_parameters() if p.grad is None]
        assert not missing
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert conversion.revert() is model
    assert_same_state(model, saved)
    assert modules(model) == before
    assert [(n, id(p)) for n, p in model.named_parameters()] == named


def assert_same_state_unless_weights_are_made(conversion, saved):
    new = conversion.model.state_dict()
    for row in conversion.rows:
        for key in row.kept:
            if f"{row.name}.{key}" in new:
                assert torch.equal(new[f"{row.name}.{key}"], saved[f"{row.name}.{key}"])


@pytest.mark.parametrize(("build", "x", "row"), [(ResNet, IMAGES, "batchnorm"), (PreNorm, TOKENS, "layernorm")])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("traced", [True, False])
def test_the_row_that_was_there_gives_the_same_outputs(build, x, row, training, traced):
    model = with_random_vectors(build()).train(training)
    model.drop = nn.Identity()
    again = copy.deepcopy(model)
    expected = model(x)
    conversion = ns.convert_norm(again, row, example_inputs=x if traced else None)
    assert torch.equal(conversion.model(x), expected)
    placed = {k.replace(".site.", "."): v for k, v in again.state_dict().items()}
    for name, value in model.state_dict().items():  # running statistics after this step too
        assert torch.equal(placed[name], value), name
    assert {r.to for r in conversion.rows} == {row}


def reference_resnet(model, x, row):
    """PreLayerNorm by hand: every affine layer sees centered input, every norm divides by the layer's deviation."""

    def centered(x):
        return x - x.mean(tuple(range(1, x.ndim)), keepdim=True)

    def conv(layer, x):
        return F.conv2d(centered(x), layer.weight, layer.bias, padding=1)

    def norm(old, z):
        z = z / (z.var((1, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
        return z * old.weight.view(-1, 1, 1) + old.bias.view(-1, 1, 1)

    x = F.relu(norm(model.stem[1], conv(model.stem[0], x)))
    for block in model.blocks:
        y = F.relu(norm(block.bn1, conv(block.conv1, x)))
        x = F.relu(x + norm(block.bn2, conv(block.conv2, y)))
    return F.linear(centered(x.mean((2, 3))), model.fc.weight, model.fc.bias)


def test_prelayernorm_of_a_residual_network_is_the_one_written_by_hand():
    model = with_random_vectors(ResNet())
    expected = reference_resnet(copy.deepcopy(model), IMAGES, None)
    conversion = ns.convert_norm(model, "prelayernorm", example_inputs=IMAGES)
    torch.testing.assert_close(conversion.model(IMAGES), expected, rtol=1e-12, atol=1e-12)
    assert [row.name for row in conversion.rows if row.kind == "affine"] == [
        "stem.0", "blocks.0.conv1", "blocks.0.conv2", "blocks.1.conv1", "blocks.1.conv2", "fc",
    ]  # fmt: skip
    assert [site.name for site in conversion.sites] == [
        "stem.1", "blocks.0.bn1", "blocks.0.bn2", "blocks.1.bn1", "blocks.1.bn2",
    ]  # fmt: skip


def reference_transformer(model, x, eps=1e-5):
    """Section 5.4 by hand: center before, divide after, query, key and value each; the readout keeps its norm."""

    def centered(x):
        return x - x.mean(-1, keepdim=True)

    def divided(z):
        return z / (z.var(-1, unbiased=False, keepdim=True) + eps).sqrt()

    qkv = F.linear(centered(x), model.qkv.weight, model.qkv.bias).chunk(3, -1)
    q, k, v = (divided(part).unflatten(-1, (model.heads, -1)).transpose(1, 2) for part in qkv)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    x = x + F.linear(centered(mixed), model.proj.weight, model.proj.bias)
    inner = F.gelu(divided(F.linear(centered(x), model.up.weight, model.up.bias)))
    x = x + F.linear(centered(inner), model.down.weight, model.down.bias)
    x = divided(x) * model.final.weight + model.final.bias
    return F.linear(centered(x), model.readout.weight, model.readout.bias)


def test_prelayernorm_of_a_prenorm_transformer_is_the_one_written_by_hand():
    model = with_random_vectors(PreNorm()).eval()
    expected = reference_transformer(copy.deepcopy(model), TOKENS)
    conversion = ns.convert_norm(model, "prelayernorm", example_inputs=TOKENS)
    torch.testing.assert_close(model(TOKENS), expected, rtol=1e-10, atol=1e-10)
    rows = {row.name: row for row in conversion.rows}
    assert rows["norm1"].reset == ("weight", "bias")
    assert rows["final"].kept == ("weight", "bias")
    assert "each of 3 projections" in rows["qkv"].note
    assert list(model.state_dict()) == [
        k for k in with_random_vectors(PreNorm()).state_dict() if k[:5] not in ("norm1", "norm2")
    ]


def test_what_needs_a_run_is_refused_without_one_and_nothing_changes():
    model = with_random_vectors(ResNet())
    saved, before = state(model), modules(model)
    with pytest.raises(
        ConversionRefusedError, match=r"stem\.1 \(BatchNorm2d\): prelayernorm acts on .* example_inputs"
    ):
        ns.convert_norm(model, "prelayernorm")
    assert_same_state(model, saved)
    assert modules(model) == before


def test_a_recurrent_layer_is_refused_by_name_and_nothing_changes():
    model = with_random_vectors(Odd())
    saved, before = state(model), modules(model)
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    with pytest.raises(ConversionRefusedError, match=r"lstm \(LSTM\): LSTM is a fused projection") as caught:
        ns.convert_norm(model, "prelayernorm", example_inputs=x)
    assert [row.name for row in caught.value.rows] == ["lstm"]
    assert_same_state(model, saved)
    assert modules(model) == before
    keep = lambda name, module: not isinstance(module, nn.LSTM)  # noqa: E731
    conversion = ns.convert_norm(model, "prelayernorm", example_inputs=x, filter_fn=keep)
    assert {row.name: row.refused for row in conversion.rows if row.refused} == {
        "lstm": "filter_fn leaves it out",
        "": "a function call, which holds no module to replace",
    }


def test_shared_and_reused_norms_stay_shared_and_functions_are_reported():
    model = with_random_vectors(Odd())
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    expected = model(x)
    conversion = ns.convert_norm(model, "layernorm", example_inputs=x)
    assert model.first is model.again
    assert torch.equal(model(x), expected)
    names = [row.name for row in conversion.rows if row.kind == "norm"]
    assert names == ["first, again", "several.0", "several.2", "table.a_b"]
    (function,) = [row for row in conversion.rows if row.kind == "function"]
    assert (function.name, function.from_, function.to) == ("", "layer_norm", "")
    assert "layer_norm" in str(conversion)
    assert getattr(function, "from") == "layer_norm"
    assert not list(model.table["a_b"].parameters())


def test_squeeze_and_excite_gates_are_left_out_and_listed():
    model = with_random_vectors(Gated())
    conversion = ns.convert_norm(model, "prelayernorm", example_inputs=IMAGES)
    left = {row.name: row.refused for row in conversion.rows if row.refused}
    assert left == dict.fromkeys(("squeeze", "excite"), "a squeeze-and-excite gate")
    conversion.revert()
    everything = ns.convert_norm(model, "prelayernorm", example_inputs=IMAGES, filter_fn=lambda name, module: True)
    assert not [row for row in everything.rows if row.refused]
    assert {row.name for row in everything.rows if row.kind == "affine"} == {"conv", "squeeze", "excite", "head"}


def test_different_rows_at_different_depths():
    model = with_random_vectors(ResNet())
    rows = {"stem.1": None, "blocks.0.bn1": ns.normalizer("layernorm", eps=0.1), nn.BatchNorm2d: "regnorm"}
    conversion = ns.convert_norm(model, rows, example_inputs=IMAGES)
    to = {row.name: row.to for row in conversion.rows}
    assert to == {
        "stem.1": "", "blocks.0.bn1": "layernorm eps=0.1", "blocks.0.bn2": "regnorm", "blocks.1.bn1": "regnorm",
        "blocks.1.bn2": "regnorm",
    }  # fmt: skip
    assert isinstance(model.stem[1], nn.BatchNorm2d)
    conversion.revert()
    by_function = ns.convert_norm(
        model, lambda name, m: "prelayernorm" if "1.bn" in name else None, example_inputs=IMAGES
    )
    changed = [row.name for row in by_function.rows if row.to]
    # Layers that feed a converted norm, and the readout, which it feeds.
    assert changed == ["blocks.1.conv1", "blocks.1.conv2", "fc", "blocks.1.bn1", "blocks.1.bn2"]


def test_wrong_arguments_are_refused_in_one_line():
    model = ResNet()
    with pytest.raises(TypeError, match=r"takes an nn\.Module, got str"):
        ns.convert_norm("resnet", "layernorm")
    with pytest.raises(ValueError, match="Unknown normalizer 'layernom'; did you mean layernorm"):
        ns.convert_norm(model, "layernom")
    with pytest.raises(TypeError, match="got 3; pass for instance 'layernorm'"):
        ns.convert_norm(model, 3)
    with pytest.raises(ValueError, match=r"'stem\.2' is none of them; did you mean stem\.1"):
        ns.convert_norm(model, {"stem.2": "layernorm"})
    with pytest.raises(TypeError, match=r"A choice for one norm is a row, its name, or None .* got 7"):
        ns.convert_norm(model, lambda name, module: 7)
    with pytest.raises(ValueError, match=r"that raised \w+Error: .*; give inputs that it takes"):
        ns.convert_norm(model, "layernorm", example_inputs=torch.randn(2, 9))


def test_the_run_leaves_no_trace():
    model = with_random_vectors(ResNet()).train()
    saved, before, attributes = state(model), modules(model), [set(vars(m)) for m in model.modules()]
    torch.manual_seed(5)
    x = IMAGES.clone().requires_grad_()
    ns.convert_norm(model, lambda name, module: None, example_inputs=x)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    assert_same_state(model, saved)
    assert modules(model) == before
    assert [set(vars(m)) for m in model.modules()] == attributes
    assert x.grad is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
