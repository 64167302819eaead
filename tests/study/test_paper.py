"""Papers that are installed, their items, and the recipe of an item with fields set by hand."""

from __future__ import annotations

import dataclasses
import re

import msgspec
import pytest

from normscope.study import Data, Norm, Study
from normscope.study.fields import read
from normscope.study.paper import Item, find, papers, study_of

from . import synthetic_paper
from .synthetic_paper import EXPLODES, FIG1, FIG2, PAPER, TABLE1, install, searched

OTHER = dataclasses.replace(PAPER, name="another-paper", items=(FIG1,), claims=())
NO_PAPER = "not a paper"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "PAPER")


def study(scale: str = "smoke", item: Item = FIG1, **overrides: str) -> Study:
    return study_of(PAPER, item, scale, overrides)


def test_papers_are_those_of_the_entry_points_by_name(monkeypatch):
    monkeypatch.setattr(synthetic_paper, "OTHER", OTHER, raising=False)
    install(monkeypatch, "PAPER", "OTHER")
    assert papers() == (OTHER, PAPER)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["ABSENT"], "cannot be loaded: .*ABSENT"),
        (["NO_PAPER"], "must be a Paper, got str"),
    ],
)
def test_a_paper_that_cannot_be_loaded_is_named(monkeypatch, names, says):
    monkeypatch.setattr(synthetic_paper, "NO_PAPER", NO_PAPER, raising=False)
    install(monkeypatch, *names)
    with pytest.raises(ValueError, match=says):
        papers()


def test_an_item_is_found_by_its_full_name_and_by_its_own(installed):
    assert find("some-paper/fig2") == (PAPER, FIG2)
    assert find("table1") == (PAPER, TABLE1)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("some-paper/fig3", "there is no item 'some-paper/fig3'; did you mean some-paper/fig"),
        ("sone-paper/fig1", "did you mean some-paper/fig1"),
        ("zzz", "choose from some-paper/fig1, some-paper/fig2, some-paper/table1"),
        ("", "choose from"),
    ],
)
def test_an_unknown_item_is_refused_with_close_ones(installed, name, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        find(name)


def test_an_item_of_two_papers_needs_its_papers_name(monkeypatch):
    monkeypatch.setattr(synthetic_paper, "OTHER", OTHER, raising=False)
    install(monkeypatch, "PAPER", "OTHER")
    with pytest.raises(
        ValueError, match="fig1 is an item of several papers; write another-paper/fig1 or some-paper/fig1"
    ):
        find("fig1")
    assert find("another-paper/fig1") == (OTHER, FIG1)


def test_without_a_paper_the_way_out_is_named(monkeypatch):
    install(monkeypatch)
    with pytest.raises(ValueError, match="no paper is installed"):
        find("fig1")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"items": (FIG1, FIG1)}, "the items of some-paper must not share a name, got twice: fig1"),
        ({"claims": (EXPLODES, EXPLODES)}, "the claims of some-paper must not share a name, got twice: explodes"),
        ({"items": (FIG2,), "claims": (EXPLODES,)}, "some-paper has no item 'fig1'; did you mean fig2"),
        ({"claims": (dataclasses.replace(EXPLODES, items=()),)}, "must name the items whose rows it needs"),
    ],
)
def test_a_paper_that_contradicts_itself_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(PAPER, **changes)


def test_the_study_of_an_item_is_that_of_its_scale():
    found = study("laptop")
    assert (found.paper, found.item, found.scale) == ("some-paper", "fig1", "laptop")
    assert len(found.experiments) == 2 * 3
    assert {experiment.data for experiment in found.experiments} == {Data(name="mnist", max_train=400, max_eval=16)}
    assert study("smoke") != found


def test_the_study_is_what_its_file_gives_back():
    found = study_of(PAPER, FIG2, "smoke", {"lrs": "1,2"})
    assert msgspec.json.decode(found.to_json(), type=Study) == found
    assert [experiment.training.optimizer.lr for experiment in found.experiments] == [1.0, 2.0]


def test_fields_are_set_by_hand_as_the_type_that_they_have():
    found = study(norms="none,regnorm:penalty=B", seeds="1", max_train="none", skips="true", data="a/b")
    assert [experiment.norm for experiment in found.experiments] == [Norm("none"), Norm("regnorm", {"penalty": "B"})]
    assert {experiment.data.max_train for experiment in found.experiments} == {None}
    assert {experiment.condition for experiment in found.experiments} == {"skips"}
    assert {experiment.data.name for experiment in found.experiments} == {"a/b"}


def test_every_item_takes_data_even_without_such_a_field():
    moved = study("smoke", FIG2, data="../cifar10")
    assert {experiment.data.name for experiment in moved.experiments} == {"../cifar10"}
    assert {experiment.data.max_train for experiment in moved.experiments} == {48}
    assert study("smoke", TABLE1, data="anywhere").experiments == ()


