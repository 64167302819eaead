"""Measurements of deep networks: their batches, what they write, and theory beside it."""

from __future__ import annotations

import dataclasses
import io
import math
from typing import Any

import msgspec
import pytest
import torch

from normscope import data, theory
from normscope.study import Data, Experiment, Measurement, Model, Norm, Switch, depth_theory, preparation, seeds
from normscope.study.building import cross_entropy, network
from normscope.study.depth_batches import check, subject
from normscope.study.measuring import Scene, registry
from normscope.study.plan import trial_of
from normscope.study.rows import Rows

WIDTH, DEPTH = 8, 12
DIGITS = data.load("digits", max_train=128, max_eval=32)


def named(norm: str) -> Norm:
    """A row as its label says it, with at most one option."""
    name, _, option = norm.partition(":")
    return Norm(name, dict([option.split("=")]) if option else {})


def experiment(norm: str = "bnl2", *, depth: int = DEPTH, batch_size: int = WIDTH, **options: Any) -> Experiment:
    return Experiment(
        id="one",
        data=Data(name="digits"),
        model=Model(family="deep_mlp", options={"depth": depth, "width": WIDTH, **options}),
        norm=named(norm),
        seed=3,
        batch_size=batch_size,
        dtype="float64",
    )


def scene_of(asked: Experiment) -> Scene:
    return Scene(experiment=asked, dataset=DIGITS, rows=Rows("run", trial_of(asked), io.StringIO()))


def built(asked: Experiment) -> torch.nn.Module:
    return network(asked, DIGITS, generator=seeds.generator(asked.seed, "init")).model


def measured(asked: Experiment, probe: str, **options: Any) -> dict[tuple[str, str, int], float]:
    """Values by probe, name and place."""
    scene, model = scene_of(asked), built(asked)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    registry()[probe](scene, model, 0, **options)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert model.training
    return {(row["probe"], row["name"], row["depth"]): row["value"] for row in scene.rows.plain()}


def on(asked: Experiment, **options: Any) -> Any:
    given = {"samples": None, "repeated": 0} | options
    return subject(scene_of(asked), built(asked), 0, **given)


def test_repeated_samples_are_copies_with_their_classes_and_the_rest_is_the_same_batch():
    whole, degenerate = on(experiment(), samples=10).batch, on(experiment(), samples=10, repeated=7).batch
    assert torch.linalg.matrix_rank(whole[0].flatten(1)) == 10
    assert torch.linalg.matrix_rank(degenerate[0].flatten(1)) == 3
    for mine, theirs in zip(degenerate, whole, strict=True):
        assert torch.equal(mine[:3], theirs[:3])
        assert torch.equal(mine[3:6], theirs[:3])
        assert torch.equal(mine[9:], theirs[:1])


def test_smaller_batches_are_the_beginnings_of_larger_ones():
    large, small = on(experiment(), samples=20).batch, on(experiment(), samples=5).batch
    assert torch.equal(large[0][:5], small[0])


def test_the_input_near_the_identity_enters_the_first_site_rotated():
    """Its singular values are those of (1 - f) I + f u v^T, whose gap has a closed form in u.v and the norms."""
    share, asked = 0.2, experiment()
    found = measured(asked, "isometry_gap", side="input", near_identity=share)
    u, v = torch.rand(2, WIDTH, dtype=torch.float64, generator=scene_of(asked).generator(0))
    keep = 1 - share
    trace = WIDTH * keep**2 + 2 * keep * share * float(u @ v) + share**2 * float(u @ u) * float(v @ v)
    log_det = (WIDTH - 1) * math.log(keep) + math.log(keep + share * float(u @ v))
    assert found["isometry_gap", "gap", 1] == pytest.approx(math.log(trace / WIDTH) - 2 * log_det / WIDTH, abs=1e-12)


def test_raw_inputs_have_no_negative_value_and_keep_their_differences():
    standardized, raw = on(experiment(), samples=30).batch[0], on(experiment(), samples=30, raw=True).batch[0]
    assert raw.min() >= 0
    torch.testing.assert_close(raw[0] - raw[1], standardized[0] - standardized[1])


