"""Table 3's sizes and choices at each scale; a field begins with the name of the column that it belongs to."""

from __future__ import annotations

from typing import Any

from normscope.study import Norm
from normscope_papers.common.data_sets import CIFAR10, DECLARATION, DIGITS, IMAGENET, LM1B, TINY_IMAGENET, WIKITEXT
from normscope_papers.common.experiments import Fields, named
from normscope_papers.is_batch_norm_unique.scores import COLUMNS

_IMAGES = named("batchnorm", "layernorm", "prelayernorm", "regnorm", "preregnorm", "bmlv", "lmbv")
_NORMS = {
    "cifar10_norms": (Norm("none"), *_IMAGES),
    "imagenet_norms": (Norm("none", {"affine": True}), *_IMAGES),
    "lm1b_norms": named("none", "layernorm", "prelayernorm"),
}
_PAPER: dict[str, Any] = _NORMS | {
    "columns": COLUMNS,
    "seeds": 3,
    "max_eval": 10_000,
    "penalty_weight": 0.1,
    "precision": "32-true",
    "checkpoint_every": 1000,
    "cifar10_data": CIFAR10,
    "cifar10_augment": "crop_flip",
    "cifar10_depth": 26,
    "cifar10_width": 10,
    "cifar10_dropout": 0.3,
    "cifar10_steps": 200 * 45_000 // 256,
    "cifar10_batch": 256,
    "cifar10_schedule": "piecewise",
    "cifar10_lrs": (0.1,),
    "imagenet_data": IMAGENET,
    "imagenet_augment": "resized_crop_flip",
    "imagenet_image_size": 224,
    "imagenet_buffer": 8192,
    "imagenet_width": 64,
    "imagenet_steps": 90 * 1_153_000 // 1024,
    "imagenet_batch": 1024,
    "imagenet_warmup": 5 * 1_153_000 // 1024,
    "imagenet_lrs": (0.4,),
    "lm1b_data": LM1B,
    "lm1b_buffer": 65_536,
    "lm1b_max_train": 4096,
    "lm1b_vocabulary": 32_000,
    "lm1b_length": 32,
    "lm1b_depth": 6,
    "lm1b_dim": 512,
    "lm1b_heads": 8,
    "lm1b_hidden": 2048,
    "lm1b_dropout": 0.1,
    "lm1b_steps": 500_000,
    "lm1b_batch": 2048,
    "lm1b_warmup": 8000,
    "lm1b_lrs": (0.05,),
}
_LAPTOP = _PAPER | {
    "max_eval": 2000,
    "checkpoint_every": None,
    "cifar10_augment": "none",
    "cifar10_depth": 14,
    "cifar10_width": 1,
    "cifar10_dropout": 0.0,
    "cifar10_steps": 600,
    "cifar10_batch": 64,
    "cifar10_schedule": "cosine",
    "cifar10_lrs": (0.03, 0.1),
    "imagenet_data": TINY_IMAGENET,
    "imagenet_augment": "crop_flip",
    "imagenet_image_size": 48,
    "imagenet_buffer": None,
    "imagenet_width": 16,
    "imagenet_steps": 600,
    "imagenet_batch": 64,
    "imagenet_warmup": 30,
    "imagenet_lrs": (0.05,),
    "lm1b_data": WIKITEXT,
    "lm1b_buffer": None,
    "lm1b_max_train": None,
    "lm1b_vocabulary": 2000,
    "lm1b_depth": 3,
    "lm1b_dim": 128,
    "lm1b_heads": 4,
    "lm1b_hidden": 512,
    "lm1b_dropout": 0.0,
    "lm1b_steps": 300,
    "lm1b_batch": 64,
    "lm1b_warmup": 100,
    "lm1b_lrs": (0.02, 0.05),
}
_FEW = named("batchnorm", "layernorm", "prelayernorm")
_SMOKE = _LAPTOP | {
    "seeds": 1,
    "max_eval": 32,
    "cifar10_data": DIGITS,
    "cifar10_norms": _FEW,
    "cifar10_depth": 8,
    "cifar10_steps": 2,
    "cifar10_batch": 16,
    "cifar10_lrs": (0.1,),
    "imagenet_data": DIGITS,
    "imagenet_norms": named("batchnorm", "prelayernorm"),
    "imagenet_image_size": None,
    "imagenet_width": 2,
    "imagenet_steps": 2,
    "imagenet_batch": 16,
    "imagenet_warmup": 1,
    "lm1b_data": DECLARATION,
    "lm1b_norms": named("layernorm", "prelayernorm"),
    "lm1b_vocabulary": 300,
    "lm1b_length": 8,
    "lm1b_depth": 1,
    "lm1b_dim": 8,
    "lm1b_heads": 2,
    "lm1b_hidden": 16,
    "lm1b_steps": 2,
    "lm1b_batch": 16,
    "lm1b_warmup": 1,
    "lm1b_lrs": (0.05,),
}

FIELDS: Fields = {"smoke": _SMOKE, "laptop": _LAPTOP, "paper": _PAPER}
"""Those of the ImageNet columns begin with `imagenet_`."""
