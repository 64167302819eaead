from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from normscope.models import DeepMLP
from normscope.nn import normalizer
from normscope.probes import IsometryGap, Reading, Subject, WeightOrthogonality

F64 = torch.float64


def with_singular_values(values: Tensor, rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """A matrix (rows, columns) with these singular values, min(rows, columns) of them."""
    left, right = (torch.randn(n, len(values), generator=generator, dtype=F64) for n in (rows, columns))
    return torch.linalg.qr(left).Q @ values.double().diag() @ torch.linalg.qr(right).Q.T


def gap_of(values: Tensor) -> float:
    """The definition, of singular values."""
    squares = values.double().square()
    return (squares.mean().log() - squares.log().mean()).item()


def read(probe: IsometryGap | WeightOrthogonality, model: nn.Module, x: Tensor, *more: Tensor) -> Reading:
    subject = Subject(model, lambda y, _: y.mean(), (x, None), more=[(other, None) for other in more])
    return probe(subject, generator=torch.Generator().manual_seed(0))


def gap(x: Tensor, **options: object) -> float:
    """The gap of a batch (samples, features) as the output of a site."""
    return read(IsometryGap(select=lambda name, module: True, **options), nn.Identity(), x).values.item()  # type: ignore[arg-type]


@pytest.mark.parametrize("samples", [6, 9, 40])
def test_the_gap_is_that_of_the_singular_values(samples: int, generator: torch.Generator) -> None:
    values = torch.tensor([3.0, 2.0, 1.5, 1.0, 0.2, 1e-3])
    x = with_singular_values(values, samples, 6, generator)

    assert gap(x) == pytest.approx(gap_of(values), abs=1e-10)
    assert gap(1e-150 * x) == pytest.approx(gap(1e150 * x), abs=1e-10)  # whose squares float64 does not hold


def test_it_is_zero_for_an_isometry_and_only_there(generator: torch.Generator) -> None:
    x = torch.linalg.qr(torch.randn(9, 5, generator=generator, dtype=F64)).Q
    assert 0 <= gap(7 * x) < 1e-14
    assert gap(x * torch.tensor([1.0, 1.0, 1.0, 1.0, 1.01], dtype=F64)) > 1e-6


def test_squaring_would_lose_what_singular_values_keep(generator: torch.Generator) -> None:
    values = torch.tensor([1.0, 1e-10])
    assert gap(with_singular_values(values, 4, 2, generator)) == pytest.approx(gap_of(values), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_rank_deficient_batch_has_an_infinite_gap(dtype: torch.dtype, generator: torch.Generator) -> None:
    x = torch.randn(8, 6, generator=generator, dtype=F64)
    mixed = x.clone()
    mixed[:, 5] = 0.3 * x[:, 0] - 0.7 * x[:, 1] + 0.1 * x[:, 4]  # singular up to rounding only
    repeated = x[:6].clone()
    repeated[3] = repeated[1]

    for deficient in (mixed, repeated, torch.zeros(8, 6), x[:5]):
        assert gap(deficient.to(dtype)) == math.inf
    assert math.isfinite(gap(x.to(dtype)))


def test_a_value_that_is_not_finite_makes_its_own_gap_nan_and_no_other() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Identity(), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x) * torch.tensor([math.inf, 1.0, 1.0]))

    for samples in (3, 5):
        x = torch.eye(5, 3)[:samples] + 0.1
        values = read(IsometryGap(select=lambda name, _: bool(name)), Halves(), x).values
        assert values[0].isfinite()
        assert values[1].isnan()


def test_centering_leaves_out_the_direction_it_makes_null(generator: torch.Generator) -> None:
    x = torch.randn(7, 7, generator=generator, dtype=F64)
    centered = x - x.mean(0)
    expected = gap_of(torch.linalg.svdvals(centered)[:-1])

    assert gap(centered) == pytest.approx(expected, abs=1e-12)  # found out from the means
    assert gap(centered, centered=True) == pytest.approx(expected, abs=1e-12)
    assert gap(x, centered=True) == pytest.approx(expected, abs=1e-12)
    assert gap(centered, centered=False) == math.inf
    assert gap(x) == gap(x, centered=False) == pytest.approx(gap_of(torch.linalg.svdvals(x)), abs=1e-12)


def test_with_more_samples_centering_takes_no_direction_away(generator: torch.Generator) -> None:
    x = torch.randn(8, 7, generator=generator, dtype=F64)
    expected = gap_of(torch.linalg.svdvals(x - x.mean(0)))

    assert gap(x, centered=True) == pytest.approx(expected, abs=1e-12)
    assert gap(x - x.mean(0)) == pytest.approx(expected, abs=1e-12)
    assert gap((x - x.mean(0))[:6]) == math.inf


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_batch_norm_is_seen_to_center_in_either_precision(dtype: torch.dtype, generator: torch.Generator) -> None:
    model = nn.Sequential(nn.Linear(9, 9), nn.BatchNorm1d(9)).to(dtype)
    x = torch.randn(9, 9, generator=generator).to(dtype)

    values = read(IsometryGap(), model, x).values
    singular = torch.linalg.svdvals(model(x).double())[:-1]
    assert values.item() == pytest.approx(gap_of(singular), abs=1e-5)
    nn.init.normal_(model[1].bias, generator=generator)  # a shift gives back what centering took
    assert read(IsometryGap(), model, x).values.isfinite().all()
    assert read(IsometryGap(centered=False), model, x).values.item() != pytest.approx(values.item(), abs=0.1)


