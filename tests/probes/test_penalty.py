from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import normscope as ns
from normscope.models import MLP, WideResNet
from normscope.nn import switches
from normscope.probes import Penalty, Reading, Subject


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def measured(model: nn.Module, x: Tensor, **options) -> Reading:
    subject = Subject(model, lambda outputs, _: outputs.mean(), (x, None))
    return Penalty(**options)(subject, generator=torch.Generator().manual_seed(0))


def mlp(normalizer: ns.NormalizerLike, **options) -> MLP:
    """A float64 MLP of three sites, with gains and shifts that are not the trivial ones."""
    generator = torch.Generator().manual_seed(0)
    model = MLP(6, 4, depth=3, width=8, normalizer=normalizer, generator=generator, **options).double()
    with torch.no_grad():
        for index, parameter in enumerate(p for p in model.parameters() if p.ndim == 1):
            parameter.add_(0.4 * draw(len(parameter), seed=index))
    return model


def mean_cosine(z: Tensor) -> Tensor:
    """The mean of the matrix of cosine similarities between examples, each with itself included."""
    directions = F.normalize(z.flatten(1), dim=1)
    return (directions @ directions.T).mean()


def outputs_of(model: nn.Module, modules: list[nn.Module], x: Tensor) -> list[Tensor]:
    seen: list[Tensor] = []
    handles = [module.register_forward_hook(lambda _m, _x, y: seen.append(y.detach().clone())) for module in modules]
    model(x)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("name", ["regnorm", "preregnorm"])
def test_the_sum_over_sites_is_the_penalty_that_training_minimizes(name: str) -> None:
    model, x = mlp(ns.normalizer(name)), draw(9, 6)
    reading = measured(model, x)
    _, total = ns.nn.Penalised(model)(x)
    torch.testing.assert_close(reading.values.sum(), total.detach())
    assert reading.labels["layer"] == ("norms.0", "norms.1", "norms.2")


def test_of_unit_root_mean_squares_it_is_the_mean_cosine_similarity_within_the_batch() -> None:
    model, x = mlp(ns.normalizer("regnorm", affine=False, eps=0.0)), draw(9, 6)
    expected = [mean_cosine(z) for z in outputs_of(model, list(model.norms), x)]
    torch.testing.assert_close(measured(model, x).values, torch.stack(expected))


@pytest.mark.parametrize("name", ["none", "weightnorm"])
def test_where_nothing_normalizes_the_values_are_divided_by_their_root_mean_square(name: str) -> None:
    model, x = mlp(ns.normalizer(name)), draw(9, 6)
    expected = [mean_cosine(z) for z in outputs_of(model, list(model.norms), x)]
    torch.testing.assert_close(measured(model, x).values, torch.stack(expected))


# Rows whose sites end in a gain and a shift: not in a threshold or a factor.
AFFINE = [
    row
    for row in ns.normalizers()
    if row.elementwise_affine and not row.needs_positions and row.name not in ("frn", "normprop")
]


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("row", AFFINE, ids=lambda row: row.name)
def test_gain_and_shift_of_every_row_are_taken_off_and_stay_in_the_network(row: ns.Normalizer, mode: str) -> None:
    model, x = mlp(row), draw(9, 6)
    model(draw(9, 6, seed=1))  # running statistics of its own
    reading = measured(model, x, mode=mode)
    model.train(mode == "train")
    expected = [
        ((y if site.bias is None else y - site.bias) / site.weight).mean(0).square().mean()
        for y, site in zip(outputs_of(model, list(model.norms), x), model.norms, strict=True)
    ]
    torch.testing.assert_close(reading.values, torch.stack(expected).detach())