@pytest.mark.parametrize(
    ("item", "overrides", "says"),
    [
        (
            FIG1,
            {"seed": "1"},
            "fig1 has no field 'seed'; did you mean seeds; it has data, max_train, noise, norms, seeds, skips.",
        ),
        (FIG1, {"zz": "1"}, "fig1 has no field 'zz'; it has data, max_train, noise, norms, seeds, skips."),
        (TABLE1, {"seeds": "1"}, "table1 has no field 'seeds'; it has data."),
        (FIG1, {"seeds": "1.5"}, "seeds must be a whole number, got '1.5'."),
        (FIG1, {"seeds": "none"}, "seeds must be a whole number, got 'none'."),
        (FIG1, {"seeds": ""}, "seeds must be a whole number, got ''."),
        (FIG1, {"noise": "much"}, "noise must be a finite number, got 'much'."),
        (FIG1, {"noise": "inf"}, "noise must be a finite number, got 'inf'."),
        (FIG1, {"skips": "yes"}, "skips must be true or false, got 'yes'."),
        (FIG1, {"norms": "batch norm"}, "a normalizer is written NAME or NAME:OPTION=VALUE"),
        (
            FIG1,
            {"norms": "none,none"},
            "the experiments of fig1 must not share a name, got twice: none-seed0, none-seed1.",
        ),
        (FIG1, {"seeds": "0"}, "fig1 has nothing to run with seeds=0; leave out what empties it."),
        (FIG1, {"data": ""}, "data must not be empty"),
        (FIG2, {"data": ""}, "data must not be empty"),
        (FIG2, {"lrs": "0.1,,0.2"}, "lrs must be a finite number, got ''."),
        (FIG2, {"steps": "0"}, "fig2 must train for at least 1 step, got 0."),
        (FIG2, {"steps": "-1"}, "fig2 must train for at least 1 step, got -1."),
    ],
)
def test_what_a_field_cannot_hold_is_refused(item, overrides, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        study_of(PAPER, item, "smoke", overrides)


def test_a_scale_that_an_item_lacks_is_refused():
    with pytest.raises(ValueError, match="table1 has no scale 'paper'; choose from smoke"):
        study("paper", TABLE1)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "a:b", "x" * 201])
def test_an_id_must_do_as_the_name_of_a_folder(name):
    def experiments():
        (first, *_), _final = FIG1.study(**FIG1.fields["smoke"])
        return (msgspec.structs.replace(first, id=name),), None

    item = dataclasses.replace(FIG1, fields={"smoke": {}}, study=experiments)
    with pytest.raises(ValueError, match="must be the name of a folder"):
        study_of(PAPER, item, "smoke", {})


def test_a_step_that_training_does_not_reach_is_refused():
    def experiments(*, steps: int, at: int):
        found, final = searched(lrs=(0.1,), steps=steps, seeds=1)
        (last,) = final.measurements
        return found, msgspec.structs.replace(final, measurements=(msgspec.structs.replace(last, at=(0, at)),))

    item = dataclasses.replace(FIG2, fields={"smoke": {"steps": 3, "at": 3}}, study=experiments)
    assert len(study("smoke", item).experiments) == 1
    with pytest.raises(ValueError, match="fig2 measures evaluation at a step between 0 and the 2 of training, got 3;"):
        study("smoke", item, steps="2")
    with pytest.raises(ValueError, match="got -1; change the one or the other"):
        study("smoke", item, at="-1")


def test_a_negative_weight_of_the_penalty_is_refused():
    def experiments(*, weight: float):
        found, final = searched(lrs=(0.1,), steps=1, seeds=1)
        training = msgspec.structs.replace(found[0].training, penalty_weight=weight)
        return (msgspec.structs.replace(found[0], training=training),), final

    item = dataclasses.replace(FIG2, fields={"smoke": {"weight": 0.1}}, study=experiments)
    with pytest.raises(ValueError, match=re.escape("penalty_weight must not be negative, got -1.0.")):
        study("smoke", item, weight="-1")


def test_a_study_that_no_file_can_hold_is_refused():
    def experiments():
        (first, *_), _final = FIG1.study(**FIG1.fields["smoke"])
        return (msgspec.structs.replace(first, batch_size="many"),), None

    item = dataclasses.replace(FIG1, fields={"smoke": {}}, study=experiments)
    with pytest.raises(ValueError, match=r"fig1 of some-paper cannot be run like this: .*batch_size"):
        study_of(PAPER, item, "smoke", {})


@pytest.mark.parametrize(
    ("values", "text", "expected"),
    [
        ([3], "-4", -4),
        ([0.1], "3", 3.0),
        ([1, 0.5], "2", 2.0),
        ([None, 7], "8", 8),
        ([7, None], "none", None),
        ([None], "none", None),
        ([None], "8", 8),
        ([None], "0.5", 0.5),
        ([None], "true", True),
        ([None], "text", "text"),
        ([True], "false", False),
        (["a"], "none", "none"),
        (["a"], "b,c", "b,c"),
        ([(1, 2)], "3", (3,)),
        ([(1, 2)], "", ()),
        ([()], "a,1", ("a", 1)),
        ([(0.1,), (1,)], "1,2", (1.0, 2.0)),
        ([(Norm("none"),)], "bnl2:eps=0.5", (Norm("bnl2", {"eps": 0.5}),)),
        ([Norm("none")], "none", Norm("none")),
        ([Data(name="a", max_train=3)], "b", Data(name="b", max_train=3)),
    ],
)
def test_a_text_is_read_as_what_the_field_holds(values, text, expected):
    found = read("field", text, values)
    assert found == expected
    assert type(found) is type(expected)


def test_a_field_that_no_text_can_say_is_refused():
    with pytest.raises(ValueError, match="options holds dict, which cannot be written as name=value"):
        read("options", "a", [{}])
