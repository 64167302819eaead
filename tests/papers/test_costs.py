"""Costs are counted on the networks: against closed forms, and against what was measured."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from normscope.study import Data, Model
from normscope_papers.common.sizes import SIZES
from normscope_papers.costs import GRADIENT, PRODUCT, THREAD, Rates, cost, forward_operations, table
from normscope_papers.depth_limits import PAPER as DEPTH
from normscope_papers.is_batch_norm_unique import PAPER
from normscope_papers.is_batch_norm_unique.experiments import wide_resnet

CIFAR = Data(name="uoft-cs/cifar10")


def with_fields(name: str, **fields):
    item = PAPER.item(name)
    return dataclasses.replace(item, fields={scale: {**own, **fields} for scale, own in item.fields.items()})


def test_a_dense_network_has_two_operations_for_each_weight():
    model = Model(family="mlp", options={"depth": 3, "width": 16})
    assert forward_operations(model, Data(name="digits")) == 2 * (64 * 16 + 2 * 16 * 16 + 16 * 10)


def test_a_wide_resnet_is_counted_layer_by_layer():
    """Depth 8 without skips: a stem and two convolutions in each of three groups, at 32, 16 and 8 pixels a side."""
    pixels = 32 * 32
    convolutions = pixels * 9 * (3 * 16 + 16 * 16 + 16 * 16)
    convolutions += pixels // 4 * 9 * (16 * 32 + 32 * 32) + pixels // 16 * 9 * (32 * 64 + 64 * 64)
    assert forward_operations(wide_resnet(depth=8, width=1, skips=False), CIFAR) == 2 * (convolutions + 64 * 10)


@pytest.mark.parametrize(("depth", "giga"), [(50, 4.09), (101, 7.80)])
def test_resnets_cost_what_is_known_of_them(depth, giga):
    """Billions of multiplications with additions at 224 pixels, as torchvision publishes them."""
    model = Model(family="resnet", options={"depth": depth})
    operations = forward_operations(model, Data(name="ILSVRC/imagenet-1k"))
    assert operations / 2e9 == pytest.approx(giga, rel=0.01)


def test_image_size_and_sequences_are_taken_from_the_data():
    small = Data(name="ILSVRC/imagenet-1k", image_size=64)
    model = Model(family="resnet", options={"depth": 50, "width": 16})
    assert forward_operations(model, small) < forward_operations(model, Data(name="ILSVRC/imagenet-1k")) / 10
    text = Data(name="dvruette/lm1b", sequence_length=32, vocabulary=100)
    options = {"depth": 1, "dim": 8, "heads": 2, "hidden": 16, "dropout": 0.0}
    dense = 32 * 2 * (4 * 8 * 8 + 2 * 8 * 16 + 8 * 100)
    attention = 2 * 2 * 32 * 32 * 8
    found = forward_operations(Model(family="transformer", options=options), text)
    assert dense <= found <= dense + attention


def test_training_costs_three_forward_passes_for_every_example_of_every_seed_and_rate():
    item = with_fields("recurrent", steps=7, batch_size=5, lrs=(0.1, 0.3), seeds=2, cells=("lstm",), per_decade=1)
    found = cost(item, "smoke")
    model = Model(family="recurrent", options={"cell": "lstm", "hidden": 8, "layers": 1})
    one = GRADIENT * 7 * 5 * forward_operations(model, Data(name="digits"))
    assert found.trained == 2 * (2 + 2)  # two normalizers: two rates from one seed, then the best from two
    assert found.training == {"recurrent": pytest.approx(found.trained * one)}


def test_products_with_the_hessian_are_counted_apart():
    item = with_fields("fig4", at=(0, 3), examples=16, lanczos_steps=8, lanczos_starts=2, seeds=1)
    found = cost(item, "smoke")
    forward = forward_operations(wide_resnet(depth=8, width=1, skips=False), Data(name="digits"))
    assert found.curvature == pytest.approx(2 * 8 * 2 * 16 * PRODUCT * forward)
    assert found.total == pytest.approx(found.training["wrn"] + found.measuring["wrn"] + found.curvature)


def test_the_rates_of_a_thread_are_those_that_were_measured():
    forward = forward_operations(wide_resnet(depth=26, width=1, skips=False), CIFAR)
    assert GRADIENT * 64 * forward / THREAD.plain["wrn"] == pytest.approx(0.35, rel=0.02)
    assert PRODUCT * 512 * forward / THREAD.curvature == pytest.approx(4.0, rel=0.02)


def test_layers_and_orthogonal_weights_of_deep_networks_are_counted_besides():
    """Of two batches and three seeds: a gradient on each, and a forward pass for the rank."""
    item = DEPTH.item("fig2")
    item = dataclasses.replace(item, fields={"smoke": item.fields["smoke"] | {"depths": (4,), "seeds": 3}})
    found = cost(item, "smoke")
    assert found.drawing == pytest.approx(6 * 4 * 8 / 3 * 16**3)
    assert found.layers == pytest.approx(6 * 4 * (1 + 1 / 3))
    rates = Rates(curvature=1.0, plain={"deep_mlp": math.inf}, drawing=1.0, layers=2.0)
    assert 3600 * found.hours(rates) == pytest.approx(found.drawing + found.layers / 2)
    xavier = DEPTH.item("fig3").fields["smoke"] | {"weights": ("xavier",)}
    assert cost(dataclasses.replace(DEPTH.item("fig3"), fields={"smoke": xavier}), "smoke").drawing == 0


@pytest.mark.parametrize(("width", "seconds"), [(100, 0.035), (32, 0.018)])
def test_a_step_of_a_hundred_layers_takes_what_was_measured(width, seconds):
    fields = DEPTH.item("f1").fields["laptop"] | {"width": width, "batch_size": width, "depths": (100,), "seeds": 1}
    steps = fields["epochs"] * fields["per_epoch"]
    found = cost(dataclasses.replace(DEPTH.item("f1"), fields={"laptop": fields}), "laptop")
    assert 3600 * found.hours(THREAD) / steps == pytest.approx(seconds, rel=0.15)


@pytest.mark.parametrize("item", PAPER.items, ids=lambda item: item.name)
def test_every_item_has_a_cost_at_laptop_scale_and_keeps_its_budget(item):
    found = cost(item, "laptop")
    assert found.total > 0
    hours = found.hours(THREAD, workers=2)
    limit = {"fig2": 1 / 6, "table3": 2.5}.get(item.name, 1.0)  # table 3: an hour for each column at most
    assert hours <= limit if found.trained else hours <= 0.5


def test_hours_are_those_of_each_familys_rate():
    found = cost(with_fields("table3", columns=("cifar10", "resnet50")), "smoke")
    one = sum(found.training.values()) + sum(found.measuring.values())
    rates = Rates(curvature=1.0, plain={"wrn": 1.0, "resnet": 1.0})
    assert found.hours(rates, workers=2) == pytest.approx(one / 7200)
    slower = Rates(curvature=1.0, plain={"wrn": 1.0, "resnet": 0.5})
    extra = found.training["resnet"] + found.measuring["resnet"]
    assert found.hours(slower) - found.hours(rates) == pytest.approx(extra / 3600)


def test_the_document_shows_the_table_as_it_is_computed():
    document = Path(__file__).parents[2] / "docs" / "is-batch-norm-unique.md"
    assert table(PAPER) in document.read_text()


def test_unknown_data_and_scales_are_refused():
    with pytest.raises(ValueError, match="the sizes of elsewhere are not known here; known are digits"):
        forward_operations(wide_resnet(depth=8, width=1, skips=False), Data(name="elsewhere"))
    with pytest.raises(ValueError, match=r"fig2 has no scale 'huge'; choose from smoke, laptop, paper\."):
        cost(PAPER.item("fig2"), "huge")
    assert "digits" in SIZES
