from __future__ import annotations

import dataclasses
import math

import msgspec
import pytest

from normscope import normalizers
from normscope.study.recipe import TEN_ROWS, Norm, Options, Recipe, from_plain, parse_norm


def test_the_ten_rows_are_the_first_ten_of_the_table():
    assert tuple(row.name for row in normalizers()[:10]) == TEN_ROWS


def test_the_default_is_the_main_job_of_a_laptop():
    recipe = Options().resolve()
    assert (recipe.data, recipe.model, recipe.scale) == ("digits", "wrn", "laptop")
    assert (recipe.depth, recipe.train_depth, recipe.width, recipe.skips) == (26, 14, 1, False)
    assert tuple(norm.label for norm in recipe.norms) == TEN_ROWS
    assert (len(recipe.lrs), recipe.seeds, recipe.steps, recipe.batch_size) == (3, 3, 100, 64)
    assert (recipe.max_train, recipe.max_eval) == (None, 2000)


def test_the_paper_scale_is_the_papers():
    recipe = Options(scale="paper").resolve()
    assert (recipe.depth, recipe.train_depth, recipe.width) == (26, 26, 2)
    assert recipe.lrs == (0.01, 0.03, 0.1, 0.3, 1.0)
    assert (recipe.seeds, recipe.steps, recipe.batch_size, recipe.max_eval) == (5, 1000, 256, None)


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_a_given_field_wins_over_the_scale(scale):
    recipe = Options(scale=scale, steps=7, max_eval=9, lrs=(0.5,)).resolve()
    assert (recipe.steps, recipe.max_eval, recipe.lrs) == (7, 9, (0.5,))


def test_the_trained_network_is_as_deep_as_the_measured_one_where_only_depth_is_given():
    assert Options(depth=20).resolve().train_depth == 20
    assert Options(depth=20, train_depth=8).resolve().train_depth == 8
    assert Options(train_depth=8).resolve().depth == 26
    assert Options(model="mlp").resolve().train_depth == 24


def test_the_id_depends_on_every_field_and_on_nothing_else():
    recipe = Options().resolve()
    assert recipe.id == Options(depth=26, train_depth=14).resolve().id
    changes = {
        "scale": "paper",
        "data": "other",
        "max_train": 5,
        "max_eval": 5,
        "model": "mlp",
        "depth": 8,
        "train_depth": 8,
        "width": 2,
        "skips": True,
        "norms": (Norm("none"),),
        "lrs": (0.5,),
        "seeds": 1,
        "steps": 1,
        "batch_size": 5,
        "init_batches": 2,
        "noise": 0.2,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "penalty_weight": 0.0,
    }
    assert set(changes) | {"kind", "schema"} == set(Recipe.__struct_fields__)
    ids = {recipe.id} | {msgspec.structs.replace(recipe, **{name: value}).id for name, value in changes.items()}
    assert len(ids) == 1 + len(changes)


def test_a_run_folder_is_named_by_the_kind_and_twelve_digits():
    recipe = Options().resolve()
    assert recipe.folder_name == f"compare-{recipe.id[:12]}"
    assert len(recipe.id) == 64


def test_a_recipe_survives_its_json():
    recipe = Options(norms=("none", "regnorm:penalty=B:eps=1e-3")).resolve()
    assert from_plain(msgspec.json.decode(recipe.to_json())) == recipe


@pytest.mark.parametrize(
    ("text", "name", "options", "label"),
    [
        ("layernorm", "layernorm", {}, "layernorm"),
        ("regnorm:penalty=B", "regnorm", {"penalty": "B"}, "regnorm:penalty=B"),
        ("regnorm:penalty=B:eps=1e-3", "regnorm", {"penalty": "B", "eps": 1e-3}, "regnorm:eps=0.001:penalty=B"),
        ("batchnorm:affine=false", "batchnorm", {"affine": False}, "batchnorm:affine=false"),
        ("batchnorm:momentum=none", "batchnorm", {"momentum": None}, "batchnorm:momentum=none"),
        ("bmlv:eps=0", "bmlv", {"eps": 0}, "bmlv:eps=0"),
    ],
)
def test_a_normalizer_is_written_with_its_options(text, name, options, label):
    assert parse_norm(text) == {"name": name, "options": options}
    assert Norm(name, options).label == label


@pytest.mark.parametrize("text", ["", "a b", "a:", "a:b", "a:=1", "a:b=", "a,b", "regnorm[penalty=B]", "a:b=c/d"])
def test_any_other_spelling_of_a_normalizer_is_refused(text):
    with pytest.raises(ValueError, match="written NAME or NAME:OPTION=VALUE"):
        parse_norm(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": "huge"}, "scale must be one of smoke, laptop, paper, got 'huge'"),
        ({"model": "vgg"}, "model must be one of wrn, mlp, got 'vgg'"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"train_depth": -8}, "train_depth must be at least 1"),
        ({"width": 0}, "width must be at least 1"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"max_train": 0}, "max_train must be at least 1"),
        ({"max_eval": 0}, "max_eval must be at least 1"),
        ({"noise": 0.0}, "noise must be positive and finite"),
        ({"noise": math.nan}, "noise must be positive and finite"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative"),
        ({"penalty_weight": math.inf}, "penalty_weight must not be negative"),
        ({"lrs": ()}, "at least one learning rate"),
        ({"lrs": (0.1, 0.0)}, "a learning rate must be positive and finite, got 0.0"),
        ({"lrs": (-0.1,)}, "a learning rate must be positive and finite, got -0.1"),
        ({"lrs": (math.nan,)}, "a learning rate must be positive and finite, got nan"),
        ({"lrs": (0.1, 0.1)}, "lrs must not name one twice, got 0.1"),
        ({"norms": ()}, "at least one normalizer"),
        ({"norms": ("none", "none")}, "norms must not name one twice, got none"),
        ({"norms": ("bmlv:eps=1:eps=2",)}, "the options of bmlv must not name one twice, got eps"),
        ({"model": "mlp", "skips": True}, "skips is an option of the model wrn, got mlp"),
        ({"steps": 1.5}, "Expected `int`, got `float`"),
    ],
)
def test_a_field_out_of_range_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message) as raised:
        dataclasses.replace(Options(), **change).resolve()
    assert "\n" not in str(raised.value)


def test_unknown_and_missing_fields_are_refused():
    plain = msgspec.to_builtins(Options().resolve())
    with pytest.raises(ValueError, match="unknown field `depht`"):
        from_plain({**plain, "depht": 3})
    with pytest.raises(ValueError, match="missing required field `depth`"):
        from_plain({name: value for name, value in plain.items() if name != "depth"})
