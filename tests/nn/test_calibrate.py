"""calibrate: moments at each site equal the old model's, taken here by hooks of the test's own."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import normscope as ns


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.conv2, self.norm2 = nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(torch.relu(self.norm1(self.conv1(x))))
        return self.head(torch.relu(self.norm2(self.conv2(x))).mean((2, 3)))


@pytest.fixture
def loader() -> list[Tensor]:
    draw = torch.Generator().manual_seed(2)
    return [1 + i + torch.randn(size, 3, 8, 8, generator=draw) for i, size in enumerate((16, 9, 20))]


@pytest.fixture
def trained(loader: list[Tensor]) -> Net:
    """A net with gains of both signs, shifts, and running statistics of its data."""
    model = Net().eval()
    draw = torch.Generator().manual_seed(3)
    for norm in (model.norm1, model.norm2):
        norm.weight.data = torch.randn(norm.weight.shape, generator=draw) + 0.3
        norm.bias.data = torch.randn(norm.bias.shape, generator=draw)
    ns.recalibrate(model, loader)
    return model


def outputs(model: nn.Module, names: tuple[str, ...], loader: list[Tensor]) -> dict[str, Tensor]:
    """(C, values) of what leaves these modules in eval mode, on a copy."""
    model = copy.deepcopy(model).eval()
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    for name in names:
        model.get_submodule(name).register_forward_hook(
            lambda _module, _args, y, name=name: seen[name].append(y.detach().double().transpose(0, 1).flatten(1))
        )
    for x in loader:
        model(x)
    return {name: torch.cat(many, 1) for name, many in seen.items()}


NAMES = ("norm1", "norm2")


@pytest.mark.parametrize("to", ["layernorm", "prelayernorm", "regnorm", "groupnorm", "bmlv", "powernorm", "normprop"])
def test_the_moments_of_every_site_become_the_old_models(to, trained, loader):
    wanted = outputs(trained, NAMES, loader)
    conversion = ns.convert_norm(trained, to, example_inputs=loader[0])
    done = ns.calibrate(conversion, loader)
    for name, found in outputs(conversion.model, NAMES, loader).items():
        torch.testing.assert_close(found.mean(1), wanted[name].mean(1), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(found.std(1), wanted[name].std(1), rtol=1e-3, atol=1e-3)
    assert not done.not_calibrated
    for site in done.sites:
        torch.testing.assert_close(site.old.mean, wanted[site.name].mean(1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(site.after.var, wanted[site.name].var(1, correction=0), rtol=2e-3, atol=1e-3)


def test_the_old_function_is_found_again_where_the_new_row_can_express_it(trained, loader):
    """Batch norm to batch norm, with all its numbers spoiled: moments and signs leave no freedom."""
    before = trained(loader[0])
    conversion = ns.convert_norm(trained, "batchnorm", example_inputs=loader[0])
    site = conversion.model.norm1
    with torch.no_grad():
        site.weight.mul_(7.0)
        site.bias.add_(5.0)
    site.running_mean.fill_(9.0)
    assert not torch.allclose(conversion.model(loader[0]), before, atol=0.1)
    ns.calibrate(conversion, loader)
    torch.testing.assert_close(conversion.model(loader[0]), before, rtol=1e-3, atol=1e-3)


def test_sites_are_corrected_behind_each_other(trained, loader):
    """What norm2 gets is what it makes of the corrected norm1, so its bias differs from that of a single look."""
    conversion = ns.convert_norm(trained, "layernorm", example_inputs=loader[0])
    done = ns.calibrate(conversion, loader)
    first, second = done.sites
    assert (first.name, second.name) == NAMES
    unit = second.old.var.sqrt()
    assert ((second.before.mean - second.old.mean).abs() / unit).max() > 0.2
    assert ((second.after.mean - second.old.mean).abs() / unit).max() < 1e-3


def test_signs_of_the_gains_are_kept(trained, loader):
    signs = trained.norm1.weight.sign()
    assert (signs < 0).any()
    conversion = ns.convert_norm(trained, "layernorm", example_inputs=loader[0])
    ns.calibrate(conversion, loader)
    assert torch.equal(conversion.model.norm1.weight.sign(), signs)


def test_an_activation_fused_with_the_old_norm_is_not_part_of_the_target(loader):
    class BatchNormAct2d(nn.BatchNorm2d):
        def __init__(self, features: int) -> None:
            super().__init__(features)
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(super().forward(x))

    from normscope.nn.convert import NormClass, register

    path = f"{BatchNormAct2d.__module__}.{BatchNormAct2d.__qualname__}"
    register(NormClass(path=path, statistic="batch", ndim=4, after=("act",)))
    model = nn.Sequential(nn.Conv2d(3, 5, 3), BatchNormAct2d(5), nn.Conv2d(5, 2, 3)).eval()
    ns.recalibrate(model, loader)
    conversion = ns.convert_norm(model, "layernorm", example_inputs=loader[0])
    done = ns.calibrate(conversion, loader)
    torch.testing.assert_close(done.sites[0].old.mean, torch.zeros(5).double(), atol=1e-3, rtol=0)  # before the ReLU
    torch.testing.assert_close(done.sites[0].after.mean, torch.zeros(5).double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        (ns.normalizer("layernorm", affine=False), "has no weight and no bias"),
        ("rmsnorm", "has no bias"),
        ("frn", "its outputs are not affine in its weight and bias"),
    ],
)
def test_sites_that_cannot_be_calibrated_are_left_and_listed(to, reason, trained, loader):
    conversion = ns.convert_norm(trained, to, example_inputs=loader[0])
    before = copy.deepcopy(conversion.model.state_dict())
    done = ns.calibrate(conversion, loader)
    assert [(site.name, site.reason) for site in done.not_calibrated] == [(name, reason) for name in NAMES]
    assert all(torch.equal(value, before[name]) for name, value in conversion.model.state_dict().items())
    assert str(done).count(reason) == 2


def test_nothing_but_weights_and_biases_changes_and_the_conversion_can_still_be_reverted(trained, loader):
    original, objects = copy.deepcopy(trained.state_dict()), list(trained.modules())
    conversion = ns.convert_norm(trained, "layernorm", example_inputs=loader[0])
    model = conversion.model.train()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    ns.calibrate(conversion, DataLoader(TensorDataset(torch.cat(loader)), 15, shuffle=True))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"{name}.{key}" for name in NAMES for key in ("weight", "bias")}
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    reverted = conversion.revert()
    assert list(reverted.modules()) == objects
    assert all(torch.equal(value, original[name]) for name, value in reverted.state_dict().items())


def test_a_constant_channel_keeps_its_weight(trained, loader):
    with torch.no_grad():
        trained.conv1.weight[0] = 0.0
    conversion = ns.convert_norm(trained, "batchnorm_train", example_inputs=loader[0])
    weight = conversion.model.norm1.weight.detach().clone()
    ns.calibrate(conversion, loader)
    assert conversion.model.norm1.weight[0] == weight[0].abs() * weight[0].sign()
    assert torch.isfinite(conversion.model.norm1.weight).all()


def test_a_failure_on_the_way_puts_everything_back(trained, loader):
    conversion = ns.convert_norm(trained, "layernorm", example_inputs=loader[0])
    before = copy.deepcopy(conversion.model.state_dict())
    calls = 0

    def failing(model: nn.Module, inputs: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 11:  # three batches a pass: within the second site
            raise RuntimeError("out of memory")
        return model(inputs)

    with pytest.raises(RuntimeError, match="out of memory"):
        ns.calibrate(conversion, loader, forward=failing)
    assert all(torch.equal(value, before[name]) for name, value in conversion.model.state_dict().items())


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (iter, TypeError, "a list_iterator can be read only once; pass a list"),
        (lambda _: [], ValueError, "calibrate reads at least one batch, but the loader gave none"),
        (lambda loader: [loader[0] * float("nan")], ValueError, "what leaves 'norm1' is not finite"),
    ],
)
def test_refusals(make: Callable, error: type[Exception], says: str, trained, loader):
    conversion = ns.convert_norm(trained, "layernorm", example_inputs=loader[0])
    with pytest.raises(error) as refused:
        ns.calibrate(conversion, make(loader))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_conversion_without_sites_is_refused(loader):
    conversion = ns.convert_norm(nn.Linear(3, 3), "layernorm")
    with pytest.raises(ValueError, match="this conversion has none"):
        ns.calibrate(conversion, loader)
