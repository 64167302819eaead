"""What is known of data sets without loading them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from normscope.study import Data
from normscope_papers.common.data_sets import (
    CIFAR10,
    CIFAR100,
    DECLARATION,
    DIGITS,
    FASHION,
    IMAGENET,
    LM1B,
    MNIST,
    TINY_IMAGENET,
    WIKITEXT,
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Shape of one example, classes, and examples to validate and test on, stored or cut as `normscope.data` does."""

    shape: tuple[int, ...]
    classes: int
    validation: int
    test: int


SIZES: Mapping[str, Sizes] = {
    DIGITS: Sizes((1, 8, 8), 10, 180, 180),
    DECLARATION: Sizes((), 0, 50, 50),
    MNIST: Sizes((1, 28, 28), 10, 6000, 10_000),
    FASHION: Sizes((1, 28, 28), 10, 6000, 10_000),
    CIFAR10: Sizes((3, 32, 32), 10, 5000, 10_000),
    CIFAR100: Sizes((3, 32, 32), 100, 5000, 10_000),
    TINY_IMAGENET: Sizes((3, 64, 64), 200, 10_000, 10_000),
    IMAGENET: Sizes((3, 224, 224), 1000, 50_000, 128_000),
    "linear-map": Sizes((10,), 10, 200, 200),
    LM1B: Sizes((), 0, 250_000, 250_000),
    WIKITEXT: Sizes((), 0, 9000, 10_000),
}


def sizes_of(data: Data) -> Sizes:
    """Of a data set as it is asked for.

    Raises:
        ValueError: one whose sizes are not known here.
    """
    if data.name not in SIZES:
        raise ValueError(f"the sizes of {data.name} are not known here; known are {', '.join(SIZES)}.")
    known = SIZES[data.name]
    shape, classes = known.shape, known.classes
    if data.sequence_length is not None:
        shape, classes = (data.sequence_length,), data.vocabulary or 256
    elif data.image_size is not None:
        shape = (shape[0], data.image_size, data.image_size)
    limit = math.inf if data.max_eval is None else data.max_eval
    return Sizes(shape, classes, int(min(limit, known.validation)), int(min(limit, known.test)))