def test_the_input_side_is_what_the_site_is_given(generator: torch.Generator) -> None:
    class InPlace(nn.Module):
        normalizer_site = "mine"

        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(torch.tensor([1.0, 2.0, 3.0], dtype=F64))

    x = torch.linalg.qr(torch.randn(5, 3, generator=generator, dtype=F64)).Q
    assert read(IsometryGap(side="input"), InPlace(), x).values.item() < 1e-14
    assert read(IsometryGap(), InPlace(), x).values.item() == pytest.approx(gap_of(torch.tensor([1.0, 2.0, 3.0])))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 16, 4),
    )


def test_convolutions_are_read_by_channel(generator: torch.Generator) -> None:
    model, x = cnn().double(), torch.randn(4, 3, 6, 6, generator=generator, dtype=F64)
    first = model[:2](x)
    expected = gap_of(torch.linalg.svdvals(first.permute(1, 0, 2, 3).reshape(8, -1)))

    reading = read(IsometryGap(), model, x)
    assert reading.labels["layer"] == ("1", "4")
    assert reading.values[0].item() == pytest.approx(expected, abs=1e-12)


def test_weights_of_a_network_of_plain_torch_layers(generator: torch.Generator) -> None:
    model, x = cnn(), torch.randn(4, 3, 6, 6, generator=generator)
    reading = read(IsometryGap(of="weights"), model, x)

    weights = [model[index].weight for index in (0, 3, 7)]
    expected = [gap_of(torch.linalg.svdvals(weight.detach().flatten(1))) for weight in weights]
    assert [tuple(weight.flatten(1).shape) for weight in weights] == [(8, 27), (8, 36), (4, 128)]
    assert reading.labels["layer"] == ("0", "3", "7")
    torch.testing.assert_close(reading.values, torch.tensor(expected, dtype=F64), atol=1e-6, rtol=0)
    assert reading.stderr is None


def test_the_smaller_side_of_a_weight_counts_and_parametrizations_are_applied() -> None:
    tall = nn.utils.parametrizations.orthogonal(nn.Linear(3, 7))
    scaled = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4, bias=False))
    model = nn.Sequential(tall, nn.Linear(7, 4), scaled)
    x = torch.zeros(2, 3)

    gaps = read(IsometryGap(of="weights"), model, x)
    distances = read(WeightOrthogonality(), model, x)
    assert gaps.labels == distances.labels == {"layer": ("0", "1", "2")}
    assert gaps.values[0] < 1e-6
    assert distances.values[0] < 1e-6
    expected = gap_of(torch.linalg.svdvals(scaled.weight.detach()))
    assert gaps.values[2].item() == pytest.approx(expected, abs=1e-5)


def test_layers_without_one_weight_give_each_parameter() -> None:
    model = nn.Sequential(nn.LSTM(3, 4))
    assert read(WeightOrthogonality(), model, torch.zeros(2, 1, 3)).labels["layer"] == (
        "0.weight_ih_l0",
        "0.weight_hh_l0",
    )


def test_a_parametrization_that_counts_its_calls_is_left_alone() -> None:
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))
    before = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    read(WeightOrthogonality(), nn.Sequential(layer), torch.zeros(2, 6))
    read(IsometryGap(of="weights"), nn.Sequential(layer), torch.zeros(2, 6))
    assert before
    assert all(torch.equal(before[name], buffer) for name, buffer in layer.named_buffers())


def test_orthogonality_is_the_relative_distance_from_the_identity(generator: torch.Generator) -> None:
    layer = nn.Linear(9, 5, dtype=F64)
    gram = (layer.weight @ layer.weight.T).detach()
    scaled = gram * 5 / gram.trace()
    expected = (scaled - torch.eye(5, dtype=F64)).norm() / 5**0.5
    x = torch.zeros(2, 9)

    assert read(WeightOrthogonality(), layer, x).values.item() == pytest.approx(expected.item(), abs=1e-14)
    with torch.no_grad():
        layer.weight.copy_(1e200 * torch.linalg.qr(torch.randn(9, 5, generator=generator, dtype=F64)).Q.T)
        assert read(WeightOrthogonality(), layer, x).values < 1e-14
        layer.weight[0] = layer.weight[1]  # one direction lost of five: finite, where the gap is not
    assert read(WeightOrthogonality(), layer, x).values.item() == pytest.approx((2 / 5) ** 0.5, abs=1e-12)
    assert read(IsometryGap(of="weights"), layer, x).values.item() == math.inf


