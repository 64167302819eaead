from __future__ import annotations

import pytest
from torch import nn

from normscope.study import Options
from normscope.study.due import Due, num_nodes, sharpness_steps, spectra, spectrum_steps, tracks_running_statistics
from normscope.study.plan import plan

PLAIN = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
TRACKING = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def recipe(**changes):
    return Options(
        **{"probes": ("spectrum", "sharpness"), "norms": ("none",), "lrs": (0.1, 0.2), "seeds": 2, "steps": 60}
        | changes
    ).resolve()


def trials(asked):
    return {(trial.lr, trial.seed): trial for trial in plan(asked) if trial.kind == "train"}


def test_only_seed_0_is_measured_and_initialization_at_the_first_rate_alone():
    asked = recipe()
    by_rate = {place: spectrum_steps(trial, asked) for place, trial in trials(asked).items()}
    assert by_rate == {(0.1, 0): (0, 50), (0.1, 1): (), (0.2, 0): (50,), (0.2, 1): ()}


def test_sharpness_is_measured_at_init_on_the_way_at_step_50_and_at_the_end():
    asked = recipe()
    assert sharpness_steps(trials(asked)[0.1, 0], asked) == (0, 1, 2, 5, 10, 22, 46, 50, 60)
    assert sharpness_steps(trials(asked)[0.2, 0], asked) == (1, 2, 5, 10, 22, 46, 50, 60)
    short = recipe(steps=3)
    assert sharpness_steps(trials(short)[0.1, 0], short) == (0, 1, 2, 3)


def test_what_is_not_asked_for_is_not_due():
    asked = recipe(probes=("gradient_norm",))
    init, *_ = plan(asked)
    for trial in (init, trials(asked)[0.1, 0]):
        assert spectrum_steps(trial, asked) == sharpness_steps(trial, asked) == ()
    both = recipe(probes=("gradient_norm", "spectrum", "sharpness"))
    assert spectrum_steps(plan(both)[0], both) == sharpness_steps(plan(both)[0], both) == ()


@pytest.mark.parametrize(
    ("modes", "model", "expected"),
    [
        (("train", "eval"), TRACKING, ["train", "eval"]),
        (("train", "eval"), PLAIN, ["train"]),
        (("eval",), TRACKING, ["eval"]),
        (("eval",), PLAIN, ["train"]),
    ],
)
def test_one_spectrum_where_both_modes_are_one_function(modes, model, expected):
    assert [due.mode for due in spectra(recipe(spectrum_modes=modes).spectrum, model)] == expected


def test_groups_have_spectra_in_train_mode():
    dues = spectra(recipe(spectrum_groups=("0.*", "1.*")).spectrum, TRACKING)
    assert dues[2:] == [Due(mode="train", group="0.*"), Due(mode="train", group="1.*")]
    assert [(due.probe, due.layer) for due in dues] == [
        ("spectrum", ""), ("spectrum.eval", ""), ("spectrum", "0.*"), ("spectrum", "1.*")
    ]  # fmt: skip


def test_a_group_has_no_more_nodes_than_dimensions():
    spectrum = recipe(lanczos_steps=9).spectrum
    assert [num_nodes(spectrum, PLAIN, group) for group in ("*", "0.*", "1.*", "0.bias", "nothing")] == [9, 8, 4, 2, 0]


def test_running_statistics_are_what_buffers_say():
    assert tracks_running_statistics(TRACKING)
    assert not tracks_running_statistics(nn.Sequential(PLAIN, nn.BatchNorm1d(2, track_running_stats=False)))
