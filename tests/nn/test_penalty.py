"""RegNorm's penalty: its forms, and that it belongs to one forward and to nothing else."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

import normscope as ns
from normscope.nn.functional import regnorm_penalty


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit_rms(z: Tensor) -> Tensor:
    return z / z.square().mean(tuple(range(1, z.ndim)), keepdim=True).sqrt()


def network(name: str = "regnorm", **options) -> nn.Sequential:
    row = ns.normalizer(name, **options)
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [row.affine(nn.Linear(6, 6, dtype=torch.float64)), row.site(6, 2, dtype=torch.float64), nn.ReLU()]
    return nn.Sequential(*layers)


def by_hand(model: nn.Sequential, x: Tensor) -> Tensor:
    """Sum over sites of mean_i (mean_n z)^2, computed outside the library's machinery."""
    total = torch.zeros((), dtype=torch.float64)
    for layer in model:
        if hasattr(layer, "normalizer_site"):
            z = x / (x.square().mean(1, keepdim=True) + 1e-5).sqrt()
            total = total + z.mean(0).square().mean()
            x = z
        else:
            x = layer(x)
    return total


# --- the formula ------------------------------------------------------------------------------------------------------


def test_forms_a_and_b_are_one_under_unit_root_mean_square():
    z = unit_rms(draw(7, 5, 3, 2))
    a, b, c, d = (regnorm_penalty(z, form=form) for form in "ABCD")
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(c, a.square())
    torch.testing.assert_close(d, -torch.log(1 - a))


def test_form_b_differs_from_a_without_it():
    z = draw(7, 5) + 1
    assert not torch.allclose(regnorm_penalty(z, form="A"), regnorm_penalty(z, form="B"))


def test_form_a_is_the_mean_cosine_similarity_within_the_batch():
    z = unit_rms(draw(7, 30))
    directions = z / z.norm(dim=1, keepdim=True)
    torch.testing.assert_close(regnorm_penalty(z), (directions @ directions.T).mean())


@pytest.mark.parametrize("form", "ABCD")
def test_every_form_is_zero_exactly_at_zero_batch_mean(form):
    z = draw(8, 5)
    balanced = unit_rms(torch.cat([z, -z]))
    assert regnorm_penalty(balanced, form=form).abs() < 1e-15
    assert regnorm_penalty(unit_rms(draw(8, 5)), form=form) > 1e-3


def test_sampling_floor_is_one_over_n_and_unbiased_removes_it(seed):
    """Independent examples: E[A] = 1/N, and zero for the unbiased form, within four standard errors."""
    generator = torch.Generator().manual_seed(seed)
    z = unit_rms(torch.randn(400, 16, 50, generator=generator, dtype=torch.float64).reshape(6400, 50))
    batches = z.reshape(400, 16, 50)
    for unbiased, expected in ((False, 1 / 16), (True, 0.0)):
        values = torch.stack([regnorm_penalty(batch, unbiased=unbiased) for batch in batches])
        assert (values.mean() - expected).abs() < 4 * values.std() / math.sqrt(len(values))


def test_penalty_per_channel_pools_positions():
    z = unit_rms(draw(4, 5, 3, 2))
    torch.testing.assert_close(regnorm_penalty(z, over=(0, 2, 3)), z.mean((0, 2, 3)).square().mean())
    site = ns.normalizer("regnorm", penalty_over="channel", eps=0.0).site(5, dtype=torch.float64)
    _, r = ns.nn.Penalised(site)(z)
    torch.testing.assert_close(r, z.mean((0, 2, 3)).square().mean())


@pytest.mark.parametrize("form", "ABCD")
def test_penalty_is_twice_differentiable(form):
    row = ns.normalizer("regnorm", penalty=form)

    def penalty_of(x: Tensor) -> Tensor:
        return ns.nn.Penalised(row.site(5, 4, dtype=torch.float64))(x)[1]

    x = draw(4, 5, 3, 2).requires_grad_()
    assert gradcheck(penalty_of, x)
    assert gradgradcheck(penalty_of, x)


# --- it belongs to one forward ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["regnorm"])
def test_penalised_sums_over_sites(name):
    model, x = network(name), draw(8, 6)
    outputs, r = ns.nn.Penalised(model)(x)
    torch.testing.assert_close(outputs, model(x))
    torch.testing.assert_close(r, by_hand(model, x))


