"""How many forward passes measurements take, without taking them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from normscope.study import Experiment, Measurement
from normscope_papers.common.sizes import sizes_of

GRADIENT = 3.0
"""Forward passes of a gradient."""

PRODUCT = 2.1 * GRADIENT
"""Forward passes of a product with the Hessian."""

SHARPNESS_PRODUCTS = 100
"""What the ten largest eigenvalues and the smallest took on networks in early training."""

CURVATURE = ("spectrum", "sharpness")
"""Measurements that are products with the Hessian."""


def passes(experiment: Experiment, measurement: Measurement) -> float:
    """Forward passes of one example that a measurement takes at one step."""
    options, sizes = measurement.options, sizes_of(experiment.data)

    def number(option: str) -> int:
        return int(options.get(option) or 0)

    batches = max(1, number("batches"))
    independent = options.get("pairs") == "independent"
    products = number("lanczos_steps") * number("lanczos_starts") or SHARPNESS_PRODUCTS
    of_batch = {
        "information_propagation": 2 * batches,
        "gradient_correlation": GRADIENT * max(2, batches) if independent else 2 * GRADIENT * batches,
        "gradient_norm": GRADIENT * batches,
        "penalty": batches,
        "moments": batches,
        "batch_dependence": 2,
        "train_eval_gap": 2,
        "channel_moments": 2 if options.get("channels") else 1,
        "channel_moments_along_step": GRADIENT + number("points"),
        "relative_loss": GRADIENT + number("points"),
        "loss_along_gradient": GRADIENT * (1 + number("points")),
        "covariate_shift": GRADIENT * int(experiment.model.options.get("depth") or 1),  # a gradient for each layer
        "logit_gradients": 2,
        "gradient_sums": 2 * GRADIENT,
        "gradient_histogram": 2 * GRADIENT,
        "backward_identity": GRADIENT,
        "weight_gradient_norm": GRADIENT,
        "explosion_rate": GRADIENT,
        "gradient_symmetry": GRADIENT,
        "isometry_gap": 1,
        "batch_rank": batches,
        "normalizer_jacobian": 1,
        "aligned_isometry_gap": 1,
    }
    found = {
        "evaluation": sizes.test if options.get("split") == "test" else sizes.validation,
        "training_accuracy": number("examples"),
        "batch_accuracy": number("examples") or 1000,
        "gradient_noise": GRADIENT * _noise_examples(options),
        "gaussian_products": 0,  # it has no network, and takes seconds
        "fuss_catalan": 0,
        "batch_size_accuracy": sizes.test * len(str(options.get("sizes", "")).split()),
        **{probe: experiment.batch_size * count for probe, count in of_batch.items()},
        **{probe: PRODUCT * number("examples") * products for probe in CURVATURE},
    }
    return float(found[measurement.probe])


def _noise_examples(options: Mapping[str, Any]) -> int:
    """Examples whose gradient the noise takes at one step: each alone and all together, and every drawn minibatch."""
    drawn = int(options.get("draws", 0)) * sum(map(int, str(options.get("sizes", "")).split()))
    return len(str(options.get("lrs", "")).split()) * (2 * int(options.get("examples", 0)) + drawn)
