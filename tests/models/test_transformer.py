from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import normscope as ns
from normscope.models import Transformer, as_normalizer
from normscope.nn import normalizer, normalizers

from .standin import StandIn, affine_layers, count, sites


def transformer(generator, **changes):
    arguments = {"depth": 2, "dim": 16, "heads": 4, "hidden": 24, "max_length": 12, "dropout": 0.0}
    arguments |= {"normalizer": StandIn(), "generator": generator}
    return Transformer(11, **(arguments | changes))


def tokens_of(generator, *shape):
    return torch.randint(0, 11, shape, generator=generator)


def test_parameters_at_the_papers_sizes_are_those_of_the_formula(seeded):
    vocabulary, dim, hidden = 32_000, 512, 2048
    block = 4 * dim**2 + (2 * dim * hidden + hidden + dim) + 2 * 2 * dim
    whole = vocabulary * dim + 512 * dim + 6 * block + 2 * dim + (dim * vocabulary + vocabulary)
    model = Transformer(vocabulary, normalizer=normalizer("layernorm"), generator=seeded(0))
    assert count(model) == whole == 51_965_184
    assert len(sites(model)) == 13


def randomized(model, generator):
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
    return model.double()


def torchs_block(block, dim, heads, hidden):
    """torch's own encoder layer with the block's weights."""
    layer = nn.TransformerEncoderLayer(
        dim, heads, hidden, dropout=0.0, activation=F.gelu, batch_first=True, norm_first=True, dtype=torch.float64
    )
    attention = block.attention
    parts = (attention.query, attention.key, attention.value)
    own = {
        "self_attn.in_proj_weight": torch.cat([part.weight for part in parts]),
        "self_attn.in_proj_bias": torch.zeros(3 * dim),
        "self_attn.out_proj.weight": attention.output.weight,
        "self_attn.out_proj.bias": torch.zeros(dim),
    }
    named = {"linear1": block.widening, "linear2": block.narrowing, "norm1": block.norm1, "norm2": block.norm2}
    own |= {f"{name}.{key}": value for name, module in named.items() for key, value in module.state_dict().items()}
    layer.load_state_dict(own)
    return layer


def test_with_layernorm_the_network_is_made_of_torchs_own_pre_norm_layers(seeded):
    model = randomized(transformer(seeded(0), normalizer=normalizer("layernorm")), seeded(1))
    tokens = tokens_of(seeded(2), 3, 9)
    mask = nn.Transformer.generate_square_subsequent_mask(9, dtype=torch.float64)
    x = model.embedding.weight[tokens] + model.positions[:9]
    for block in model.blocks:
        x = torchs_block(block, 16, 4, 24)(x, src_mask=mask, is_causal=True)
    x = F.layer_norm(x, (16,), model.norm.weight, model.norm.bias)
    torch.testing.assert_close(model(tokens), x @ model.readout.weight.T + model.readout.bias)


