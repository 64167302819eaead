"""Closed forms, drawn beside measurements and used to check them; no code is shared with what they check."""

from normscope.theory.activation_rate import activation_growth, gaussian_growth, orthogonal_growth, shaped_growth
from normscope.theory.gaussian_products import (
    fuss_catalan_cdf,
    fuss_catalan_density,
    fuss_catalan_moment,
    largest_singular_value,
    singular_value_density,
)
from normscope.theory.isometry import (
    expected_gap_bound,
    gradient_log_norm_bound,
    isometry_gap_after,
    isometry_gap_bound,
    isometry_gap_rate,
)
from normscope.theory.mean_field import (
    CHAOTIC_GROWTH,
    Phase,
    chaotic_map,
    chaotic_slope,
    correlation_map,
    gradient_growth,
    ordered_map,
    ordered_slope,
    phase,
    propagate,
    relu_kernel,
    relu_kernel_slope,
)

__all__ = [
    "CHAOTIC_GROWTH",
    "Phase",
    "activation_growth",
    "chaotic_map",
    "chaotic_slope",
    "correlation_map",
    "expected_gap_bound",
    "fuss_catalan_cdf",
    "fuss_catalan_density",
    "fuss_catalan_moment",
    "gaussian_growth",
    "gradient_growth",
    "gradient_log_norm_bound",
    "isometry_gap_after",
    "isometry_gap_bound",
    "isometry_gap_rate",
    "largest_singular_value",
    "ordered_map",
    "ordered_slope",
    "orthogonal_growth",
    "phase",
    "propagate",
    "relu_kernel",
    "relu_kernel_slope",
    "shaped_growth",
    "singular_value_density",
]