@pytest.mark.parametrize(
    "factory",
    [
        nn.BatchNorm1d,
        nn.LayerNorm,
        nn.RMSNorm,
        lambda c: nn.GroupNorm(2, c),
        lambda c: nn.Sequential(nn.LayerNorm(c)),
    ],
)
def test_gain_and_shift_of_torchs_norms_too_also_where_the_gain_is_zero(factory) -> None:
    model, bare = (mlp(ns.as_normalizer(factory, name="norm")) for _ in range(2))
    x = draw(9, 6)
    with torch.no_grad():
        for module in bare.norms.modules():
            if isinstance(getattr(module, "weight", None), nn.Parameter):
                module.weight.fill_(1)
                if getattr(module, "bias", None) is not None:
                    module.bias.zero_()
    first = next(module for module in model.norms[0].modules() if hasattr(module, "weight"))
    with torch.no_grad():
        first.weight.zero_()
    # The first site's input is the same in both networks.
    torch.testing.assert_close(measured(model, x).values[0], measured(bare, x).values[0])
    assert measured(bare, x).values[0] == pytest.approx(
        outputs_of(bare, [bare.norms[0]], x)[0].mean(0).square().mean().item(), abs=1e-12
    )


def test_images_have_a_neuron_at_every_pixel_and_a_channel_over_all() -> None:
    generator = torch.Generator().manual_seed(0)
    row = ns.normalizer("regnorm", affine=False)
    model = WideResNet(3, 4, depth=8, widen_factor=1, normalizer=row, generator=generator).double()
    x = draw(5, 3, 8, 8)
    sites = [module for module in model.modules() if hasattr(module, "normalizer_site")]
    seen = outputs_of(model, sites, x)
    for over, dims in (("neuron", (0,)), ("channel", (0, 2, 3))):
        expected = torch.stack([z.mean(dims).square().mean() for z in seen])
        torch.testing.assert_close(measured(model, x, over=over).values, expected)


def test_sequences_have_their_channels_last() -> None:
    model = nn.Sequential(nn.Linear(6, 5), ns.normalizer("layernorm", affine=False).site(5, 3)).double()
    x = draw(4, 3, 6)
    z = model(x).detach()
    for over, dims in (("neuron", (0,)), ("channel", (0, 1))):
        expected = z.mean(dims).square().mean().reshape(1)
        torch.testing.assert_close(measured(model, x, over=over).values, expected)


@pytest.mark.parametrize(
    ("module", "shape", "dims"),
    [
        (nn.Linear(6, 5), (4, 6), (1,)),
        (nn.Linear(6, 5), (4, 3, 6), (2,)),
        (nn.Conv2d(6, 5, 1), (4, 6, 3, 2), (1, 2, 3)),
    ],
)
def test_a_model_without_normalizers_is_read_at_its_affine_layers(module, shape, dims) -> None:
    module, x = module.double(), draw(*shape)
    y = module(x).detach()
    z = y / y.square().mean(dims, keepdim=True).sqrt()
    torch.testing.assert_close(measured(module, x).values, z.mean(0).square().mean().reshape(1))


def test_equal_examples_give_one_and_opposite_ones_zero() -> None:
    model, x = mlp(ns.normalizer("none", affine=False), bias=False), draw(1, 6)
    torch.testing.assert_close(measured(model, x.expand(5, 6)).values, torch.ones(3, dtype=torch.float64))
    assert measured(model, torch.cat([x, -x])).values[0].abs() < 1e-15


@pytest.mark.parametrize(("unbiased", "expected"), [(False, 1 / 16), (True, 0.0)])
def test_independent_examples_give_the_floor(unbiased: bool, expected: float) -> None:
    """The mean over batches is within four of the standard errors that the reading itself gives."""
    model = nn.Sequential(ns.normalizer("regnorm").site(50, 2))
    batches = [(draw(16, 50, seed=seed), None) for seed in range(200)]
    subject = Subject(model.double(), lambda outputs, _: outputs.mean(), batches[0], more=batches[1:])
    reading = Penalty(unbiased=unbiased)(subject, generator=torch.Generator())
    assert reading.stderr is not None
    assert abs(reading.values.item() - expected) < 4 * reading.stderr.item()