def test_theory_of_the_gap_bounds_and_follows_it():
    found = measured(experiment(), "isometry_gap", side="input", near_identity=0.01, theory=True)
    gaps = [found["isometry_gap", "gap", place] for place in range(1, DEPTH + 1)]
    first = gaps[0]
    for place in range(2, DEPTH + 1):
        assert found["theory.isometry_gap", "recursion", place] == pytest.approx(gaps[place - 1], abs=1e-14)
        assert gaps[place - 1] < found["theory.isometry_gap", "bound", place] < first
        expected = first * theory.isometry_gap_rate(WIDTH) ** (place - 1)
        assert found["theory.isometry_gap", "rate", place] == pytest.approx(expected)
    bounds = [found["theory.isometry_gap", "expected", place] for place in range(3, DEPTH + 1)]
    assert ("theory.isometry_gap", "expected", 2) not in found
    assert all(bound < before for bound, before in zip(bounds, gaps[1:], strict=False))  # it bounds a decrease


def test_gradients_are_numbered_as_the_model_counts_layers_and_theory_ends_at_the_last_hidden_one():
    asked = experiment("batchnorm", activation="sin", gain_exponent=0.3, batch_size=32)
    found = measured(asked, "weight_gradient_norm", layers="2 -1", theory=True)
    assert {place for _, _, place in found} == {2, DEPTH, DEPTH + 1}  # the readout, and the anchor of theory
    model, batch = built(asked), on(asked).batch
    cross_entropy(model(batch[0]), batch[1]).backward()
    for place, weight in ((2, model.affines[1].weight), (DEPTH + 1, model.readout.weight)):
        expected = weight.grad.norm().log().item()
        assert found["weight_gradient_norm", "log_norm", place] == pytest.approx(expected, abs=1e-9)
    anchor = found["weight_gradient_norm", "log_norm", DEPTH]
    assert found["theory.weight_gradient_norm", "log_norm", DEPTH] == anchor
    grown = anchor + theory.shaped_growth("sin", 0.3, DEPTH)[1:-1].sum().item()  # of layers 2 to the last but one
    assert found["theory.weight_gradient_norm", "log_norm", 2] == pytest.approx(grown)


def test_the_rate_of_explosion_is_the_difference_of_log_norms():
    asked = experiment("batchnorm", activation="tanh", gain_exponent=0.4, batch_size=32)
    norms = measured(asked, "weight_gradient_norm")
    found = measured(asked, "explosion_rate", gap=5, layers="8", theory=True)
    rate = (norms["weight_gradient_norm", "log_norm", 3] - norms["weight_gradient_norm", "log_norm", 8]) / 5
    assert found["explosion_rate", "rate", 8] == pytest.approx(rate, abs=1e-9)
    shaped = theory.shaped_growth("tanh", 0.4, DEPTH)
    assert found["theory.explosion_rate", "rate", 8] == pytest.approx(shaped[2:7].mean().item())


@pytest.mark.parametrize(
    ("norm", "options", "expected"),
    [
        ("bnl2", {}, 0.0),
        ("bnl2", {"weights": "xavier"}, 0.5 * math.log(29 / 28)),
        ("batchnorm", {"weights": "gaussian"}, 0.5 * math.log(28 / 27)),
        ("batchnorm", {"activation": "relu"}, 0.5 * math.log(math.pi / (math.pi - 1))),
        ("bnl2:moment=rms", {"activation": "sin"}, 0.5 * math.log(1 / math.tanh(1))),
        ("bnl2", {"activation": "sin"}, 0.5 * math.log(1 / 30 / math.tanh(1 / 30))),  # norm 1 is a gain of 1/sqrt(n)
    ],
)
def test_growth_is_that_of_the_activation_and_of_gaussian_weights(norm, options, expected):
    growth = depth_theory.growth(experiment(norm, **options), 30)
    assert growth is not None
    assert growth.shape == (DEPTH,)
    assert growth.tolist() == pytest.approx([expected] * DEPTH, abs=1e-12)


