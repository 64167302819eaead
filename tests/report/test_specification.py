import pytest

from normscope.report.specification import Axis, Panel, Series


def panel(*steps: float, shift: float = 1.0) -> Panel:
    line = Series("batchnorm", "measured", steps, steps, steps, steps, ())
    return Panel("", Axis("step", log=True, shift=shift), Axis("y"), (line,) if steps else ())


@pytest.mark.parametrize(
    ("steps", "marks"),
    [
        ((0.0, 3.0), (0, 1, 2)),
        ((0.0, 20.0), (0, 1, 2, 5, 10, 20)),
        ((0.0, 200.0), (0, 1, 10, 100)),
        ((0.0, 1000.0), (0, 1, 10, 100, 1000)),
        ((0.0,), (0,)),
        ((), (0,)),
    ],
)
def test_a_shifted_axis_is_marked_at_zero_and_at_powers_of_ten(steps, marks):
    assert panel(*steps).marks == marks


def test_another_axis_is_marked_by_its_renderer():
    assert panel(1.0, 100.0, shift=0.0).marks == ()
