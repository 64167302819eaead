"""What each scale fills in where an option is left out."""

from __future__ import annotations

from typing import Any

TEN_ROWS = (
    "none",
    "batchnorm",
    "batchnorm_train",
    "layernorm",
    "weightnorm",
    "bmlv",
    "lmbv",
    "prelayernorm",
    "regnorm",
    "preregnorm",
)

# model -> scale -> (depth at initialization, trained depth, width)
SHAPES: dict[str, dict[str, tuple[int, int, int]]] = {
    "wrn": {"smoke": (8, 8, 1), "laptop": (26, 14, 1), "paper": (26, 26, 2)},
    "mlp": {"smoke": (8, 8, 32), "laptop": (24, 24, 128), "paper": (24, 24, 128)},
}

SCALES: dict[str, dict[str, Any]] = {
    "smoke": {
        "norms": ("batchnorm", "layernorm", "prelayernorm"),
        "lrs": (0.1,),
        "seeds": 2,
        "steps": 3,
        "batch_size": 16,
        "max_train": 256,
        "max_eval": 64,
        "init_batches": 2,
        "curvature_examples": 16,
        "lanczos_steps": 8,
        "lanczos_starts": 1,
    },
    "laptop": {
        "norms": TEN_ROWS,
        "lrs": (0.003, 0.03, 0.3),
        "seeds": 3,
        "steps": 100,
        "batch_size": 64,
        "max_train": None,
        "max_eval": 2000,
        "init_batches": 4,
        "curvature_examples": 512,
        "lanczos_steps": 80,
        "lanczos_starts": 2,
    },
    "paper": {
        "norms": TEN_ROWS,
        "lrs": (0.01, 0.03, 0.1, 0.3, 1.0),
        "seeds": 5,
        "steps": 1000,
        "batch_size": 256,
        "max_train": None,
        "max_eval": None,
        "init_batches": 4,
        "curvature_examples": 512,
        "lanczos_steps": 80,
        "lanczos_starts": 10,
    },
}