@pytest.mark.parametrize(
    ("norm", "samples", "repeated", "rank"),
    [
        ("bnl2", 6, 0, 6),
        ("bnl2:moment=rms", 20, 15, 5),
        ("bnl2", 20, 3, WIDTH),
        ("batchnorm", WIDTH, 0, WIDTH - 1),  # the mean takes one away
        ("batchnorm", WIDTH + 1, 0, WIDTH),
    ],
)
def test_orthogonal_weights_grow_by_the_rank_of_the_batch(norm, samples, repeated, rank):
    growth = depth_theory.growth(experiment(norm), samples, repeated=repeated)
    assert growth is not None
    assert growth.tolist() == pytest.approx([theory.orthogonal_growth(rank, WIDTH)] * DEPTH, abs=1e-12)
    assert depth_theory.growth(experiment(norm, activation="tanh"), samples, repeated=repeated)[0] == pytest.approx(
        theory.activation_growth("tanh", 1.0 if norm != "bnl2" else samples**-0.5)
    )


def test_copies_are_counted_in_the_theory_beside_a_measurement():
    options = {"layers": "2", "samples": 12, "repeated": 8, "theory": True}
    found = measured(experiment(), "weight_gradient_norm", **options)
    grown = found["theory.weight_gradient_norm", "log_norm", 2] - found["weight_gradient_norm", "log_norm", DEPTH]
    assert grown == pytest.approx((DEPTH - 2) * theory.orthogonal_growth(4, WIDTH))
    rates = measured(experiment(), "explosion_rate", gap=5, **(options | {"layers": "9"}))
    assert rates["theory.explosion_rate", "rate", 9] == pytest.approx(theory.orthogonal_growth(4, WIDTH))


def test_a_gain_and_its_exponent_give_each_layer_its_own_rate():
    growth = depth_theory.growth(experiment("batchnorm", activation="tanh", gain=0.5, gain_exponent=0.3), 30)
    assert growth is not None
    assert growth[3].item() == pytest.approx(theory.activation_growth("tanh", 0.5 * 4**-0.3))


def test_there_is_no_theory_for_relu_without_subtraction_nor_for_other_families():
    assert depth_theory.growth(experiment("bnl2", activation="relu"), 30) is None
    mlp = msgspec.structs.replace(experiment(), model=Model(family="mlp", options={"depth": 2, "width": 8}))
    assert depth_theory.growth(mlp, 30) is None


@pytest.mark.parametrize("norm", ["none", "layernorm", "weightnorm", "lmbv", "lpnorm:p=inf"])
def test_there_is_no_theory_of_rows_that_do_not_divide_by_the_second_moment_over_the_batch(norm):
    assert depth_theory.growth(experiment(norm, activation="tanh"), 30) is None
    assert depth_theory.growth(experiment("batchnorm", activation="tanh"), 30) is not None


def test_there_is_no_theory_of_networks_with_switches():
    noisy = msgspec.structs.replace(experiment("batchnorm"), switches=(Switch(name="noisy_batch_norm"),))
    assert depth_theory.growth(noisy, 30) is None


@pytest.mark.parametrize(("norm", "samples"), [("bnl2", 24), ("bnl2:moment=rms", 24)])
def test_gradients_of_either_size_of_normalized_features_grow_as_theory_says(norm, samples):
    """Division by the norm and by the root mean square differ by 0.136 nats a layer behind a sine."""
    asked = experiment(norm, depth=60, batch_size=samples, activation="sin")
    asked = msgspec.structs.replace(
        asked, model=msgspec.structs.replace(asked.model, options=asked.model.options | {"width": samples})
    )
    found = measured(asked, "weight_gradient_norm", layers="10 60", theory=True)
    grown = {
        probe: found[probe, "log_norm", 10] - found[probe, "log_norm", 60]
        for probe in ("weight_gradient_norm", "theory.weight_gradient_norm")
    }
    assert grown["weight_gradient_norm"] / 50 == pytest.approx(grown["theory.weight_gradient_norm"] / 50, abs=0.02)


