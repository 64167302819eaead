from __future__ import annotations

import dataclasses
import math

import msgspec
import pytest

from normscope import normalizers
from normscope.study.probing import DEFAULT_PROBES, Spectrum
from normscope.study.recipe import Norm, Options, Recipe, check, from_plain, parse_norm
from normscope.study.scales import TEN_ROWS


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
        "probes": ("gradient_norm",),
        "curvature_examples": 5,
        "spectrum": Spectrum(lanczos_steps=3, lanczos_starts=1, steps=(0,), modes=("train",), groups=()),
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
        ({"probes": ("sharpnes",)}, "there is no probe 'sharpnes'; did you mean sharpness"),
        ({"probes": ("spectrum",), "curvature_examples": 0}, "curvature_examples must be at least 1, got 0"),
        ({"probes": ("spectrum",), "lanczos_steps": 0}, "lanczos_steps must be at least 1, got 0"),
        ({"probes": ("spectrum",), "lanczos_starts": 0}, "lanczos_starts must be at least 1, got 0"),
        ({"probes": ("spectrum",), "spectrum_steps": ()}, "spectrum_steps must name at least one step"),
        (
            {"probes": ("spectrum",), "spectrum_steps": (101,)},
            "must lie between 0 and the 100 steps of training, got 101",
        ),
        (
            {"probes": ("spectrum",), "spectrum_steps": (-1,)},
            "must lie between 0 and the 100 steps of training, got -1",
        ),
        ({"probes": ("spectrum",), "spectrum_steps": (5, 5)}, "spectrum_steps must not name one twice, got 5"),
        ({"probes": ("spectrum",), "spectrum_groups": ("a", "a")}, "spectrum_groups must not name one twice, got a"),
        ({"probes": ("spectrum",), "spectrum_modes": ()}, "spectrum_modes must name train, eval or both"),
        (
            {"probes": ("spectrum",), "spectrum_modes": ("test",)},
            "spectrum_modes must be among train, eval, got 'test'",
        ),
        ({"probes": ("spectrum",), "spectrum_modes": ("eval", "eval")}, "spectrum_modes must not name one twice"),
        ({"spectrum_modes": ("eval",)}, "spectrum_modes is an option of spectrum; add it to probes"),
        ({"curvature_examples": 5}, "curvature_examples is an option of spectrum and sharpness; add it to probes"),
        ({"probes": ("sharpness",), "lanczos_steps": 5}, "lanczos_steps is an option of spectrum; add it to probes"),
        ({"lanczos_starts": 5}, "lanczos_starts is an option of spectrum; add it to probes"),
        ({"spectrum_steps": (5,)}, "spectrum_steps is an option of spectrum; add it to probes"),
        ({"spectrum_groups": ("a",)}, "spectrum_groups is an option of spectrum; add it to probes"),
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


def test_a_recipe_without_curvature_keeps_its_older_id():
    assert not {"probes", "curvature_examples", "spectrum"} & set(msgspec.json.decode(Options().resolve().to_json()))
    assert Options(probes=tuple(reversed(DEFAULT_PROBES))).resolve() == Options().resolve()
    # of the first release, before there were spectra
    assert Options().resolve().folder_name == "compare-2a0a69512877"


def test_the_order_of_probes_is_free():
    one, other = (Options(probes=probes).resolve() for probes in (("sharpness", "spectrum"), ("spectrum", "sharpness")))
    assert one == other
    assert one.measured == ("spectrum", "sharpness")
    assert one.measures_curvature
    assert not one.measures_initialization


def test_spectra_have_the_scales_sizes_and_the_papers_step():
    recipe = Options(probes=("spectrum",)).resolve()
    assert recipe.curvature_examples == 512
    assert recipe.spectrum == Spectrum(
        lanczos_steps=80, lanczos_starts=2, steps=(0, 50), modes=("train", "eval"), groups=()
    )
    assert Options(probes=("spectrum",), steps=20).resolve().spectrum.steps == (0, 20)
    assert Options(probes=("spectrum",), spectrum_steps=(7, 0)).resolve().spectrum.steps == (0, 7)
    assert Options(probes=("spectrum",), spectrum_modes=("eval", "train")).resolve() == recipe
    assert Options(probes=("sharpness",), curvature_examples=64).resolve().curvature_examples == 64


def test_a_recipe_with_spectra_survives_its_json():
    recipe = Options(probes=("spectrum", "gradient_norm"), spectrum_groups=("readout.*",)).resolve()
    assert from_plain(msgspec.json.decode(recipe.to_json())) == recipe


@pytest.mark.parametrize(
    ("probes", "changes", "message"),
    [
        (("spectrum",), {"spectrum": msgspec.UNSET}, "spectrum must be given with these probes, got spectrum"),
        (("sharpness",), {"curvature_examples": msgspec.UNSET}, "curvature_examples must be given with these probes"),
        (DEFAULT_PROBES, {"curvature_examples": 5}, "curvature_examples must be left out with these probes"),
    ],
)
def test_a_recipe_holds_what_its_probes_need_and_no_more(probes, changes, message):
    with pytest.raises(ValueError, match=message):
        check(msgspec.structs.replace(Options(probes=probes).resolve(), **changes))