@pytest.mark.parametrize(("over", "count"), [("neuron", 4), ("channel", 12)])
def test_unbiased_subtracts_the_floor_of_the_values_in_each_mean(over: str, count: int) -> None:
    model, x = ns.normalizer("regnorm").site(5, 3).double(), draw(4, 3, 5)
    r, unbiased = (measured(model, x, over=over, unbiased=u).values for u in (False, True))
    torch.testing.assert_close(unbiased, (count * r - 1) / (count - 1))


def test_unbiased_is_not_defined_for_one_example() -> None:
    assert measured(nn.Linear(3, 3).double(), draw(1, 3), unbiased=True).values.isnan().all()


def test_the_reading_is_the_same_inside_a_penalised_model_and_behind_switches() -> None:
    row, x = ns.normalizer("regnorm"), draw(9, 6)
    expected = measured(mlp(row), x).values
    assert torch.equal(measured(ns.nn.Penalised(mlp(row)), x, select=by_name).values, expected)
    chosen = [switches.switch("gradient_scale", k=2.0)]
    switched = switches.apply(row, chosen, generator=torch.Generator())
    assert torch.equal(measured(mlp(switched), x).values, expected)


def by_name(name: str, module: nn.Module) -> bool:
    return hasattr(module, "normalizer_site")


def test_a_site_may_write_to_its_input() -> None:
    class InPlace(nn.Module):
        normalizer_site = "in place"

        def forward(self, x: Tensor) -> Tensor:
            return x.add_(1)

    x = draw(9, 6)
    reading = measured(nn.Sequential(InPlace(), InPlace()), x)
    expected = [(x + shift).mean(0).square().mean() for shift in (1, 2)]
    torch.testing.assert_close(reading.values, torch.stack(expected))


def test_running_statistics_are_updated_once_in_a_pass() -> None:
    """What a second site sees does not depend on the first one's being computed twice."""

    class Counting(nn.Module):
        normalizer_site = "counting"

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x + self.calls

    counting = Counting()
    reading = measured(nn.Sequential(counting, counting), torch.zeros(3, 2))
    assert reading.values.tolist() == [1.0, (1.0 + 2.0) ** 2]


def test_a_shared_site_is_read_once_a_call_and_last_reads_the_last() -> None:
    site = ns.normalizer("regnorm").site(6, 2).double()
    model, x = nn.Sequential(site, nn.ReLU(), site), draw(9, 6)
    whole, last = measured(model, x), measured(model, x, select="last")
    assert whole.labels["layer"] == ("0", "0#2")
    assert last.labels["layer"] == ("0#2",)
    assert last.values.tolist() == whole.values[-1:].tolist()


def test_whatever_select_chooses_is_read_as_it_is() -> None:
    model, x = nn.Sequential(nn.Linear(6, 5), nn.ReLU()).double(), draw(9, 6)
    reading = measured(model, x, select=lambda name, module: isinstance(module, nn.ReLU))
    torch.testing.assert_close(reading.values, model(x).detach().mean(0).square().mean().reshape(1))


def test_an_output_that_is_no_tensor_is_refused_by_name() -> None:
    class Pair(nn.Module):
        normalizer_site = "pair"

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(TypeError, match="'Pair' returned tuple"):
        measured(Pair(), draw(3, 2))


def test_an_unknown_axis_is_refused() -> None:
    with pytest.raises(ValueError, match="`over` is one of 'neuron', 'channel', but 'batch' arrived"):
        Penalty(over="batch")


def test_deep_layer_normalized_networks_correlate_and_batch_normalized_ones_do_not() -> None:
    def last(name: str) -> float:
        generator = torch.Generator().manual_seed(0)
        model = MLP(64, 4, depth=12, width=128, normalizer=ns.normalizer(name), generator=generator)
        return measured(model, draw(64, 64).float(), select="last").values.item()

    assert last("layernorm") > 0.5
    assert last("batchnorm") < 1e-10
    assert math.isclose(last("bmlv"), 0.0, abs_tol=1e-3)
