"""The sizes that docs/models.md prints are those of the networks it names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from normscope.models import FAMILIES
from normscope.nn import normalizer

from .standin import count, sites

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
SIZES = re.findall(r"^\|[^|]*\| `(\w+)`, ([^|]*) \| ([\d,]+) \| (\d+) \|$", PAGE, re.MULTILINE)


def test_there_are_ten_sizes():
    assert len(SIZES) == 10


@pytest.mark.parametrize(("name", "arguments", "parameters", "places"), SIZES)
def test_printed_sizes_are_measured(name, arguments, parameters, places, seeded):
    shape = ast.literal_eval(re.search(r"\([\d, ]+\)", arguments)[0])
    outputs = int(re.search(r"([\d,]+) (?:classes|tokens)", arguments)[1].replace(",", ""))
    options = {key: ast.literal_eval(value) for key, value in re.findall(r"(\b[a-z_]+) (\d+|False)", arguments)}
    model = FAMILIES[name].build(shape, outputs, normalizer=normalizer("batchnorm"), generator=seeded(0), **options)
    assert (f"{count(model):,}", str(len(sites(model)))) == (parameters, places)


def test_the_table_lists_every_family_with_its_options():
    rows = dict(re.findall(r"^\| `(\w+)` \| `\w+` \| [^|]* \| ([^|]*) \|", PAGE, re.MULTILINE))
    named = {name: set(re.findall(r"`(\w+)`", options)) for name, options in rows.items()}
    assert named == {name: set(family.options) for name, family in FAMILIES.items()}
