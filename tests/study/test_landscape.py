"""What a step does, as rows: values against an independent computation, and where in the rows they stand."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from normscope.data import Split, shuffled_batches
from normscope.study import Model, seeds
from normscope.study.landscape import chosen, next_batch, step_sizes

from .scenes import curve, measure, model_of, scene_of, training


@pytest.fixture(scope="module")
def scene():
    return scene_of("none")


@pytest.fixture(scope="module")
def model(scene):
    return model_of(scene)


def stepped(model, batch, size):
    """The model after one plain gradient step of this size, and the gradient norm before it."""
    inputs, targets = batch
    moved = copy.deepcopy(model).train()
    loss = F.cross_entropy(moved(inputs), targets)
    gradients = torch.autograd.grad(loss, list(moved.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(moved.parameters(), gradients, strict=True):
            parameter -= size * gradient
    return moved, gradients, loss.item()


def test_the_relative_loss_is_that_of_the_batch_whose_gradient_is_followed(scene, model):
    rows = measure(scene, model, "relative_loss", low=0.01, high=1.0, points=3)
    found = curve(rows, "relative_loss")
    assert list(found) == ["0.01", "0.1", "1"]
    assert [r["depth"] for r in rows] == [1, 2, 3]
    inputs, targets = next_batch(scene, 0)
    for text, value in found.items():
        moved, _, before = stepped(model, (inputs, targets), float(text))
        assert value == pytest.approx(F.cross_entropy(moved(inputs), targets).item() / before, rel=1e-4)


def test_a_loss_that_is_infinite_along_the_grid_is_a_result(scene, model):
    rows = measure(scene, model, "relative_loss", low=0.01, high=1e30, points=2)
    assert math.isinf(curve(rows, "relative_loss")["1e+30"])


def test_gradients_along_the_gradient_and_where_smoothness_saturates(scene, model):
    rows = measure(scene, model, "loss_along_gradient", low=0.01, high=0.1, points=2)
    inputs, targets = next_batch(scene, 0)
    for text in ("0.01", "0.1"):
        moved, gradients, _ = stepped(model, (inputs, targets), float(text))
        loss = F.cross_entropy(moved(inputs), targets)
        after = torch.autograd.grad(loss, list(moved.parameters()))
        distance = math.sqrt(sum((a - b).square().sum().item() for a, b in zip(gradients, after, strict=True)))
        size = math.sqrt(sum(a.square().sum().item() for a in gradients))
        assert curve(rows, "loss")[text] == pytest.approx(loss.item(), rel=1e-4)
        assert curve(rows, "gradient_distance")[text] == pytest.approx(distance, rel=1e-3)
        measured = curve(rows, "smoothness", "loss_along_gradient")[text]
        assert measured == pytest.approx(distance / float(text) / size, rel=1e-3)
        assert curve(rows, "smoothness", "theory.loss_along_gradient")[text] == pytest.approx(1 / float(text))
    assert {r["unit"] for r in rows if r["name"] == "loss"} == {"nats"}


def test_moments_by_layer_and_of_each_channel(scene, model):
    rows = measure(scene, model, "channel_moments", modules=r"blocks\.\d", channels="blocks.1")
    assert list(curve(rows, "std")) == ["blocks.0", "blocks.1", "blocks.2"]
    inputs, _ = scene.batches(1, "probe")[0]
    x = model.activation(model.norm(model.stem(inputs)))
    x = model.blocks[1](model.blocks[0](x)).detach().double()
    means, deviations = x.mean((0, 2, 3)), x.std((0, 2, 3), correction=0)
    assert curve(rows, "mean")["blocks.1"] == pytest.approx(means.abs().mean().item(), rel=1e-5)
    assert curve(rows, "std")["blocks.1"] == pytest.approx(deviations.mean().item(), rel=1e-5)
    own = [r["value"] for r in sorted(rows, key=lambda r: r["depth"]) if r["name"] == "channel_variance"]
    assert own == pytest.approx(deviations.square().tolist(), rel=1e-5)


def test_channels_along_a_step_are_those_before_it_and_those_after(scene, model):
    rows = measure(scene, model, "channel_moments_along_step", modules="blocks.0 blocks.2", lr=0.05, points=3)
    places = list(dict.fromkeys(r["layer"] for r in rows))
    assert places == [f"blocks.{i}@{share}" for share in ("0", "0.5", "1") for i in (0, 2)]
    before = measure(scene, model, "channel_moments", modules="blocks.2", channels="blocks.2")
    moved, _, _ = stepped(model, scene.batches(1, "probe")[0], 0.05)
    after = measure(scene, moved, "channel_moments", modules="blocks.2", channels="blocks.2")
    for expected, place in ((before, "blocks.2@0"), (after, "blocks.2@1")):
        found = [r["value"] for r in rows if r["layer"] == place and r["name"] == "channel_mean"]
        assert found == pytest.approx([r["value"] for r in expected if r["name"] == "channel_mean"], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("divergence", "size"), [(0.0, 0.01), (1.5, 10.0), (math.inf, 100.0)])
def test_without_a_rate_the_step_is_the_first_that_diverges_or_the_last_of_all(scene, model, divergence, size):
    asked = {"modules": "blocks.2", "points": 2}
    grid = {"low": 0.01, "high": 100.0, "sizes": 5}
    rows = measure(scene, model, "channel_moments_along_step", divergence=divergence, **grid, **asked)
    ratios = {float(text): value for text, value in curve(rows, "relative_loss", "relative_loss").items()}
    assert list(ratios) == [0.01, 0.1, 1.0, 10.0, 100.0]
    assert max(value for at, value in ratios.items() if at < 10.0) <= 1.5 < ratios[10.0] < math.inf
    moved, _, before = stepped(model, scene.batches(1, "probe")[0], 0.1)
    inputs, targets = scene.batches(1, "probe")[0]
    assert ratios[0.1] == pytest.approx(F.cross_entropy(moved(inputs), targets).item() / before, rel=1e-4)
    along = [r for r in rows if r["probe"] == "channel_moments_along_step"]
    assert along == measure(scene, model, "channel_moments_along_step", lr=size, **asked)


def test_logit_gradients_by_image_and_class_with_targets_and_cosine(scene, model):
    rows = measure(scene, model, "logit_gradients")
    inputs, targets = scene.batches(1, "probe")[0]
    expected = (model.train()(inputs).softmax(1) - F.one_hot(targets, 10)) / len(targets)
    entries = [r for r in rows if r["name"] == "gradient"]
    assert len(entries) == expected.numel()
    for entry in entries[::7]:
        value = expected[entry["depth"] - 1, int(entry["layer"])].item()
        assert entry["value"] == pytest.approx(value, abs=1e-6)
    assert [r["value"] for r in rows if r["name"] == "target"] == targets.tolist()
    units = F.normalize(expected.double(), dim=1)
    off = (units @ units.T).sum() - len(units)
    (cosine,) = (r["value"] for r in rows if r["name"] == "cosine")
    assert cosine == pytest.approx((off / len(units) / (len(units) - 1)).item(), abs=1e-5)


def test_gradient_histograms_and_sums_name_their_convolutions(scene, model):
    rows = measure(scene, model, "gradient_histogram", modules="blocks.2.conv1", bins=8)
    shares = [r["value"] for r in rows if r["name"] == "share"]
    assert sum(shares) == pytest.approx(1.0)
    assert len(shares) == 8
    assert {r["layer"] for r in rows} == {"blocks.2.conv1"}
    assert {r["name"] for r in rows} == {"std", "largest", "excess_kurtosis", "left", "right", "share"}
    sums = measure(scene, model, "gradient_sums", modules="blocks.0.conv1 blocks.2.conv2")
    assert list(curve(sums, "a/b")) == ["blocks.0.conv1", "blocks.2.conv2"]
    assert all(value >= 1 for value in curve(sums, "a/b").values())


def test_the_first_layer_has_no_covariate_shift(scene, model):
    rows = measure(scene, model, "covariate_shift", lr=0.1)
    distances, cosines = curve(rows, "distance"), curve(rows, "cosine")
    assert distances["stem"] == 0.0
    assert cosines["stem"] == pytest.approx(1.0)
    assert all(value > 0 for layer, value in distances.items() if layer != "stem")


def test_training_accuracy_is_that_of_the_first_examples(scene, model):
    rows = measure(scene, model, "training_accuracy", examples=10)
    train = scene.dataset.train
    with torch.no_grad():
        right = (model.eval()(train.inputs[:10]).argmax(1) == train.targets[:10]).double().mean().item()
    model.train()
    (accuracy,) = (r["value"] for r in rows if r["name"] == "train_accuracy")
    assert accuracy == pytest.approx(right)


@pytest.mark.parametrize("step", [0, 1, 2, 5])
def test_the_next_batch_is_the_one_that_training_takes(step):
    """48 examples in batches of 20 are two steps an epoch, so that steps 2 and 5 are of later ones."""
    scene = scene_of("none", training=training(batch_size=20))
    stream = shuffled_batches(scene.dataset.train, 20, generator=seeds.generator(3, "data"))
    inputs, targets = next(itertools.islice(stream, step, None))
    found = next_batch(scene, step)
    assert torch.equal(found[0], inputs)
    assert torch.equal(found[1], targets)


def test_measurements_leave_the_model_as_it_was(scene):
    model = model_of(scene_of("batchnorm"))
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    measure(scene, model, "loss_along_gradient", low=0.01, high=0.1, points=2)
    measure(scene, model, "channel_moments_along_step", modules="blocks.0", lr=0.1, points=2)
    measure(scene, model, "backward_identity")
    measure(scene, model, "gradient_noise", examples=8, sizes="2", lrs="0.1", draws=2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training


def test_a_pattern_without_a_module_is_refused_by_name(model):
    with pytest.raises(ValueError, match=r"modules must match names of CifarResNet, and 'block' matches none"):
        chosen(model, r"blocks\.0 block")


def test_step_sizes_ascend():
    assert step_sizes(1e-3, 1e-1, 5) == (0.001, 0.00316228, 0.01, 0.0316228, 0.1)
    with pytest.raises(
        ValueError, match=r"step sizes ascend from a positive one, two at least, got 1 from 0.1 to 1\.0"
    ):
        step_sizes(0.1, 1.0, 1)
    with pytest.raises(ValueError, match=r"two at least, got 3 from 1 to 0\.1"):
        step_sizes(1, 0.1, 3)


def test_a_layer_that_the_channels_cannot_be_read_of_is_named(scene, model):
    wrapped = torch.nn.Sequential(model, torch.nn.Flatten(0))
    with pytest.raises(ValueError, match="'1'"):
        measure(scene, wrapped, "channel_moments", modules="1")


def test_a_step_has_a_beginning_and_an_end(scene, model):
    with pytest.raises(ValueError, match="points must be at least 2, the beginning and the end of the step, got 1"):
        measure(scene, model, "channel_moments_along_step", modules="blocks.0", lr=0.1, points=1)


def test_tokens_have_a_target_each_and_real_targets_are_no_classes():
    scene = scene_of(model=Model(family="deep_linear", options={"depth": 2, "width": 10}), data="linear-map")
    model = model_of(scene)
    rows = measure(scene, model, "logit_gradients")
    assert {r["name"] for r in rows} == {"gradient", "cosine"}
    tokens = Split(scene.dataset.train.inputs, torch.arange(3).expand(48, 3))
    split = dataclasses.replace(scene, dataset=dataclasses.replace(scene.dataset, train=tokens))
    by_token = torch.nn.Sequential(model, torch.nn.Linear(10, 12), torch.nn.Unflatten(1, (3, 4)))
    rows = measure(split, by_token, "logit_gradients")
    targets = [r["value"] for r in rows if r["name"] == "target"]
    assert targets == [0, 1, 2] * 16
    assert len([r for r in rows if r["name"] == "gradient"]) == 4 * len(targets)