def test_gradient_flows_through_normalization_and_earlier_layers():
    model, x = network(), draw(8, 6)
    got = torch.autograd.grad(ns.nn.Penalised(model)(x)[1], model[0].weight)
    want = torch.autograd.grad(by_hand(model, x), model[0].weight)
    torch.testing.assert_close(got, want)


def test_a_shared_site_counts_every_call():
    row = ns.normalizer("regnorm")
    site = row.site(6, 2, dtype=torch.float64)
    model = nn.Sequential(site, nn.ReLU(), site)
    x = draw(8, 6)
    _, r = ns.nn.Penalised(model)(x)
    torch.testing.assert_close(r, by_hand(model, x))


def test_penalty_is_zero_in_eval_mode_and_without_penalised_sites():
    x = draw(8, 6)
    assert ns.nn.Penalised(network().eval())(x)[1] == 0
    assert ns.nn.Penalised(network("layernorm"))(x)[1] == 0
    plain = network("layernorm")
    plain(x)
    assert ns.penalty(plain) == 0


def test_plain_loop_reads_the_last_forward():
    model = network()
    for step in range(3):
        model(draw(8, 6, seed=100 + step))  # a forward that nobody asked the penalty of
        x = draw(8, 6, seed=step)
        model(x)
        torch.testing.assert_close(ns.penalty(model), by_hand(model, x))
        torch.testing.assert_close(ns.penalty(model), by_hand(model, x))  # reading twice is reading the same


def test_plain_loop_reads_through_wrappers():
    model, x = network(), draw(8, 6)
    nn.Sequential(nn.Identity(), model)(x)
    torch.testing.assert_close(ns.penalty(model), by_hand(model, x))


def test_plain_loop_never_reads_a_forward_older_than_penalised():
    model, x = network(), draw(8, 6)
    model(x)
    ns.nn.Penalised(model)(draw(8, 6, seed=1))
    with pytest.raises(RuntimeError, match="outside Penalised"):
        ns.penalty(model)


def test_plain_loop_leaves_out_a_site_that_the_last_forward_skipped():
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.always, self.sometimes = network(), network()

        def forward(self, x: Tensor, *, both: bool) -> Tensor:
            return self.sometimes(self.always(x)) if both else self.always(x)

    model, x = Sometimes(), draw(8, 6)
    model(x, both=True)
    model(x, both=False)
    torch.testing.assert_close(ns.penalty(model), by_hand(model.always, x))


def test_plain_loop_refuses_a_site_that_ran_twice():
    site = ns.normalizer("regnorm").site(6, 2)
    model = nn.Sequential(site, nn.ReLU(), site)
    model(draw(8, 6).float())
    with pytest.raises(RuntimeError, match=r"site '0' ran 2 times in the last one.*Penalised"):
        ns.penalty(model)


def test_plain_loop_refuses_parts_that_no_module_calls_together():
    parts = nn.ModuleList([network(), network()])
    x = draw(8, 6)
    parts[1](parts[0](x))
    with pytest.raises(RuntimeError, match=r"site '0\.1' is not part of the module called last"):
        ns.penalty(parts)


def test_plain_loop_refuses_before_any_forward():
    with pytest.raises(RuntimeError, match="site '1' has not run in one"):
        ns.penalty(network())


def test_nothing_is_stored_in_the_modules():
    """Deep copies, state dicts and saved modules meet no tensor of a forward."""
    model = network()
    keys = {name: set(vars(module)) for name, module in model.named_modules()}
    state = list(model.state_dict())
    model(draw(8, 6))
    ns.nn.Penalised(model)(draw(8, 6))
    assert {name: set(vars(module)) for name, module in model.named_modules()} == keys
    assert list(model.state_dict()) == state
    torch.save(model, io.BytesIO())
    with pytest.raises(RuntimeError, match="has not run"):
        ns.penalty(copy.deepcopy(model))


class Checkpointed(nn.Module):
    def __init__(self, model: nn.Module, *, use_reentrant: bool) -> None:
        super().__init__()
        self.model, self.use_reentrant = model, use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.model, x, use_reentrant=self.use_reentrant)