def test_theory_of_gradients_leaves_out_the_first_weight_which_has_the_shape_of_the_data():
    asked = experiment("batchnorm", activation="tanh", batch_size=32)
    norms = measured(asked, "weight_gradient_norm", theory=True)
    rates = measured(asked, "explosion_rate", gap=3, theory=True)
    places = {
        probe: [place for name, _, place in found if name == f"theory.{probe}"]
        for probe, found in (("weight_gradient_norm", norms), ("explosion_rate", rates))
    }
    assert places["weight_gradient_norm"] == list(range(2, DEPTH + 1))
    assert places["explosion_rate"] == list(range(5, DEPTH + 1))
    assert ("explosion_rate", "rate", 4) in rates


def test_the_norm_of_a_normalization_s_jacobian_is_that_of_the_whole_matrix():
    asked = experiment()
    found = measured(asked, "normalizer_jacobian", layers="1")
    model, inputs = built(asked), on(asked).batch[0]
    entering = model.affines[0](inputs.flatten(1)).detach()
    jacobian = torch.func.jacrev(model.norms[0])(entering).reshape(entering.numel(), entering.numel())
    exact = torch.linalg.svdvals(jacobian)[0].log().item()
    assert found["normalizer_jacobian", "log_norm", 1] == pytest.approx(exact, abs=1e-4)
    assert found["theory.normalizer_jacobian", "log_norm", 1] == pytest.approx(exact, abs=1e-9)
    assert found["theory.normalizer_jacobian", "bound", 1] >= exact


def test_too_few_samples_leave_the_jacobian_s_bound_infinite():
    found = measured(experiment(), "normalizer_jacobian", layers="1", samples=WIDTH - 1)
    assert found["theory.normalizer_jacobian", "bound", 1] == math.inf


def test_the_jacobian_of_a_root_mean_square_is_larger_by_the_root_of_the_samples():
    for norm, size in (("bnl2", 1.0), ("bnl2:moment=rms", 20**0.5)):
        found = measured(experiment(norm), "normalizer_jacobian", layers="1", samples=20)
        exact = found["normalizer_jacobian", "log_norm", 1]
        assert found["theory.normalizer_jacobian", "log_norm", 1] == pytest.approx(exact, abs=1e-4)
        least = theory_of_least(norm, samples=20)
        assert found["theory.normalizer_jacobian", "bound", 1] == pytest.approx(math.log(size) - math.log(least))


def theory_of_least(norm: str, **options: Any) -> float:
    """The least singular value of what enters the first site."""
    asked = experiment(norm)
    inputs = on(asked, **options).batch[0]
    return torch.linalg.svdvals(built(asked).affines[0](inputs.flatten(1)).detach())[-1].item()


@pytest.mark.parametrize("norm", ["none", "layernorm", "batchnorm_train", "lpnorm:p=inf"])
def test_rows_that_do_not_divide_by_the_norm_alone_have_no_theory_of_their_jacobian(norm):
    found = measured(experiment(norm), "normalizer_jacobian", layers="2", samples=20)
    assert {probe for probe, _, _ in found} == {"normalizer_jacobian"}


def test_a_site_with_running_statistics_has_no_such_jacobian():
    with pytest.raises(ValueError, match=r"norms\.0 keeps running statistics; ask for it with a row that has none"):
        measured(experiment("batchnorm"), "normalizer_jacobian", layers="1")


def test_aligned_weights_make_one_layer_an_isometry():
    found = measured(experiment(), "aligned_isometry_gap", layers="1 5")
    assert found["aligned_isometry_gap", "gap", 1] < 1e-13
    assert measured(experiment(), "isometry_gap", layers="1")["isometry_gap", "gap", 1] > 0.1


def test_parts_of_gradients_are_of_square_weights_alone():
    found = measured(experiment(), "gradient_symmetry")
    assert {place for _, _, place in found} == set(range(2, DEPTH + 1))
    norms = measured(experiment(), "weight_gradient_norm", layers="5")
    parts = (found["gradient_symmetry", name, 5] for name in ("symmetric", "antisymmetric"))
    assert math.log(math.hypot(*parts)) == pytest.approx(
        norms["weight_gradient_norm", "log_norm", 5]
    )  # W is orthogonal