def test_gaussian_weights_have_the_stated_distance(generator: torch.Generator) -> None:
    layer = nn.Linear(400, 100)
    nn.init.normal_(layer.weight, generator=generator)
    measured = read(WeightOrthogonality(), layer, torch.zeros(1, 400)).values.item()
    assert measured == pytest.approx((100 / 400) ** 0.5, rel=0.03)


def test_select_chooses_layers_and_sites(generator: torch.Generator) -> None:
    model, x = cnn(), torch.randn(4, 3, 6, 6, generator=generator)
    assert read(IsometryGap(select="last"), model, x).labels["layer"] == ("4",)
    assert read(IsometryGap(of="weights", select="last"), model, x).labels["layer"] == ("7",)
    chosen = read(WeightOrthogonality(select=lambda _, module: isinstance(module, nn.Conv2d)), model, x)
    assert chosen.labels["layer"] == ("0", "3")
    with pytest.raises(ValueError, match="returned True for none of 0, 3, 7"):
        read(WeightOrthogonality(select=lambda name, _: name == "5"), model, x)


def test_layers_of_one_shape_are_decomposed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, ...]] = []
    decompose = torch.linalg.svdvals
    monkeypatch.setattr(torch.linalg, "svdvals", lambda a: sizes.append(tuple(a.shape)) or decompose(a))
    row = normalizer("bnl2")
    model = DeepMLP(12, 4, depth=30, width=8, normalizer=row, generator=torch.Generator().manual_seed(0))

    read(IsometryGap(), model, torch.randn(8, 12))
    read(IsometryGap(of="weights"), model, torch.randn(8, 12))
    assert sizes == [(30, 8, 8), (1, 8, 12), (29, 8, 8), (1, 4, 8)]


def test_standard_errors_are_over_batches(generator: torch.Generator) -> None:
    batches = [torch.randn(9, 4, generator=generator, dtype=F64) for _ in range(3)]
    model = nn.Sequential(nn.LayerNorm(4, dtype=F64), nn.Linear(4, 4, dtype=F64))
    probe = IsometryGap(select=lambda name, _: name == "1")
    single = torch.stack([read(probe, model, x).values for x in batches])

    reading = read(probe, model, *batches)
    torch.testing.assert_close(reading.values, single.mean(0))
    torch.testing.assert_close(reading.stderr, single.std(0) / 3**0.5)


def test_a_layer_that_subtracts_the_mean_over_channels_is_singular(generator: torch.Generator) -> None:
    x = torch.randn(20, 6, generator=generator)
    assert read(IsometryGap(), nn.LayerNorm(6, elementwise_affine=False), x).values.item() == math.inf


def test_the_network_without_depth_limits_follows_its_exact_recursion(generator: torch.Generator) -> None:
    """From the readings on both sides of a site: what the layer's norms take off the gap."""
    row = normalizer("bnl2")
    model = DeepMLP(10, 4, depth=12, width=10, normalizer=row, generator=generator).double()
    x = torch.randn(10, 10, generator=generator, dtype=F64)
    norms: list[Tensor] = []
    for norm in model.norms:
        norm.register_forward_hook(lambda _m, args, _y: norms.append(args[0].norm(dim=0)))
    after, before = (read(IsometryGap(side=side), model, x).values for side in ("output", "input"))
    norms.clear()
    model(x)

    change = torch.stack([2 * layer.log().mean() for layer in norms])  # gap(BN(WX)) - gap(X) for unit rows of X
    torch.testing.assert_close(after[1:], after[:-1] + change[1:].detach(), atol=1e-5, rtol=0)  # float32 weights
    assert bool((after[1:] <= after[:-1] + 1e-6).all())
    torch.testing.assert_close(before[1:], after[:-1], atol=1e-5, rtol=0)  # an orthogonal layer changes no gap


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"of": "gradients"}, "`of` is one of 'activations', 'weights', but 'gradients' arrived"),
        ({"side": "left"}, "`side` is one of 'output', 'input', but 'left' arrived"),
        ({"select": "first"}, "`select` is None"),
    ],
)
def test_unknown_options_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IsometryGap(**options)  # type: ignore[arg-type]


def test_what_cannot_be_read_is_refused_by_name(generator: torch.Generator) -> None:
    x = torch.randn(5, generator=generator)
    with pytest.raises(ValueError, match=r"matrix of examples and channels, but '0' has the shape \(5,\)"):
        read(IsometryGap(select=lambda name, _: name == "0"), nn.Sequential(nn.Identity()), x)
    with pytest.raises(ValueError, match="weight matrices or kernels, but LayerNorm has none"):
        read(IsometryGap(of="weights"), nn.LayerNorm(5), x)