def test_activation_checkpointing_changes_neither_value_nor_gradient():
    plain = network()
    wrapped = Checkpointed(plain, use_reentrant=False)
    x = draw(8, 6)
    results = []
    for model in (plain, wrapped):
        outputs, r = ns.nn.Penalised(model)(x)
        results.append([r, *torch.autograd.grad(outputs.sum() + 3 * r, list(plain.parameters()))])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)


def test_recomputation_in_backward_is_not_counted_as_a_forward():
    plain = network()
    wrapped = Checkpointed(plain, use_reentrant=False)
    x = draw(8, 6)
    (wrapped(x).sum() + ns.penalty(wrapped)).backward()
    wrapped(x)
    torch.testing.assert_close(ns.penalty(wrapped), by_hand(plain, x))


def test_reentrant_checkpointing_is_refused_not_silently_wrong():
    model = ns.nn.Penalised(Checkpointed(network(), use_reentrant=True))
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        model(draw(8, 6).requires_grad_())


def test_a_probe_between_forward_and_penalty_is_not_seen(generator):
    model, x = network(), draw(8, 6)
    model(x)
    subject = ns.Subject(model, lambda y, t: (y - t).square().mean(), (draw(8, 6, seed=1), draw(8, 6, seed=2)))
    ns.probes.GradientNorm()(subject, generator=generator)
    torch.testing.assert_close(ns.penalty(model), by_hand(model, x))


def test_func_transforms_give_the_same_gradient_and_leave_nothing_behind():
    model = network()
    penalised = ns.nn.Penalised(model)
    x = draw(8, 6)
    parameters = {name: p.detach() for name, p in penalised.named_parameters()}

    def total(parameters: dict[str, Tensor]) -> Tensor:
        outputs, r = torch.func.functional_call(penalised, parameters, (x,))
        return outputs.sum() + r

    got = torch.func.grad(total)(parameters)
    torch.func.grad(lambda p: torch.func.functional_call(model, p, (x,)).sum())(dict(model.named_parameters()))
    with pytest.raises(RuntimeError, match="has not run"):
        ns.penalty(model)
    outputs, r = penalised(x)
    want = torch.autograd.grad(outputs.sum() + r, list(penalised.parameters()))
    for a, b in zip(got.values(), want, strict=True):
        torch.testing.assert_close(a, b)


def test_vmap_over_networks_gives_each_its_own_penalty():
    models = [network() for _ in range(3)]
    x = draw(8, 6)
    parameters, buffers = torch.func.stack_module_state(models)
    penalised = ns.nn.Penalised(models[0])

    def one(p, b):
        prefixed = {f"module.{k}": v for k, v in (p | b).items()}
        return torch.func.functional_call(penalised, prefixed, (x,))[1]

    r = torch.func.vmap(one)(parameters, buffers)
    torch.testing.assert_close(r, torch.stack([by_hand(m, x) for m in models]))


@pytest.mark.parametrize("inside", [True, False], ids=["compile(Penalised)", "Penalised(compile)"])
def test_penalised_compiles(inside):
    torch.compiler.reset()
    model, x = network(), draw(8, 6)
    if inside:
        compiled = torch.compile(ns.nn.Penalised(model), backend="aot_eager", fullgraph=True)
    else:
        compiled = ns.nn.Penalised(torch.compile(model, backend="aot_eager", fullgraph=True))
    for seed in range(2):
        x = draw(8, 6, seed=seed)
        _, r = compiled(x)
        torch.testing.assert_close(r, by_hand(model, x))


def test_norm_first_blocks_take_the_penalty_of_the_divided_output():
    row = ns.normalizer("preregnorm")
    layer = row.affine(nn.Linear(6, 5, dtype=torch.float64), order="norm_affine")
    x = draw(8, 6)
    y, r = ns.nn.Penalised(layer)(x)
    torch.testing.assert_close(r, y.mean(0).square().mean())
    layer(x)
    torch.testing.assert_close(ns.penalty(layer), r)


def test_minimizing_the_penalty_alone_lowers_it():
    model = ns.nn.Penalised(network())
    x = draw(16, 6)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    first = model(x)[1].item()
    for _ in range(50):
        optimizer.zero_grad()
        model(x)[1].backward()
        optimizer.step()
    assert model(x)[1].item() < 0.5 * first
