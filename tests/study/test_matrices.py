"""Singular values of Gaussian products and the law for infinite size, as rows."""

from __future__ import annotations

import math

import pytest
import torch

from .scenes import curve, measure, model_of, scene_of


@pytest.fixture(scope="module")
def rows():
    scene = scene_of()
    model = model_of(scene)
    return [
        *measure(scene, model, "gaussian_products", factors="1 3", size=80),
        *measure(scene, model, "fuss_catalan", factors="1 3", points=400),
    ]


def test_singular_values_descend_and_those_of_one_matrix_lie_on_the_quarter_circle(rows):
    for factors in ("1", "3"):
        values = [r["value"] for r in rows if r["name"] == "singular_value" and r["layer"] == factors]
        assert values == sorted(values, reverse=True)
        assert len(values) == 80
    ours = torch.tensor([r["value"] for r in rows if r["name"] == "singular_value" and r["layer"] == "1"]).sort().values
    circle = (ours * (4 - ours.square()).clamp(min=0).sqrt() / 2 + 2 * (ours / 2).clamp(max=1).asin()) / math.pi
    ranks = torch.arange(81) / 80
    distance = torch.maximum(circle - ranks[:-1], ranks[1:] - circle).max().item()
    assert curve(rows, "distance_to_law")["1"] == pytest.approx(distance, abs=1e-5)
    assert distance < 0.1  # singular values repel: far nearer than 1 / sqrt(80)


@pytest.mark.parametrize(("factors", "edge"), [("1", 2.0), ("3", 3.0792)])
def test_the_law_ends_at_its_edge_and_holds_the_mass_one(rows, factors, edge):
    assert curve(rows, "largest")[factors] == pytest.approx(edge, abs=1e-4)
    assert curve(rows, "largest_square")[factors] == pytest.approx(edge**2, abs=1e-3)
    for name, reach, lost in (("density", edge, 0.02), ("squared_density", edge**2, 0.12)):
        places, values = zip(
            *(
                (float(r["layer"].partition("@")[2]), r["value"])
                for r in rows
                if r["name"] == name and r["layer"].startswith(f"{factors}@")
            ),
            strict=True,
        )
        assert 0 < places[0] < places[-1] < reach
        mass = torch.trapezoid(torch.tensor(values), torch.tensor(places)).item()
        assert 1 - lost < mass < 1 + lost / 2  # the rest lies below the first place, where the density diverges


def test_seeds_draw_other_matrices_and_the_network_plays_no_part():
    def largest(**changes):
        scene = scene_of(**changes)
        return measure(scene, model_of(scene), "gaussian_products", factors="2", size=5)[0]["value"]

    assert largest() == largest(norm="batchnorm", batch_size=8)
    assert largest() != largest(seed=4)
