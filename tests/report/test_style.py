import re
from itertools import combinations

import numpy as np
import pytest

from normscope.report.style import STYLES, THEORY, styles

ROWS = [
    "none", "batchnorm", "batchnorm_train", "layernorm", "weightnorm", "bmlv", "lmbv", "prelayernorm", "regnorm",
    "preregnorm", "bnl2", "groupnorm", "instancenorm", "rmsnorm", "batchrenorm", "powernorm", "normprop", "frn", "dyt",
    "weightstandard",
]  # fmt: skip
FIRST_TEN = ROWS[:10]

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(color):
    srgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    t = np.clip(XYZ @ rgb, 0, None) / XYZ.sum(1)
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(color, other):
    a, b = sorted(0.05 + XYZ[1] @ linear(c) for c in (color, other))
    return b / a


def test_every_row_has_its_own_style():
    assert list(STYLES) == ROWS


def test_two_rows_differ_by_color_or_by_dash_and_marker():
    for one, other in combinations(STYLES.values(), 2):
        assert one.color != other.color or (one.dash != other.dash and one.marker != other.marker), (one, other)


@pytest.mark.parametrize("vision", VISION)
def test_ten_lines_drawn_together_are_told_apart_by_every_eye(vision):
    for one, other in combinations([STYLES[name] for name in FIRST_TEN], 2):
        seen = [lab(np.array(VISION[vision]) @ linear(style.color)) for style in (one, other)]
        assert one.marker != other.marker
        # A CIE76 distance of 12: told apart at a glance even in thin lines.
        assert np.linalg.norm(seen[0] - seen[1]) > 12 or one.dash != other.dash, (one, other)


@pytest.mark.parametrize("page", ["#ffffff", "#15181d"])
def test_colors_stand_out_from_light_and_dark_pages(page):
    for style in [*STYLES.values(), THEORY]:
        assert contrast(style.color, page) >= 2.95, style


def test_pages_are_those_of_the_style_sheet():
    from normscope.report.page import STATIC

    assert set(re.findall(r"--card: (#\w+)", (STATIC / "report.css").read_text())) == {"#ffffff", "#15181d"}


def test_theory_looks_like_no_normalizer():
    assert THEORY.marker is None
    assert THEORY.dash == "dash"
    assert THEORY.color not in {style.color for style in STYLES.values()}


def test_an_unknown_row_looks_the_same_in_every_company():
    alone = styles(["my_norm"])["my_norm"]
    assert styles(["batchnorm", "my_norm", "layernorm"])["my_norm"] == alone
    assert styles(["batchnorm"])["batchnorm"] == STYLES["batchnorm"]


def test_many_unknown_rows_look_like_no_known_row_and_unlike_each_other():
    names = [f"unknown{i}" for i in range(40)]
    chosen = styles([*names, *ROWS])
    assert len({chosen[name] for name in names}) == 40
    for one in names:
        for row in ROWS:
            look, known = chosen[one], STYLES[row]
            assert look.color != known.color or (look.dash != known.dash and look.marker != known.marker)


def test_unknown_rows_have_colors_of_their_own_while_there_are_some():
    chosen = styles([f"unknown{i}" for i in range(11)])
    assert len({style.color for style in chosen.values()}) == 11
    assert styles(["batchnorm", *chosen])["batchnorm"].color not in {
        style.color for name, style in styles(["batchnorm", *list(chosen)[:9]]).items() if name != "batchnorm"
    }
