"""The noise of a step: sampled beside exact, against a computation of every example's own gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from normscope import probes
from normscope.study import Model

from .scenes import measure, model_of, scene_of

MLP = Model(family="mlp", options={"depth": 2, "width": 8})


def test_sampled_noise_has_its_exact_mean_and_the_bound_is_the_variance_over_the_size():
    scene = scene_of("none", model=MLP)
    model = model_of(scene)
    rows = measure(scene, model, "gradient_noise", examples=12, sizes="1 4 12", lrs="0.1 0.5", draws=60)
    inputs, targets = scene.dataset.train.inputs[:12], scene.dataset.train.targets[:12]
    model.eval()
    gradients = []
    for x, y in zip(inputs, targets, strict=True):
        loss = F.cross_entropy(model(x[None]), y[None])
        parts = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
        gradients.append(torch.cat([part.flatten() for part in parts]).double())
    each = torch.stack(gradients)
    variance = (each - each.mean(0)).square().sum(1).mean().item()

    def value(name, lr="", size=0):
        (found,) = (r for r in rows if (r["name"], r["layer"], r["depth"]) == (name, lr, size))
        return found

    assert value("variance")["value"] == pytest.approx(variance, rel=1e-4)
    for lr in ("0.1", "0.5"):
        for size in (1, 4, 12):
            bound = float(lr) ** 2 * variance / size
            exact = bound * (12 - size) / 11
            assert value("bound", lr, size)["value"] == pytest.approx(bound, rel=1e-4)
            assert value("without_replacement", lr, size)["value"] == pytest.approx(exact, rel=1e-4, abs=1e-12)
            sampled = value("sampled", lr, size)
            assert abs(sampled["value"] - exact) < 4 * sampled["stderr"] + 1e-6 * bound
    assert value("sampled", "0.1", 4)["value"] != value("sampled", "0.5", 4)["value"] / 25  # draws of their own


def test_the_examples_gradients_are_taken_once_for_all_rates(monkeypatch):
    taken = []
    original = probes.GradientNoise.measure
    monkeypatch.setattr(
        probes.GradientNoise,
        "measure",
        lambda self, *args, **options: taken.append(self) or original(self, *args, **options),
    )
    scene = scene_of("none", model=MLP)
    measure(scene, model_of(scene), "gradient_noise", examples=4, sizes="1 2", lrs="0.1 0.5 1", draws=1)
    assert len(taken) == 1


def test_a_rate_that_is_none_is_refused():
    scene = scene_of("none", model=MLP)
    with pytest.raises(ValueError, match=r"`lr` is positive and finite, but 0\.0 arrived"):
        measure(scene, model_of(scene), "gradient_noise", examples=4, sizes="1", lrs="0.1 0", draws=1)
