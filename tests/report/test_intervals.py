import numpy as np
import pytest
from scipy import stats

from normscope.report.intervals import log_t_interval, t_interval


def test_interval_is_student_t_over_the_last_axis():
    values = np.array([[0.9, 0.8, 0.85], [0.1, 0.3, 0.2]])

    mean, lo, hi = t_interval(values)

    for row, center, low, high in zip(values, mean, lo, hi, strict=True):
        expected = stats.t.interval(0.95, df=2, loc=row.mean(), scale=stats.sem(row))
        assert (low, center, high) == pytest.approx((expected[0], row.mean(), expected[1]))


def test_values_that_are_not_finite_are_left_out_and_counted_out():
    mean, lo, hi = t_interval(np.array([1.0, np.nan, 3.0, np.inf]))
    assert (mean, lo, hi) == pytest.approx(tuple(t_interval(np.array([1.0, 3.0]))))


def test_one_value_has_a_mean_and_no_interval():
    mean, lo, hi = t_interval(np.array([0.5, np.nan]))
    assert mean == 0.5
    assert np.isnan([lo, hi]).all()


def test_no_value_has_nothing():
    assert np.isnan(t_interval(np.empty((0,)))).all()


def test_log_interval_is_the_geometric_mean_and_stays_positive():
    values = np.array([1.0, 10.0, 1000.0])
    mean, lo, _hi = log_t_interval(values)
    assert mean == pytest.approx(stats.gmean(values))
    assert lo > 0 > t_interval(values)[1]


def test_log_interval_leaves_out_what_has_no_logarithm():
    assert tuple(log_t_interval(np.array([1.0, 4.0, 0.0, -1.0]))) == pytest.approx(
        tuple(log_t_interval(np.array([1.0, 4.0])))
    )
