"""Theorem 4.1 at batch norm sites: the identity holds, the printed bound does not."""

from __future__ import annotations

import pytest
import torch

from .scenes import curve, measure, model_of, scene_of


def test_the_identity_holds_at_every_site_with_any_gain_and_the_printed_bound_is_exceeded():
    scene = scene_of("batchnorm")
    model = model_of(scene)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.copy_(torch.linspace(0.5, 2.0, len(parameter)))
    rows = measure(scene, model, "backward_identity")
    errors, violated = curve(rows, "error"), curve(rows, "violated")
    assert list(errors)[:3] == ["norm", "blocks.0.norm1", "blocks.0.norm2"]
    assert len(errors) == 9  # the stem's, two a block, two projections
    assert max(errors.values()) < 1e-3  # eps beside the variance, and float32
    assert 0.5 < sum(violated.values()) / len(violated) <= 1


def test_a_network_without_such_sites_is_refused():
    scene = scene_of("none")
    with pytest.raises(ValueError, match=r"measured at its sites, and CifarResNet has none; choose the normalizer"):
        measure(scene, model_of(scene), "backward_identity")


def test_a_channel_that_nothing_is_sent_back_to_does_not_count():
    scene = scene_of("batchnorm")
    model = model_of(scene)
    with torch.no_grad():
        model.norm.weight[0] = 0.0
    errors = curve(measure(scene, model, "backward_identity"), "error")
    assert 0 < errors["norm"] < 1e-3
