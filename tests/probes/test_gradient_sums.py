from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import normscope as ns
from normscope.probes import GradientSums, Subject


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parts(layer: nn.Module, entered: Tensor, gradient: Tensor) -> Tensor:
    """Every d^{bxy}, one by one: (examples and positions, entries of the weight)."""
    if isinstance(layer, nn.Linear):
        return torch.einsum("po,pi->poi", gradient.flatten(0, -2), entered.flatten(0, -2)).flatten(1)
    if isinstance(layer, nn.Conv1d):  # as a convolution of images of one row
        entered, gradient = entered.unsqueeze(2), gradient.unsqueeze(2)
    kernel, stride, dilation = ((1, *v)[-2:] for v in (layer.kernel_size, layer.stride, layer.dilation))
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    pad = layer._reversed_padding_repeated_twice
    entered = F.pad(entered, [*pad, *[0] * (4 - len(pad))] if mode == "constant" else pad, mode=mode)
    found = []
    for x, g in zip(entered.chunk(layer.groups, 1), gradient.chunk(layer.groups, 1), strict=True):
        patches = F.unfold(x, kernel, dilation, stride=stride)  # (N, in k, positions)
        found.append(torch.einsum("nop,nip->npoi", g.flatten(2), patches).flatten(0, 1).flatten(1))
    return torch.cat(found, 1)


def expected(layer: nn.Module, entered: Tensor, gradient: Tensor) -> list[float]:
    d = parts(layer, entered, gradient)
    a, b = d.abs().sum(0).mean().item(), d.sum(0).abs().mean().item()
    return [a, b, a / b]


def gradient_at(forward, x: Tensor, weights: Tensor) -> Tensor:
    """By the output of a layer, of a loss that sees it through a nonlinearity."""
    leaf = x.detach().requires_grad_()
    return torch.autograd.grad((forward(leaf).tanh() * weights).sum(), leaf)[0]


LAYERS = {
    "linear": (lambda: nn.Linear(4, 3), (5, 4)),
    "linear on tokens": (lambda: nn.Linear(4, 3), (5, 2, 4)),
    "conv1d": (lambda: nn.Conv1d(2, 3, 3, stride=2, padding=1), (4, 2, 7)),
    "conv2d": (lambda: nn.Conv2d(2, 3, 3, padding=1), (4, 2, 5, 4)),
    "grouped": (lambda: nn.Conv2d(4, 6, (3, 2), stride=2, dilation=2, padding=2, groups=2), (3, 4, 7, 6)),
    "reflecting": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (3, 2, 5, 4)),
    "same": (lambda: nn.Conv2d(2, 3, (3, 5), padding="same", bias=False), (3, 2, 5, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_the_sums_are_those_of_all_parts_one_by_one(name: str, generator: torch.Generator) -> None:
    make, shape = LAYERS[name]
    layer, x = make().double(), draw(*shape)
    weights = draw(*layer(x).shape, seed=1)
    subject = Subject(layer, lambda y, w: (y.tanh() * w).sum(), (x, weights))

    reading = GradientSums()(subject, generator=generator)

    gradient = gradient_at(lambda y: y, layer(x), weights)
    torch.testing.assert_close(
        reading.values.squeeze(1), torch.tensor(expected(layer, x, gradient), dtype=torch.float64), rtol=1e-10, atol=0
    )
    assert reading.labels == {"quantity": ("a", "b", "a/b"), "layer": (type(layer).__name__,)}


def network() -> nn.Sequential:
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 3, 3, stride=2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(12, 3)).double()


def test_within_a_network_every_layer_is_read(generator: torch.Generator) -> None:
    model, x, y = network(), draw(6, 2, 6, 5), torch.arange(6) % 3

    values = GradientSums()(Subject(model, F.cross_entropy, (x, y)), generator=generator).values

    F.cross_entropy(model(x), y).backward()
    weights = [model[i].weight.grad for i in (0, 3, 5)]
    torch.testing.assert_close(values[1], torch.stack([w.abs().mean() for w in weights]), rtol=1e-9, atol=0)
    outputs = {}
    for i in (0, 3):
        model[i].register_forward_hook(lambda _m, args, out, i=i: outputs.update({i: (args[0].clone(), out.clone())}))
    model(x)
    for column, i in enumerate((0, 3)):
        entered, output = outputs[i]
        gradient = torch.autograd.grad(
            F.cross_entropy(model[i + 1 :](leaf := output.detach().requires_grad_()), y), leaf
        )[0]
        assert values[:, column].tolist() == pytest.approx(expected(model[i], entered, gradient), rel=1e-9)


def test_a_layer_is_read_behind_what_a_row_does_to_its_input_and_before_what_it_does_to_its_output(
    generator: torch.Generator,
) -> None:
    layer, x, weights = nn.Linear(4, 5).double(), draw(6, 4), draw(6, 5, seed=1)
    model = ns.normalizer("prelayernorm").affine(layer, order="norm_affine")  # centers before, divides after
    subject = Subject(model, lambda y, w: (y.tanh() * w).sum(), (x, weights))

    values = GradientSums()(subject, generator=generator).values.squeeze(1)

    centered = x - x.mean(1, keepdim=True)
    z = centered @ layer.weight.T + layer.bias

    def divided(z: Tensor) -> Tensor:
        return z / (z.var(1, correction=0, keepdim=True) + 1e-5).sqrt()

    assert values.tolist() == pytest.approx(expected(layer, centered, gradient_at(divided, z, weights)), rel=1e-9)


def test_a_weight_normalized_layer_is_read_at_the_weight_it_computes_with(generator: torch.Generator) -> None:
    plain, x, weights = nn.Linear(4, 3).double(), draw(6, 4), draw(6, 3, seed=1)
    readings = [
        GradientSums()(Subject(model, lambda y, w: (y.tanh() * w).sum(), (x, weights)), generator=generator).values
        for model in (plain, ns.normalizer("weightnorm").affine(plain))
    ]
    torch.testing.assert_close(*readings)


def test_a_layer_that_runs_twice_has_the_parts_of_both_calls(generator: torch.Generator) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4, dtype=torch.float64)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x).tanh())

    model, x, weights = Twice(), draw(6, 4), draw(6, 4, seed=1)
    reading = GradientSums()(Subject(model, lambda y, w: (y.tanh() * w).sum(), (x, weights)), generator=generator)

    first = model.layer(x)
    second_in = first.tanh()
    d = parts(model.layer, x, gradient_at(lambda z: model.layer(z.tanh()), first, weights))
    d = torch.cat([d, parts(model.layer, second_in, gradient_at(lambda z: z, model.layer(second_in), weights))])
    a, b = d.abs().sum(0).mean().item(), d.sum(0).abs().mean().item()
    assert reading.values[:, 0].tolist() == pytest.approx([a, b, a / b], rel=1e-9)
    assert reading.labels["layer"] == ("layer",)


