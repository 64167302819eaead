"""What a conversion keeps of what it replaces, or says that it lost."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import normscope as ns
from normscope.nn.convert import ConversionRefusedError

from .networks import Block, PreNorm, ResNet, with_random_vectors

X = torch.randn(4, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def row_of(conversion, name):
    (row,) = [row for row in conversion.rows if row.name == name]
    return row


def test_parameters_stay_the_same_objects_with_ties_and_requires_grad():
    model = with_random_vectors(ResNet())
    model.blocks[1].bn1.weight = model.blocks[0].bn1.weight  # tied
    model.stem[1].weight.requires_grad_(False)
    kept = dict(model.named_parameters(remove_duplicate=False))
    ns.convert_norm(model, "prelayernorm", example_inputs=X)
    assert {name: id(p) for name, p in model.named_parameters(remove_duplicate=False)} == {
        name: id(p) for name, p in kept.items()
    }
    assert model.blocks[1].bn1.weight is model.blocks[0].bn1.weight
    assert not model.stem[1].weight.requires_grad


def test_mode_dtype_and_eps_are_those_of_each_norm():
    model = ResNet().to(torch.bfloat16)
    model.blocks[0].bn1.eval()
    model.blocks[0].bn2 = nn.BatchNorm2d(4, eps=0.25, momentum=0.5).to(torch.bfloat16)
    conversion = ns.convert_norm(model, "batchnorm")
    assert [model.blocks[0].bn1.training, model.blocks[0].bn2.training] == [False, True]
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.blocks[0].bn1.running_mean.dtype == torch.bfloat16
    assert row_of(conversion, "blocks.0.bn2").to == "batchnorm eps=0.25 momentum=0.5"


def test_a_row_that_is_given_is_used_as_it_is():
    model = nn.Sequential(nn.LayerNorm(4, eps=0.5))
    conversion = ns.convert_norm(model, ns.normalizer("layernorm"))
    assert conversion.model[0].site.row.eps == 1e-5
    assert ns.convert_norm(nn.Sequential(nn.LayerNorm(4, eps=0.5)), "layernorm").model[0].site.row.eps == 0.5


def test_hooks_still_run_and_their_handles_still_remove_them():
    model = ResNet().double()
    seen = []
    handles = [
        model.stem[1].register_forward_hook(lambda m, args, y: seen.append("after")),
        model.stem[1].register_forward_pre_hook(lambda m, args: seen.append("before")),
        model.stem[1].register_full_backward_hook(lambda m, gi, go: seen.append("backward")),
    ]
    conversion = ns.convert_norm(model, "layernorm", example_inputs=X)
    seen.clear()
    model.stem[2].inplace = False  # torch allows no in-place change of what a backward hook saw
    model(X).sum().backward()
    assert seen == ["before", "after", "backward"]
    assert "hooks" in row_of(conversion, "stem.1").kept
    for handle in handles:
        handle.remove()
    model(X)
    assert len(seen) == 3


def test_hooks_of_affine_layers_still_run():
    model = ResNet().double()
    seen = []
    model.stem[0].register_forward_hook(lambda m, args, y: seen.append(m))
    ns.convert_norm(model, "prelayernorm", example_inputs=X)
    seen.clear()
    model(X)
    assert seen == [model.stem[0]]


def test_channels_last_is_kept():
    model = ResNet().double().to(memory_format=torch.channels_last)
    conversion = ns.convert_norm(model, "prelayernorm", example_inputs=X)
    got = []
    model.blocks[0].bn1.register_forward_hook(lambda m, args, y: got.append(y))
    model(X.to(memory_format=torch.channels_last))
    assert got[0].is_contiguous(memory_format=torch.channels_last)
    assert model.blocks[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    conversion.revert()
    assert model.blocks[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_what_cannot_be_kept_is_listed():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.LayerNorm((4, 6, 6)), nn.SyncBatchNorm(4)).double()
    conversion = ns.convert_norm(model, "layernorm")
    assert row_of(conversion, "1").reset == ("weight", "bias")
    assert row_of(conversion, "2").reset[-1] == "synchronisation between processes"
    rms = ns.convert_norm(nn.Sequential(nn.RMSNorm(4)), "layernorm")
    assert (rms.rows[0].kept, rms.rows[0].reset) == (("weight",), ("bias",))
    running = ns.convert_norm(nn.Sequential(nn.GroupNorm(2, 4)), "batchnorm")
    assert running.rows[0].reset == ("running_mean", "running_var")
    assert all(word in str(running) for word in ("GroupNorm", "batchnorm", "running_var"))


def test_a_weight_norm_row_lists_the_keys_it_moves():
    model = ResNet().double()
    conversion = ns.convert_norm(model, "weightnorm", example_inputs=X)
    assert row_of(conversion, "fc").reset == ("key weight",)
    assert "fc.parametrizations.weight.original0" in model.state_dict()


def test_revert_undoes_training_moves_and_modes():
    model = with_random_vectors(ResNet()).train()
    before = copy.deepcopy(model.state_dict())
    expected = model.eval()(X)
    model.train()
    conversion = ns.convert_norm(model, "regnorm", example_inputs=X)
    outputs, penalty = ns.nn.Penalised(model)(X)
    assert penalty > 0
    (outputs.square().sum() + penalty).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    model.float().eval()
    conversion.revert()
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model.eval()(X), expected)


def test_plain_penalty_reads_the_converted_sites():
    model = with_random_vectors(ResNet())
    ns.convert_norm(model, "regnorm", example_inputs=X)
    model(X)
    assert torch.equal(ns.penalty(model), ns.nn.Penalised(model)(X)[1])


def test_a_model_that_is_a_norm_is_replaced_whole():
    norm = with_random_vectors(nn.BatchNorm2d(3)).eval()
    conversion = ns.convert_norm(norm, "batchnorm", example_inputs=X)
    assert conversion.model is not norm
    assert torch.equal(conversion.model(X), norm(X))
    assert conversion.revert() is norm
    assert conversion.model is norm


class HeldTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(4)])
        self.plain = [self.norms[0]]

    def forward(self, x):
        return self.plain[0](x)


def test_a_norm_that_is_called_from_elsewhere_is_refused_and_put_back():
    model = HeldTwice()
    norm = model.norms[0]
    with pytest.raises(ConversionRefusedError, match=r"norms\.0 \(LayerNorm\): it is held elsewhere"):
        ns.convert_norm(model, "layernorm", example_inputs=torch.randn(2, 4))
    assert model.norms[0] is norm
    assert not norm._forward_pre_hooks


def test_what_does_not_run_once_converted_is_put_back():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    norm = model[1]
    with pytest.raises(ConversionRefusedError, match="once converted it does not run on example_inputs"):
        ns.convert_norm(model, "instancenorm", example_inputs=torch.randn(5, 3))
    assert model[1] is norm


def test_a_second_row_over_a_first_one_is_refused():
    model = ResNet().double()
    ns.convert_norm(model, "prelayernorm", example_inputs=X)
    with pytest.raises(ConversionRefusedError, match=r"stem\.0 \(Conv2d\): an earlier row changed this layer"):
        ns.convert_norm(model, "batchnorm")


def test_a_plain_row_can_follow_another_and_both_are_reverted():
    model = with_random_vectors(ResNet()).eval()
    expected = model(X)
    first = ns.convert_norm(model, "layernorm")
    between = model(X)
    second = ns.convert_norm(model, "batchnorm")
    assert not torch.equal(model(X), between)
    second.revert()
    assert torch.equal(model(X), between)
    first.revert()
    assert torch.equal(model(X), expected)


def test_a_copy_of_the_conversion_is_reverted_alone():
    model = with_random_vectors(PreNorm()).eval()
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    expected = model(x)
    conversion = ns.convert_norm(model, "layernorm", example_inputs=x)
    other = copy.deepcopy(conversion)
    other.revert()
    assert isinstance(other.model.norm1, nn.LayerNorm)
    assert not isinstance(model.norm1, nn.LayerNorm)
    assert torch.equal(other.model(x), expected)


def test_a_converted_model_exports_runs_under_autocast_and_compiles():
    model = with_random_vectors(ResNet()).float().eval()
    x = X.float()
    ns.convert_norm(model, "prelayernorm", example_inputs=x)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(model(x).float(), model(x), rtol=0.1, atol=0.1, check_dtype=False)
        assert model(x).isfinite().all()


def test_blocks_run_under_checkpointing():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block(3)

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.block, x, use_reentrant=False)

    model = with_random_vectors(Checkpointed()).train()
    plain = copy.deepcopy(model.block)
    ns.convert_norm(model, "prelayernorm", example_inputs=X)
    ns.convert_norm(plain, "prelayernorm", example_inputs=X)
    x, y = X.clone().requires_grad_(), X.clone().requires_grad_()
    F.silu(model(x)).sum().backward()
    F.silu(plain(y)).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
