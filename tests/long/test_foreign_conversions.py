"""convert_norm on networks of torchvision, timm and transformers, each from its library, none with trained weights."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import normscope as ns

from .foreign import NETWORKS, images, outputs_of, randomized, timm, torchvision, transformers

pytestmark = [
    pytest.mark.long,
    pytest.mark.usefixtures("torchvision_operators"),
    pytest.mark.filterwarnings("ignore"),  # of these libraries
]

ROWS = ("batchnorm", "layernorm", "rmsnorm", "prelayernorm", "regnorm", "groupnorm")
# The row that computes what the network's own norms do, in eval mode.
OWN = {
    **dict.fromkeys(("resnet18", "resnet50", "densenet121", "mobilenet_v3_small"), "batchnorm"),
    **dict.fromkeys(("timm resnetv2_50", "timm efficientnet_b0"), "batchnorm"),
    **dict.fromkeys(("convnext_tiny", "timm convnext_atto", "timm vit_tiny", "timm mixer"), "layernorm"),
    **dict.fromkeys(("gpt2", "bert", "vit"), "layernorm"),
    "llama": "rmsnorm",
}


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def modules(model):
    return [(name, id(module), module.training) for name, module in model.named_modules(remove_duplicate=False)]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("row", ROWS)
def test_it_computes_learns_and_is_reverted_bit_for_bit(name, row):
    model, inputs = NETWORKS[name]()
    randomized(model).eval()
    expected, saved, before = outputs_of(model, inputs), state(model), modules(model)
    conversion = ns.convert_norm(model, row, example_inputs=inputs)
    outputs = outputs_of(model, inputs)
    assert outputs.shape == expected.shape
    assert outputs.isfinite().all()
    if OWN.get(name) == row:
        torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-4)
    losses = []
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    model.train()
    for _ in range(4):
        optimizer.zero_grad()
        torch.manual_seed(0)
        loss = (outputs_of(model, inputs) - 1).square().mean() + 0.1 * ns.penalty(model)
        loss.backward()
        assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    conversion.revert()
    assert modules(model) == before
    assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())
    assert torch.equal(outputs_of(model, inputs), expected)


@pytest.mark.parametrize("name", [n for n, row in OWN.items() if row == "batchnorm"] + ["timm nf_resnet26"])
def test_none_in_eval_mode_computes_the_same(name):
    model, inputs = NETWORKS[name]()
    randomized(model).eval()
    expected = outputs_of(model, inputs)
    ns.convert_norm(model, "none", example_inputs=inputs)
    torch.testing.assert_close(outputs_of(model, inputs), expected, rtol=1e-5, atol=1e-4)


class Centered(nn.Module):
    """PreLayerNorm by hand: center, apply, and divide what comes out where the norm stood before the layer."""

    def __init__(self, layer, *, divide=0, eps=1e-5):
        super().__init__()
        self.layer, self.divide, self.eps = layer, divide, eps

    def forward(self, x):
        dims = tuple(range(1, x.ndim)) if isinstance(self.layer, nn.Conv2d) else (-1,)
        z = self.layer(x - x.mean(dims, keepdim=True))
        parts = z.chunk(self.divide, -1) if self.divide else ()
        scaled = [p / (p.var(-1, unbiased=False, keepdim=True) + self.eps).sqrt() for p in parts]
        return torch.cat(scaled, -1) if scaled else z


class Divided(nn.Module):
    """The site by hand: the layer's deviation, then gain and shift."""

    def __init__(self, norm, dims):
        super().__init__()
        self.norm, self.dims = norm, dims

    def forward(self, x):
        shape = (-1, *(1,) * (x.ndim - 2)) if len(self.dims) > 1 else (-1,)
        y = x / (x.var(self.dims, unbiased=False, keepdim=True) + self.norm.eps).sqrt()
        return y * self.norm.weight.view(shape) + self.norm.bias.view(shape)


def put(model, name, module):
    parent, _, key = name.rpartition(".")
    setattr(model.get_submodule(parent), key, module)