def centered_and_divided(layer, x):
    z = F.linear(x - x.mean(-1, keepdim=True), layer.weight, layer.bias)
    return z / (z.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()


def test_with_prelayernorm_a_block_centers_before_and_divides_after_each_layer_that_follows_a_site(seeded):
    model = randomized(transformer(seeded(0), normalizer=normalizer("prelayernorm")), seeded(1))
    block, attention = model.blocks[0], model.blocks[0].attention
    x = torch.randn(2, 5, 16, generator=seeded(2), dtype=torch.float64)
    q, k, v = (
        centered_and_divided(layer, x).view(2, 5, 4, 4).transpose(1, 2)
        for layer in (attention.query, attention.key, attention.value)
    )
    scores = (q @ k.transpose(-1, -2) / 2).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(2, 5, 16)
    y = x + (mixed - mixed.mean(-1, keepdim=True)) @ attention.output.weight.T
    inner = F.gelu(centered_and_divided(block.widening, y))
    inner = inner - inner.mean(-1, keepdim=True)
    torch.testing.assert_close(block(x), y + inner @ block.narrowing.weight.T + block.narrowing.bias)


def test_prelayernorms_two_operations_before_the_logits_are_layernorms(seeded):
    pre, layer = (
        transformer(seeded(0), normalizer=normalizer(name)).double() for name in ("prelayernorm", "layernorm")
    )
    x = torch.randn(2, 5, 16, generator=seeded(1), dtype=torch.float64) + 3
    torch.testing.assert_close(pre.readout(pre.norm(x)), layer.readout(layer.norm(x)))


def test_sites_of_a_block_stand_before_the_four_layers_and_all_others_in_the_ordinary_order(seeded):
    row = StandIn()
    model = transformer(seeded(0), normalizer=row)
    before = {
        part
        for block in model.blocks
        for attention in [block.attention]
        for part in (block.norm1, block.norm2, attention.query, attention.key, attention.value, block.widening)
    }
    assert set(row.before) == before
    assert set(row.seen) == set(affine_layers(model))
    assert {site.ndim for site in sites(model)} == {3}


# Statistics over positions are of later tokens too.
CAUSAL = [row for row in normalizers() if not (row.couples_batch or row.scale == "instance")]


@pytest.mark.parametrize("row", CAUSAL, ids=lambda row: row.name)
def test_no_output_depends_on_a_later_token(row, seeded):
    model = transformer(seeded(0), normalizer=row)
    tokens = tokens_of(seeded(1), 2, 8)
    for t in range(8):
        changed = tokens.clone()
        changed[:, t] = (changed[:, t] + 1) % 11
        before, after = copy.deepcopy(model)(tokens), copy.deepcopy(model)(changed)  # a row may keep statistics
        torch.testing.assert_close(before[:, :t], after[:, :t])
        assert not torch.isclose(before[:, t:], after[:, t:]).all(-1).any()  # and every later one depends on it


def test_a_row_that_couples_the_batch_leaks_later_tokens_in_train_mode_only(seeded):
    model = transformer(seeded(0), normalizer=normalizer("batchnorm"))
    tokens = tokens_of(seeded(1), 2, 8)
    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 11
    assert not torch.allclose(model(tokens)[:, :7], model(changed)[:, :7])
    model.eval()
    torch.testing.assert_close(model(tokens)[:, :7], model(changed)[:, :7])


@pytest.mark.parametrize("dim", [16, 15])
def test_positions_start_as_sines_and_cosines(dim, seeded):
    positions = transformer(seeded(0), dim=dim, heads=1).positions
    half = (dim + 1) // 2
    for t in range(12):
        for i in range(half):
            angle = t * 10000 ** (-2 * i / dim)
            assert positions[t, i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            if half + i < dim:
                assert positions[t, half + i].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert positions.requires_grad


def test_initial_weights_are_xavier_uniform_and_embeddings_standard_normal(seed, seeded):
    model = transformer(seeded(seed), dim=64, hidden=128)
    for layer in affine_layers(model):
        bound = math.sqrt(6 / (layer.in_features + layer.out_features))
        n = layer.weight.numel()
        assert layer.weight.abs().max() <= bound
        assert abs(layer.weight.square().mean().item() / (bound**2 / 3) - 1) < 4 * math.sqrt(0.8 / n)
        assert layer.bias is None or not layer.bias.any()
    n = model.embedding.weight.numel()
    assert abs(model.embedding.weight.square().mean().item() - 1) < 4 * math.sqrt(2 / n)


def test_weights_come_from_the_generator_alone(seeded):
    before = torch.get_rng_state()
    one, two = transformer(seeded(5)), transformer(seeded(5), normalizer=normalizer("prelayernorm"))
    other = transformer(seeded(6))
    assert torch.equal(before, torch.get_rng_state())
    for name in ("readout.weight", "embedding.weight", "blocks.1.attention.key.weight"):
        assert torch.equal(one.get_parameter(name), two.get_parameter(name))
        assert not torch.equal(one.get_parameter(name), other.get_parameter(name))


def test_dropout_modules_alone_decide_about_every_dropout(seeded):
    model = transformer(seeded(0), dropout=0.5)
    tokens = tokens_of(seeded(1), 2, 8)
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert len(dropouts) == 1 + 4 * 2
    assert not torch.equal(model(tokens), model(tokens))
    for off in dropouts:  # each of them acts: with one alone switched on, outputs differ from one run to the next
        for module in dropouts:
            module.training = module is off
        assert not torch.equal(model(tokens), model(tokens))
        off.training = False
    assert model.training
    assert torch.equal(model(tokens), model(tokens))


@pytest.mark.parametrize("row", normalizers(), ids=lambda row: row.name)
def test_every_row_trains_every_parameter(row, seeded):
    model = transformer(seeded(0), normalizer=row)
    tokens = tokens_of(seeded(1), 3, 12)
    outputs = model(tokens)
    F.cross_entropy(outputs[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    assert outputs.shape == (3, 12, 11)
    assert outputs.isfinite().all()
    assert len(sites(model)) == 5
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(("name", "terms"), [("regnorm", 5), ("preregnorm", 2 * 4 + 1)])
def test_the_penalty_is_counted_at_every_division(name, terms, seeded):
    model = transformer(seeded(0), normalizer=normalizer(name))
    tokens = tokens_of(seeded(1), 1, 8)  # of one example every value is its own batch mean: each penalty is near 1
    _, penalty = ns.nn.Penalised(model)(tokens)
    assert penalty.item() == pytest.approx(terms, rel=0.25)
    model(tokens)
    torch.testing.assert_close(ns.penalty(model), penalty)


def test_torchs_own_layers_run_in_it(seeded):
    model = transformer(seeded(0), normalizer=as_normalizer(nn.RMSNorm))
    assert model(tokens_of(seeded(1), 2, 3)).shape == (2, 3, 11)


def test_bad_arguments_and_inputs_are_refused(seeded):
    with pytest.raises(ValueError, match="dim must be a multiple of heads, got dim=16 and heads=3"):
        transformer(seeded(0), heads=3)
    with pytest.raises(ValueError, match=r"dropout is a probability in \[0, 1\), got 1.0"):
        transformer(seeded(0), dropout=1.0)
    with pytest.raises(ValueError, match="hidden must be a positive integer, got 0"):
        transformer(seeded(0), hidden=0)
    with pytest.raises(TypeError, match="takes a normalizer with site"):
        transformer(seeded(0), normalizer="layernorm")
    model = transformer(seeded(0))
    for wrong in (torch.zeros(2, 13, dtype=torch.int64), torch.zeros(2, 8), torch.zeros(8, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"int64 tokens of shape \(N, T\) with T up to 12, got "):
            model(wrong)


def test_probes_measure_it_without_dropout(seeded):
    model = transformer(seeded(0), dropout=0.5)
    tokens = tokens_of(seeded(1), 3, 8)
    subject = ns.Subject(
        model, lambda outputs, y: F.cross_entropy(outputs.flatten(0, 1), y.flatten()), (tokens, tokens)
    )
    one, two = (ns.probes.GradientNorm()(subject, generator=seeded(s)).values for s in (2, 3))
    assert torch.equal(one, two)