def test_orthogonality_and_gap_of_weights():
    assert measured(experiment(), "weight_orthogonality", layers="2")["weight_orthogonality", "distance", 2] < 1e-14
    gaussian = measured(experiment(weights="gaussian"), "isometry_gap", of="weights", layers="2")
    assert gaussian["isometry_gap", "weight_gap", 2] > 0.1


def test_the_gap_with_the_null_direction_of_a_subtracted_mean_is_infinite_and_without_it_is_not():
    found = measured(experiment("batchnorm"), "isometry_gap", layers="-1")
    found |= measured(experiment("batchnorm"), "isometry_gap", layers="-1", centered=False)
    assert found["isometry_gap", "uncentered_gap", DEPTH] == math.inf
    assert 0 < found["isometry_gap", "gap", DEPTH] < math.inf


def test_ranks_and_cosines_are_of_the_inputs():
    found = measured(experiment(depth=1), "batch_rank", samples=20, repeated=4, batches=2, raw=True)
    assert found["batch_rank", "raw_rank_float64", 0] == 16
    first = on(experiment(depth=1), samples=20, repeated=4, raw=True).batch[0].flatten(1)
    cosines = torch.nn.functional.cosine_similarity(first[:, None], first[None], dim=-1)
    mean = (cosines.sum() - 20) / (20 * 19)
    one = measured(experiment(depth=1), "batch_rank", samples=20, repeated=4, raw=True)
    assert one["batch_cosine", "raw_cosine", 0] == pytest.approx(mean.item())


def test_the_rank_of_tokens_is_refused():
    split = data.Split(torch.zeros(20, 5, dtype=torch.int64), torch.zeros(20, 5, dtype=torch.int64))
    texts = dataclasses.replace(DIGITS, train=split)
    asked = experiment()
    scene = Scene(experiment=asked, dataset=texts, rows=Rows("run", trial_of(asked), io.StringIO()))
    model = torch.nn.Sequential(torch.nn.Embedding(3, 4), torch.nn.LayerNorm(4))
    with pytest.raises(ValueError, match=r"the rank of inputs is that of real numbers, got torch\.int64"):
        registry()["batch_rank"](scene, model, 0)


def test_accuracy_under_the_statistics_of_the_batch():
    asked = experiment("batchnorm", batch_size=32)
    model, held = built(asked), DIGITS.test
    outputs = model.train()(held.inputs[:32].double())
    expected = (outputs.argmax(-1) == held.targets[:32]).double().mean().item()
    found = measured(asked, "batch_accuracy", split="test", examples=32)
    assert found["batch_accuracy", "test_accuracy", 0] == pytest.approx(expected)


@pytest.mark.parametrize("layers", ["0", "14", "-14", "two", "2.5"])
def test_layers_that_are_not_there_are_refused(layers):
    with pytest.raises(ValueError, match="layers are numbers from 1 to 13, or from -1 to -13, got"):
        measured(experiment(), "weight_gradient_norm", layers=layers)