def test_prelayernorm_of_torchvisions_resnet_is_the_one_written_by_hand():
    model, x = torchvision("resnet18")
    by_hand = copy.deepcopy(randomized(model).eval())
    for name, module in list(by_hand.named_modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            put(by_hand, name, Centered(module))
        elif isinstance(module, nn.BatchNorm2d):
            put(by_hand, name, Divided(module, (1, 2, 3)))
    ns.convert_norm(model, "prelayernorm", example_inputs=x)
    torch.testing.assert_close(model(x), by_hand(x), rtol=1e-4, atol=1e-4)


def test_prelayernorm_of_timms_vision_transformer_is_the_one_written_by_hand():
    model, x = timm("vit_tiny_patch16_224", img_size=64)
    by_hand = copy.deepcopy(randomized(model).eval())
    for name, module in list(by_hand.named_modules()):
        divide = {"qkv": 3, "fc1": 1}.get(name.rpartition(".")[2], 0)
        if isinstance(module, nn.Conv2d | nn.Linear):
            put(by_hand, name, Centered(module, divide=divide, eps=1e-6))
        elif isinstance(module, nn.LayerNorm):
            put(by_hand, name, Divided(module, (-1,)) if name == "norm" else nn.Identity())
    ns.convert_norm(model, "prelayernorm", example_inputs=x)
    torch.testing.assert_close(model(x), by_hand(x), rtol=1e-4, atol=1e-4)


def test_prelayernorm_of_gpt2_is_the_one_written_by_hand():
    model, inputs = transformers("GPT2LMHead")
    by_hand = copy.deepcopy(randomized(model).eval())
    for name, module in list(by_hand.named_modules()):
        divide = {"c_attn": 3, "c_fc": 1}.get(name.rpartition(".")[2], 0)
        if type(module).__name__ == "Conv1D" or name == "lm_head":
            put(by_hand, name, Centered(module, divide=divide))
        elif isinstance(module, nn.LayerNorm):
            put(by_hand, name, Divided(module, (-1,)) if name == "transformer.ln_f" else nn.Identity())
    tied = model.lm_head.weight
    ns.convert_norm(model, "prelayernorm", example_inputs=inputs)
    torch.testing.assert_close(outputs_of(model, inputs), outputs_of(by_hand, inputs), rtol=1e-4, atol=1e-4)
    assert model.lm_head.weight is tied is model.transformer.wte.weight


def test_the_epsilon_of_llamas_norm_and_the_offset_of_gemmas_are_read():
    model, inputs = transformers("LlamaForCausalLM", num_key_value_heads=2, rms_norm_eps=1e-3)
    conversion = ns.convert_norm(model, "rmsnorm", example_inputs=inputs)
    assert {row.to for row in conversion.rows} == {"rmsnorm eps=0.001"}
    model, inputs = transformers("Gemma2ForCausalLM", num_key_value_heads=2, head_dim=8)
    randomized(model).eval()
    expected = outputs_of(model, inputs)
    ns.convert_norm(model, "rmsnorm", example_inputs=inputs)
    torch.testing.assert_close(outputs_of(model, inputs), expected)


def test_an_activation_fused_with_a_norm_is_kept():
    model, x = timm("resnetv2_50")
    norm = model.stages[0].blocks[0].norm1
    conversion = ns.convert_norm(model.eval(), "layernorm", example_inputs=x)
    kept = {row.note for row in conversion.rows if row.name.endswith("blocks.0.norm1")}
    assert kept == {"followed by ReLU"}
    assert model.stages[0].blocks[0].norm1.after[0] is norm.act
    assert (model.stages[0].blocks[0].norm1(torch.randn(2, norm.num_features, 4, 4)) >= 0).all()


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "timm efficientnet_b0"])
def test_gates_are_found_by_what_they_do(name):
    model, inputs = NETWORKS[name]()
    conversion = ns.convert_norm(model, "prelayernorm", example_inputs=inputs)
    gates = {row.name for row in conversion.rows if row.refused}
    inside = ("SqueezeExcit", "SqueezeExcitation")
    expected = {
        f"{parent}.{child}"
        for parent, module in model.named_modules()
        if type(module).__name__.startswith(inside)
        for child, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d)
    }
    assert gates == expected != set()


def test_a_padding_mask_refuses_rows_that_couple_tokens():
    model, inputs = transformers("BertForSequenceClassification")
    inputs["attention_mask"] = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    with pytest.raises(ValueError, match=r"batchnorm takes statistics over all tokens, .*\(attention_mask\)"):
        ns.convert_norm(model, "batchnorm", example_inputs=inputs)
    ns.convert_norm(model, "layernorm", example_inputs=inputs)


def test_a_frozen_batch_norm_is_read():
    misc = pytest.importorskip("torchvision").ops.misc
    norm = misc.FrozenBatchNorm2d(3)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    conversion = ns.convert_norm(nn.Sequential(norm).eval(), "batchnorm")
    torch.testing.assert_close(conversion.model(images()), norm(images()))
    assert "its statistics and gain were frozen" in conversion.rows[0].reset


def test_a_converted_network_exports():
    model, x = torchvision("resnet18")
    ns.convert_norm(randomized(model).eval(), "prelayernorm", example_inputs=x)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x), rtol=1e-4, atol=1e-4)
    assert F.softmax(model(x), -1).isfinite().all()
