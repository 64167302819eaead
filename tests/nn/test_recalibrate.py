"""recalibrate against the moments of everything that reached a module, taken from the inputs themselves."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import normscope as ns


class Net(nn.Module):
    def __init__(self, norm1: nn.Module, norm2: nn.Module) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 4, 3), norm1
        self.drop = nn.Dropout(0.5)
        self.conv2, self.norm2 = nn.Conv2d(4, 5, 3), norm2

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(torch.relu(self.norm1(self.conv1(x))))
        return self.norm2(self.conv2(x)).mean((2, 3))


def batch_net(**options: object) -> Net:
    return Net(nn.BatchNorm2d(4, **options), nn.BatchNorm2d(5, **options))


def batches(*sizes: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    return [2 + 3 * i + torch.randn(size, 3, 8, 8, generator=draw) for i, size in enumerate(sizes)]


def inputs_of(model: nn.Module, names: list[str], loader: list[Tensor]) -> dict[str, Tensor]:
    """Every input of these modules, with them in train mode and the rest in eval mode, on a copy."""
    model = copy.deepcopy(model).eval()
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    for name in names:
        module = model.get_submodule(name).train()
        module.register_forward_pre_hook(lambda _, args, name=name: seen[name].append(args[0].detach().double()))
    for x in loader:
        model(x)
    return {name: torch.cat([x.transpose(0, 1).flatten(1) for x in many], 1) for name, many in seen.items()}


@pytest.mark.parametrize("momentum", [0.1, None, 0.0])
def test_it_gives_the_mean_and_unbiased_variance_of_all_inputs_whatever_the_batch_sizes(momentum):
    model, loader = batch_net(momentum=momentum), batches(4, 7, 2)
    wanted = inputs_of(model, ["norm1", "norm2"], loader)
    ns.recalibrate(model, loader)
    for name, x in wanted.items():
        norm = model.get_submodule(name)
        torch.testing.assert_close(norm.running_mean.double(), x.mean(1), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(norm.running_var.double(), x.var(1), rtol=1e-5, atol=1e-6)
        assert norm.num_batches_tracked == 3
        assert norm.momentum == momentum


def test_one_batch_gives_what_torch_records_with_momentum_one():
    model, (x,) = batch_net(), batches(5)
    torchs = copy.deepcopy(model).train()
    torchs.drop.eval()
    torchs.norm1.momentum = torchs.norm2.momentum = 1.0
    torchs(x)
    ns.recalibrate(model, [x])
    assert torch.equal(model.norm1.running_mean, torchs.norm1.running_mean)
    torch.testing.assert_close(model.norm2.running_var, torchs.norm2.running_var)


@pytest.mark.parametrize("spoiled", [float("nan"), float("inf"), 1e30])
def test_what_was_there_before_has_no_part_in_it(spoiled):
    model, loader = batch_net(), batches(4, 7)
    other = copy.deepcopy(model)
    other.norm1.running_mean.fill_(spoiled)
    other.norm2.running_var.fill_(spoiled)
    ns.recalibrate(model, loader)
    ns.recalibrate(other, loader)
    for mine, theirs in zip(model.buffers(), other.buffers(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("variance", ["unbiased", "biased"])
def test_our_sites_get_theirs(variance):
    def site(name: str, c: int, **options: object) -> nn.Module:
        return ns.normalizer(name, **options).site(c)

    model, loader = Net(site("batchnorm", 4, running_variance=variance), site("bmlv", 5)), batches(4, 7)
    row = model.norm1.row
    wanted = inputs_of(model, ["norm1", "norm2"], loader)
    done = ns.recalibrate(model, loader)
    var = wanted["norm1"].var(1, correction=int(variance == "unbiased"))
    torch.testing.assert_close(model.norm1.running_var.double(), var, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.norm2.running_mean.double(), wanted["norm2"].mean(1), rtol=1e-5, atol=1e-6)
    assert model.norm1.row is row
    assert set(done.modules[1].values) == {"running_mean"}
    assert [m.count for m in done.modules] == [11 * 36, 11 * 16]


def test_a_site_without_a_running_mean_gets_the_weighted_mean_of_its_variances():
    model, loader = Net(ns.normalizer("none").site(4), ns.normalizer("lmbv").site(5)), batches(4, 7)
    values = inputs_of(model, ["norm2"], loader)["norm2"].reshape(5, 11, 16)
    values = values - values.mean((0, 2), keepdim=True)  # the layer mean of each example
    parts = [values[:, :4].flatten(1), values[:, 4:].flatten(1)]
    mean = sum(part.var(1, correction=0) * part.shape[1] for part in parts) / (11 * 16)
    ns.recalibrate(model, loader)
    torch.testing.assert_close(model.norm2.running_var.double(), mean * 176 / 175, rtol=1e-5, atol=1e-6)


def test_instance_norms_get_the_mean_of_the_statistics_of_instances():
    model, loader = Net(nn.InstanceNorm2d(4, track_running_stats=True), nn.Identity()), batches(4, 7)
    x = inputs_of(model, ["norm1"], loader)["norm1"].reshape(4, 11, 36)
    ns.recalibrate(model, loader)
    torch.testing.assert_close(model.norm1.running_mean.double(), x.mean((1, 2)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.norm1.running_var.double(), x.var(2).mean(1), rtol=1e-5, atol=1e-6)


def test_a_shared_module_counts_every_call():
    norm = nn.BatchNorm1d(3)
    model, x = nn.Sequential(norm, nn.Linear(3, 3), norm), torch.randn(16, 3)
    between = model[1](torch.nn.functional.batch_norm(x, None, None, training=True)).detach()
    done = ns.recalibrate(model, [x])
    torch.testing.assert_close(norm.running_mean, torch.cat([x, between]).mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var, torch.cat([x, between]).var(0), rtol=1e-5, atol=1e-6)
    assert norm.num_batches_tracked == 2
    assert done.modules[0].name == "0"


def test_a_class_of_the_users_own_that_assigns_new_buffers():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.momentum = 0.3
            self.register_buffer("running_mean", torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                self.running_mean = (1 - self.momentum) * self.running_mean + self.momentum * x.mean(0)
            return x - self.running_mean

    model, x = Own(), torch.randn(10, 3)
    buffer = model.running_mean
    ns.recalibrate(model, [x[:4], x[4:]])
    assert model.running_mean is buffer
    torch.testing.assert_close(buffer, x.mean(0))


def test_nothing_else_changes():
    model, loader = batch_net(), DataLoader(TensorDataset(*[torch.cat(batches(12))] * 2), 4, shuffle=True)
    model.train()
    model.norm1.eval()
    model.drop.register_forward_hook(lambda *_: None)
    parameters = {name: p.clone() for name, p in model.named_parameters()}
    versions = [p._version for p in model.parameters()]
    attributes = [
        {**vars(m), "hooks": dict(m._forward_hooks), "pre": dict(m._forward_pre_hooks)} for m in model.modules()
    ]
    random_states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    ns.recalibrate(model, loader)
    assert all(torch.equal(p, parameters[name]) for name, p in model.named_parameters())
    assert versions == [p._version for p in model.parameters()]
    assert attributes == [
        {**vars(m), "hooks": dict(m._forward_hooks), "pre": dict(m._forward_pre_hooks)} for m in model.modules()
    ]
    assert torch.equal(torch.get_rng_state(), random_states[0])
    assert random.getstate() == random_states[1]
    assert (np.random.get_state()[1] == random_states[2]).all()
    assert all(p.grad is None for p in model.parameters())


def test_a_failure_on_the_way_leaves_the_model_as_it_was():
    model, (first, second) = batch_net(), batches(4, 4)
    before = copy.deepcopy(model.state_dict())

    def broken() -> Iterator[Tensor]:
        yield first
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        ns.recalibrate(model, broken())
    with pytest.raises(ValueError, match="what reaches 'norm1' is not finite"):
        ns.recalibrate(model, [second, torch.full_like(second, float("inf"))])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.norm1.momentum == 0.1
    assert not model.norm1._forward_hooks


def test_batches_with_targets_mappings_and_a_forward_of_ones_own():
    (x,), models = batches(5), [batch_net() for _ in range(4)]
    for model in models[1:]:
        model.load_state_dict(models[0].state_dict())
    ns.recalibrate(models[0], [x])
    ns.recalibrate(models[1], [(x, torch.zeros(5))])
    ns.recalibrate(models[2], [{"x": x}])
    ns.recalibrate(models[3], [({"image": x}, 0)], forward=lambda model, inputs: model(inputs["image"]))
    for model in models[1:]:
        assert torch.equal(model.norm2.running_mean, models[0].norm2.running_mean)


def test_select_leaves_the_others_in_eval_mode_and_unreached_modules_are_named():
    model, (x,) = batch_net(), batches(6)
    model.spare = nn.BatchNorm1d(2)
    expected = model.conv2(torch.relu(copy.deepcopy(model.norm1).eval()(model.conv1(x)))).mean((0, 2, 3))
    done = ns.recalibrate(model, [x], select=lambda name, module: name != "norm1")
    torch.testing.assert_close(model.norm2.running_mean, expected.detach())
    assert model.norm1.num_batches_tracked == 0
    assert done.not_reached == ("spare",)
    assert str(done) == "1 modules with new running statistics, from 1 batches; not reached: spare"


@pytest.mark.parametrize(
    ("model", "loader", "error", "says"),
    [
        (torch.relu, [], TypeError, "takes an nn.Module, got builtin_function_or_method"),
        (nn.Linear(3, 3), [torch.ones(2, 3)], ValueError, "running statistics and a momentum, but Linear has none"),
        (nn.BatchNorm1d(3, track_running_stats=False), [], ValueError, "but BatchNorm1d has none"),
        (nn.BatchNorm1d(3), iter([]), ValueError, "reads at least one batch, but the loader gave none"),
        (nn.LazyBatchNorm1d(), [torch.ones(2, 3)], ValueError, "'' (LazyBatchNorm1d) has none yet; run the model once"),
    ],
)  # fmt: skip
def test_refusals(model, loader, error, says):
    with pytest.raises(error) as refused:
        ns.recalibrate(model, loader)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_refused_where_no_batch_reaches_a_module_or_select_leaves_none():
    model, (x,) = batch_net(), batches(3)
    with pytest.raises(ValueError, match="no batch reached 'norm1'; pass a forward that runs it"):
        ns.recalibrate(model, [x], forward=lambda model, inputs: model.conv1(inputs))
    with pytest.raises(ValueError, match="select left out norm1, norm2"):
        ns.recalibrate(model, [x], select=lambda name, module: False)


@pytest.mark.parametrize(
    ("name", "options", "buffer", "statistic"),
    [
        ("batchrenorm", {"start": 0, "r_ramp": 0, "d_ramp": 0}, "running_std", lambda x: x.var(1, correction=0).sqrt()),
        ("batchrenorm", {}, "running_std", lambda x: x.var(1, correction=0).sqrt()),
        ("powernorm", {}, "running_quadratic_mean", lambda x: x.square().mean(1)),
        ("powernorm", {"warmup": 5}, "running_quadratic_mean", lambda x: x.square().mean(1)),
    ],
)
def test_rows_whose_outputs_in_training_follow_their_running_statistics_use_the_batchs(
    name, options, buffer, statistic
):
    row = ns.normalizer(name, **options)
    model, loader = Net(row.site(4), row.site(5)), batches(6, 6)
    model.norm1.num_batches_tracked.fill_(77)
    with torch.no_grad():  # what comes before must not matter
        model.norm1.get_buffer(buffer).fill_(3.0)
    first = inputs_of(model, ["norm1"], loader)["norm1"]
    ns.recalibrate(model, loader)
    torch.testing.assert_close(model.norm1.get_buffer(buffer).double(), statistic(first), rtol=1e-4, atol=1e-4)
    assert model.norm1.num_batches_tracked == 77  # its schedule counts by it
    second = []
    for x in loader:  # each batch is divided by its own statistics on its way to the second site
        z = model.conv1(x).double()
        z = z - z.mean((0, 2, 3), keepdim=True) if name == "batchrenorm" else z
        z = z / (z.square().mean((0, 2, 3), keepdim=True) + row.eps).sqrt()
        second.append(model.conv2(torch.relu(z.float())).double())
    x = torch.cat(second).transpose(0, 1).flatten(1).detach()
    torch.testing.assert_close(model.norm2.get_buffer(buffer).double(), statistic(x), rtol=1e-4, atol=1e-4)
