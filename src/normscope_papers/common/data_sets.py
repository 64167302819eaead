"""Data sets by the names that `normscope.data` knows them by."""

from __future__ import annotations

DIGITS, DECLARATION = "digits", "declaration"
"""Built in: images and a text."""

MNIST, FASHION = "ylecun/mnist", "zalando-datasets/fashion_mnist"
CIFAR10, CIFAR100 = "uoft-cs/cifar10", "uoft-cs/cifar100"
TINY_IMAGENET, IMAGENET = "zh-plus/tiny-imagenet", "ILSVRC/imagenet-1k"
LM1B, WIKITEXT = "dvruette/lm1b", "Salesforce/wikitext:wikitext-2-v1"