@pytest.mark.parametrize(
    ("probe", "options", "message"),
    [
        ("isometry_gap", {"samples": 1}, "samples must lie between 2 and the 128 training examples, got 1"),
        ("batch_rank", {"samples": 129}, "samples must lie between 2 and the 128 training examples, got 129"),
        ("weight_gradient_norm", {"samples": 8, "repeated": 8}, "between 0 and 7 where there are 8 samples, got 8"),
        ("weight_gradient_norm", {"repeated": -1}, "repeated must lie between 0 and 7"),
        ("isometry_gap", {"near_identity": 1.0}, "near_identity is a share of at least 0 and below 1, got 1.0"),
        (
            "isometry_gap",
            {"samples": 7, "theory": True},
            "as many different samples as the network has units, 8, got 7; raise samples, lower width",
        ),
        ("isometry_gap", {"repeated": 1, "theory": True}, "different samples as the network has units, 8, got 7"),
        ("isometry_gap", {"of": "weights", "theory": True}, "the isometry gap is of activations"),
        (
            "isometry_gap",
            {"near_identity": 0.1, "repeated": 2},
            "makes the whole batch, got samples=None and repeated=2",
        ),
        ("isometry_gap", {"near_identity": 0.1, "samples": 9}, "makes the whole batch, got samples=9 and repeated=0"),
        ("isometry_gap", {"samples": 0}, "samples must lie between 2 and the 128 training examples, got 0"),
        ("weight_gradient_norm", {"samples": 9, "repeated": 7, "theory": True}, "finite for at least rank 3, got 2"),
        ("aligned_isometry_gap", {"samples": 7}, "the gap after aligned weights needs at least as many .* 8, got 7"),
    ],
)
def test_batches_that_cannot_be_or_have_too_few_samples_for_theory_are_refused_in_one_line(probe, options, message):
    with pytest.raises(ValueError, match=message) as raised:
        check(experiment(), Measurement(probe=probe, at=(0,), options=options), available=128)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("norm", "options"), [("bnl2", {"activation": "tanh"}), ("bnl2", {"weights": "xavier"}), ("batchnorm", {})]
)
def test_theory_of_the_gap_is_refused_for_networks_that_it_is_not_about(norm, options):
    measurement = Measurement(probe="isometry_gap", at=(0,), options={"theory": True})
    with pytest.raises(ValueError, match=f"got deep_mlp with {norm}; leave theory out") as raised:
        check(experiment(norm, **options), measurement, available=128)
    assert "\n" not in str(raised.value)
    check(experiment("bnl2:moment=rms"), measurement, available=128)


@pytest.mark.parametrize("options", [{"samples": 7}, {"samples": 9, "repeated": 2}])
def test_theory_of_activations_needs_a_batch_of_full_rank(options):
    measurement = Measurement(probe="explosion_rate", at=(0,), options={"theory": True} | options)
    with pytest.raises(ValueError, match=r"through activations needs at least as many .* 8, got 7"):
        check(experiment(activation="tanh"), measurement, available=128)
    check(experiment(), measurement, available=128)


def test_gaussian_weights_need_samples_that_differ_for_theory():
    copies = Measurement(probe="weight_gradient_norm", at=(0,), options={"theory": True, "repeated": 2, "samples": 20})
    with pytest.raises(ValueError, match="Gaussian weights needs samples that all differ, got 2 copies"):
        check(experiment(weights="xavier"), copies, available=128)
    check(experiment(), copies, available=128)
    check(
        experiment("layernorm", batch_size=4), msgspec.structs.replace(copies, options={"theory": True}), available=128
    )


def test_gaussian_weights_need_three_samples_for_theory():
    asked = experiment(weights="xavier", batch_size=2)
    measurement = Measurement(probe="weight_gradient_norm", at=(0,), options={"theory": True})
    with pytest.raises(ValueError, match="finite for at least 3 examples, got 2"):
        check(asked, measurement, available=128)


def test_options_of_other_measurements_are_not_looked_at():
    check(experiment(), Measurement(probe="gaussian_products", at=(0,), options={"samples": 1}), available=128)


def test_depth_zero_is_refused_before_a_run(monkeypatch):
    monkeypatch.setattr(preparation, "load_data", lambda _asked: DIGITS)
    study = preparation.Study(paper="p", item="i", scale="smoke", experiments=(experiment(depth=0),))
    with pytest.raises(ValueError, match="depth must be a positive integer, got 0"):
        preparation.try_out_study(study)


@pytest.mark.parametrize("probe", ["normalizer_jacobian", "aligned_isometry_gap"])
def test_a_site_of_images_is_refused_by_name(probe):
    images = experiment()
    images = msgspec.structs.replace(
        images, model=Model(family="cifar_resnet", options={"depth": 8, "width": 2}), batch_size=16
    )
    with pytest.raises(ValueError, match=r"samples and features, got the shape \(16, 2, 8, 8\) at norm; choose"):
        measured(images, probe, layers="1")


def test_a_site_is_read_without_a_draw_from_the_global_random_state():
    asked = experiment()
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), built(asked))
    state = torch.get_rng_state()
    registry()["aligned_isometry_gap"](scene_of(asked), model, 0, layers="1")
    assert torch.equal(torch.get_rng_state(), state)
