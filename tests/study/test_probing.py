from __future__ import annotations

import pytest

from normscope.study.probing import PROBES, default_spectrum_steps, in_order


def test_probes_come_in_the_tables_order():
    assert in_order(tuple(reversed(PROBES))) == PROBES
    assert in_order(("sharpness", "gradient_norm")) == ("gradient_norm", "sharpness")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("spectra",), "there is no probe 'spectra'; did you mean spectrum"),
        (("gradient",), "did you mean gradient_norm or gradient_correlation"),
        (("xyz",), "did you mean information_propagation or gradient_correlation or gradient_norm or spectrum"),
        ((), "at least one, and none twice, got none"),
        (("spectrum", "spectrum"), "at least one, and none twice, got spectrum, spectrum"),
    ],
)
def test_other_names_are_refused_with_near_ones(names, message):
    with pytest.raises(ValueError, match=message):
        in_order(names)


def test_spectra_are_measured_at_step_50_or_at_the_end():
    assert default_spectrum_steps(100) == (0, 50)
    assert default_spectrum_steps(50) == (0, 50)
    assert default_spectrum_steps(3) == (0, 3)
