"""Closed forms, drawn beside measurements and used to check them; no code is shared with what they check."""

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
    "chaotic_map",
    "chaotic_slope",
    "correlation_map",
    "gradient_growth",
    "ordered_map",
    "ordered_slope",
    "phase",
    "propagate",
    "relu_kernel",
    "relu_kernel_slope",
]
