"""Torch's transformer: the fused projections of its attention, its masks, and its fused encoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import normscope as ns
from normscope.nn.convert import ConversionRefusedError
from normscope.nn.convert.fused import SeparatedAttention

from .networks import with_random_vectors

pytestmark = [
    pytest.mark.filterwarnings("ignore:enable_nested_tensor"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors"),
]

PADDING = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
CAUSAL = torch.ones(5, 5, dtype=torch.bool).triu(1)


def tokens(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("sizes", [{}, {"kdim": 6, "vdim": 5}, {"bias": False}])
@pytest.mark.parametrize("masks", [{}, {"key_padding_mask": PADDING}, {"attn_mask": CAUSAL, "is_causal": True}])
@pytest.mark.parametrize("needed", [True, False])
def test_with_a_row_that_leaves_layers_alone_it_is_torchs(first, sizes, masks, needed):
    layer = with_random_vectors(nn.MultiheadAttention(8, 2, batch_first=first, **sizes)).eval()
    separated = SeparatedAttention.of(layer, ns.normalizer("layernorm"), "affine_norm")
    inputs = [tokens(2, 5, size) for size in (8, sizes.get("kdim", 8), sizes.get("vdim", 8))]
    inputs = inputs if first else [x.transpose(0, 1) for x in inputs]
    expected, weights = layer(*inputs, need_weights=needed, **masks)
    got, got_weights = separated(*inputs, need_weights=needed, **masks)
    torch.testing.assert_close(got, expected)
    if needed:
        torch.testing.assert_close(got_weights, weights)
    assert list(separated.state_dict()) == list(layer.state_dict())


def test_unbatched_inputs_and_weights_by_head():
    layer = with_random_vectors(nn.MultiheadAttention(8, 2)).eval()
    separated = SeparatedAttention.of(layer, ns.normalizer("layernorm"), "affine_norm")
    x = tokens(5, 8)
    for output in (0, 1):
        got, expected = (m(x, x, x, average_attn_weights=False)[output] for m in (separated, layer))
        torch.testing.assert_close(got, expected)
    mask = torch.randn(4, 5, 5, dtype=torch.float64)
    y = tokens(5, 2, 8)
    torch.testing.assert_close(separated(y, y, y, attn_mask=mask)[0], layer(y, y, y, attn_mask=mask)[0])
    with pytest.raises(ValueError, match="is_causal says what attn_mask is"):
        separated(y, y, y, is_causal=True)


def by_hand(layer, x, mask, *, norm_first):
    """PreLayerNorm in one encoder layer, from its parameters."""

    def centered(x):
        return x - x.mean(-1, keepdim=True)

    def divided(z):
        return z / (z.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()

    after = divided if norm_first else lambda z: z
    attention = layer.self_attn
    q, k, v = (
        after(centered(x) @ w.T + b).unflatten(-1, (2, -1)).transpose(1, 2)
        for w, b in zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
    )
    scores = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).masked_fill(mask[:, None, None], -torch.inf)
    mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    site = (lambda norm, z: z) if norm_first else (lambda norm, z: divided(z) * norm.weight + norm.bias)
    out = attention.out_proj
    x = site(layer.norm1, x + centered(mixed) @ out.weight.T + out.bias)
    inner = torch.relu(after(centered(x) @ layer.linear1.weight.T + layer.linear1.bias))
    return site(layer.norm2, x + centered(inner) @ layer.linear2.weight.T + layer.linear2.bias)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_prelayernorm_of_torchs_encoder_is_the_one_written_by_hand(norm_first, training):
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True, norm_first=norm_first)
    model = with_random_vectors(nn.TransformerEncoder(layer, 2)).train(training)
    x = tokens(2, 5, 8)
    expected = x
    for block in model.layers:
        expected = by_hand(block, expected, PADDING, norm_first=norm_first)
    # The readout keeps its norm: here the last layer's output is the model's, so nothing of it changes.
    conversion = ns.convert_norm(model, "prelayernorm", example_inputs={"src": x, "src_key_padding_mask": PADDING})
    got = model(x, src_key_padding_mask=PADDING)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    names = [row.name for row in conversion.rows if row.kind == "affine"]
    assert names[:3] == ["layers.0.self_attn", "layers.0.linear1", "layers.0.linear2"]


@pytest.mark.parametrize("grad", [True, False])
def test_the_fused_encoder_does_not_bypass_the_sites(grad):
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    model = with_random_vectors(nn.TransformerEncoder(layer, 2)).eval()
    x = tokens(2, 5, 8)
    with torch.set_grad_enabled(grad):
        fused = model(x, src_key_padding_mask=PADDING)
        conversion = ns.convert_norm(model, "layernorm", example_inputs=x)
        seen = []
        model.layers[1].norm2.register_forward_hook(lambda *_: seen.append(1))
        got = model(x, src_key_padding_mask=PADDING)
    assert seen
    torch.testing.assert_close(got[~PADDING], fused[~PADDING])
    conversion.revert()
    assert model.use_nested_tensor
    assert model.layers[0].activation_relu_or_gelu == 1


def test_a_padding_mask_refuses_rows_that_couple_tokens():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), 1).double()
    inputs = {"src": tokens(2, 5, 8), "src_key_padding_mask": PADDING}
    with pytest.raises(ConversionRefusedError, match=r"got a padding mask \(src_key_padding_mask\) that no site sees"):
        ns.convert_norm(model, "batchnorm", example_inputs=inputs)
    ns.convert_norm(model, "layernorm", example_inputs=inputs).revert()
    ns.convert_norm(model, "batchnorm", example_inputs=inputs["src"])


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, add_zero_attn=True)

    def forward(self, x):
        y = self.norm(x)
        return x + self.attention(y, y, y)[0]


def test_projections_that_cannot_be_separated_are_refused_by_name():
    with pytest.raises(ConversionRefusedError, match=r"attention \(MultiheadAttention\): the fused in_proj"):
        ns.convert_norm(Attending().double(), "prelayernorm", example_inputs=tokens(5, 2, 8))
    with pytest.raises(ConversionRefusedError, match="fused projection whose weight weightnorm cannot change"):
        ns.convert_norm(Attending().double(), "weightnorm", example_inputs=tokens(5, 2, 8))


class Rotary(nn.Module):
    """A query whose halves are turned into each other is one projection, not two; logits are capped."""

    def __init__(self):
        super().__init__()
        self.norm, self.query, self.gate = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.last, self.head = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x):
        y = self.norm(x)
        first, second = self.query(y).chunk(2, -1)
        left, right = self.gate(y).chunk(2, -1)
        turned = torch.cat([first * 0.8 - second * 0.6, second * 0.8 + first * 0.6], -1)
        y = self.last(x + turned + (left * right).repeat(1, 1, 2))
        return torch.tanh(self.head(y) / 30) * 30


def test_projections_are_told_from_halves_of_one_and_the_readout_keeps_its_norm():
    conversion = ns.convert_norm(Rotary().double(), "prelayernorm", example_inputs=tokens(2, 5, 8))
    notes = {row.name: row.note for row in conversion.rows}
    assert notes["query"] == "divided after it too"
    assert notes["gate"] == "divided after it too, each of 2 projections by itself"
    assert notes["head"] == ""
    assert {row.name: row.kept for row in conversion.rows if row.kind == "norm"} == {
        "norm": (),
        "last": ("weight", "bias"),
    }
