"""Table 3: scores per seed, which columns are judged, and the published values beside ours."""

from __future__ import annotations

import math

import pytest

from normscope_papers.is_batch_norm_unique import PAPER
from normscope_papers.is_batch_norm_unique.scores import COLUMNS, PUBLISHED, column

from .synthetic import ended, frame, row
from .worlds import losses, scores

TABLE_3 = PAPER.item("table3").published


def test_scores_are_per_cent_and_perplexity_and_batch_train_is_the_same_network():
    rows = frame(scores("cifar10", batch_train=0.6, batchnorm=0.75) + losses(layernorm=4.0))
    assert column(rows, "cifar10").scores("Batch").to_dict() == {0: pytest.approx(75.0)}
    assert column(rows, "cifar10").scores("Batch-Train").to_dict() == {0: pytest.approx(60.0)}
    assert column(rows, "lm1b").scores("Layer").to_dict() == {0: pytest.approx(math.exp(4.0))}
    assert column(rows, "lm1b").scores("RegNorm").empty


def test_none_may_have_kept_its_gain():
    rows = frame(ended("table3", "none:affine=true", 0.3, condition="resnet50"))
    assert column(rows, "resnet50").scores("None").to_dict() == {0: pytest.approx(30.0)}


@pytest.mark.parametrize(("accuracy", "share"), [(0.1, 0.0), (0.9595, 1.0), (0.52975, 0.5)])
def test_the_share_of_the_gap_from_the_untrained_network_to_the_published_score(accuracy, share):
    found = column(frame(scores("cifar10", batchnorm=accuracy)), "cifar10")
    assert found.closed() == pytest.approx(share)
    assert column(frame(scores("cifar10", batchnorm=accuracy + 1e-6)), "cifar10").judged() == (share >= 0.5)


def test_the_gap_of_a_text_is_that_of_log_perplexity_from_the_lowest_untrained_loss():
    rows = losses(layernorm=math.log(38.34), none=7.0)
    rows.append(row("table3", "none", "evaluation", "validation_loss", 7.6, condition="lm1b", seed=1))
    found = column(frame(rows), "lm1b")
    assert found.closed() == pytest.approx(1.0)
    half = column(frame(losses(layernorm=(8.0 + math.log(38.34)) / 2 + 0.01)), "lm1b")
    assert half.closed() == pytest.approx(0.5, abs=0.01)
    assert not half.judged()


def test_a_column_that_does_not_get_there_is_not_judged_whatever_its_rows_say():
    (claim,) = (claim for claim in PAPER.claims if claim.name == "c12-layernorm-cifar10")
    below, above = (frame(scores("cifar10", batchnorm=accuracy, layernorm=0.2)) for accuracy in (0.52, 0.54))
    assert claim.effect(below).by_seed == {}
    assert claim.effect(above).by_seed != {}


def test_a_column_without_rows_or_with_a_diverged_yardstick_is_not_judged():
    assert not column(frame([]), "cifar10").judged()
    diverged = [found for found in scores("cifar10") if found["normalizer"] != "batchnorm"]
    diverged.append(row("table3", "batchnorm", "outcome", "diverged", 1.0, condition="cifar10", step=3))
    assert not column(frame(diverged), "cifar10").judged()


def test_every_published_value_has_its_uncertainty_its_reason_and_ours_beside_it():
    assert len(TABLE_3) == 9 * 3 + 3
    assert {value.quantity for value in TABLE_3} == {f"Table 3, {name}" for name in COLUMNS}
    for value in TABLE_3:
        assert value.gap.endswith(".")
        assert value.unit in ("%", "perplexity")
    by_name = {(value.quantity, value.normalizer): value for value in TABLE_3}
    batch = by_name["Table 3, cifar10", "Batch"]
    assert (batch.value, batch.uncertainty) == (95.95, 0.03)
    assert batch.measured(frame(scores("cifar10", batchnorm=0.75))).by_seed == {0: pytest.approx(75.0)}
    assert batch.measured(frame([])) is None
    assert by_name["Table 3, cifar10", "None"].uncertainty is None


def test_a_published_value_is_never_a_result():
    """The yardstick's published score says which columns are judged; nothing else of table 3 enters an effect."""
    (claim,) = (claim for claim in PAPER.claims if claim.name == "c12-best-resnet50")
    rows = frame(scores("resnet50", batchnorm=0.7, regnorm=0.65))
    assert claim.effect(rows).by_seed == {0: pytest.approx(5.0)}
    assert PUBLISHED["resnet50"]["Batch"][0] - PUBLISHED["resnet50"]["RegNorm"][0] != pytest.approx(5.0)