def test_parts_that_pull_the_same_way_have_ratio_one_and_opposite_ones_cancel(generator: torch.Generator) -> None:
    layer = nn.Linear(3, 2, bias=False, dtype=torch.float64)
    x = draw(1, 3).expand(8, 3)
    sign = torch.tensor([[1.0], [-1.0]], dtype=torch.float64).repeat(4, 2)
    alike, opposed = (
        GradientSums()(Subject(layer, lambda y, w: (y * w).mean(), (x, weights)), generator=generator).values[:, 0]
        for weights in (torch.ones_like(sign), sign)
    )
    assert alike[2].item() == pytest.approx(1)
    assert opposed[1].item() == pytest.approx(0, abs=1e-16)
    assert opposed[0].item() == pytest.approx(alike[0].item())


def test_checkpointed_layers_read_like_others_and_unseen_ones_have_no_gradient(generator: torch.Generator) -> None:
    model, x, y = network(), draw(6, 2, 6, 5), torch.arange(6) % 3
    plain, saved = (
        GradientSums()(Subject(model, F.cross_entropy, (x, y), forward=forward), generator=generator).values
        for forward in (None, lambda model, x: checkpoint(model, x, use_reentrant=False))
    )
    torch.testing.assert_close(plain, saved)

    heads = nn.ModuleDict({"used": nn.Linear(3, 3), "unused": nn.Linear(3, 3)})
    subject = Subject(
        heads, F.cross_entropy, (x[:, 0, 0, :3].float(), y), forward=lambda m, x: (m["unused"](x), m["used"](x))[1]
    )
    reading = GradientSums()(subject, generator=generator)
    assert reading.labels["layer"] == ("unused", "used")
    assert reading.values[:2, 0].tolist() == [0, 0]
    assert reading.values[2].isnan().tolist() == [True, False]


def test_layers_are_chosen_and_others_refused_by_name(generator: torch.Generator) -> None:
    subject = Subject(network(), F.cross_entropy, (draw(6, 2, 6, 5), torch.arange(6) % 3))
    reading = GradientSums(select=lambda name, module: name == "3")(subject, generator=generator)
    assert reading.labels["layer"] == ("3",)
    with pytest.raises(ValueError, match="'1' is a BatchNorm2d"):
        GradientSums(select=lambda name, module: name == "1")(subject, generator=generator)
    with pytest.raises(ValueError, match="none of 7 modules is one"):
        GradientSums(select=lambda name, module: False)(subject, generator=generator)
    with pytest.raises(ValueError, match="or a function of"):
        GradientSums(select="last")
    transposed = nn.Sequential(nn.ConvTranspose2d(2, 3, 3), nn.Flatten()).double()
    with pytest.raises(ValueError, match="'0' is a ConvTranspose2d"):
        GradientSums()(Subject(transposed, F.cross_entropy, subject.batch), generator=generator)


def test_parts_that_cancel_to_the_last_digit_have_an_infinite_ratio(generator: torch.Generator) -> None:
    layer = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    subject = Subject(layer, lambda y, _: y[0, 0] - y[1, 0], (torch.ones(2, 1, dtype=torch.float64), None))
    assert GradientSums()(subject, generator=generator).values[:, 0].tolist() == [2.0, 0.0, math.inf]
