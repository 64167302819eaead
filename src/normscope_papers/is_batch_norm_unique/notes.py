"""What is reconstructed or reduced, in the words that several items share.

Marks: [P] stated in the paper, [F] read in Flax's example code of 2020, which the paper very likely used, [S] another
source, [D] derived, [G] a guess. The copies of the paper at hand have no formulas.
"""

from __future__ import annotations

CORRELATION = (
    "Correlation is the cosine of the flattened outputs of a normalizer site for a whole minibatch and its noisy copy, "
    "each under its own batch statistics [D]; the paper's formula is lost."
)
NOISE = "The noise that makes two similar minibatches has 0.1 of the input's standard deviation [G]."
GRADIENT_NORM = (
    "The gradient norm is that of the mean cross-entropy with respect to the output of a normalizer site [D]; the "
    "paper does not say whether it takes that or the weights' gradient."
)
SIMILAR_GRADIENTS = (
    "Gradient correlation is the cosine of the gradients of two minibatches. The paper does not say which two [G]: a "
    "batch and its noisy copy with the same labels is the reading taken, independent batches are measured beside it."
)
HE = (
    "Weights are drawn with He's variance, 2 / fan_in, for every normalizer; the paper's code probably draws 1 / "
    "fan_in [F]. Normalized networks do not depend on it up to scale, the two without activation statistics need it."
)
TRAINING = (
    "SGD with Nesterov momentum 0.9, weight decay 5e-4 on kernels, batch 256, dropout 0.3, padded random crops and "
    "flips [F]; the grid of learning rates [G] is 0.01, 0.03, 0.1, 0.3, 1, searched with one seed on validation "
    "accuracy; the best rate runs again with every seed and all measurements."
)
PENALTY_WEIGHT = (
    "The weight of RegNorm's penalty is unknown [G]: 0.1 on the sum over layers, untuned; set penalty_weight to try "
    "another of 0.001, 0.01, 0.1, 1."
)
HESSIAN = (
    "The Hessian is that of the mean cross-entropy of training images as one batch in train mode: no penalty, no "
    "weight decay, no augmentation, dropout off. 80 Lanczos steps per start [S]."
)
LAPTOP_TRAINING = (
    "laptop: width 1 instead of 2, batches of 64 instead of 256, no dropout and no augmentation (they act over "
    "epochs), 1,000 test and 1,000 validation images."
)
ONE_RATE = (
    "laptop: one learning rate for all, 0.03, instead of a search: the best of 0.003, 0.03 and 0.3 for each of five "
    "normalizers in this network over 100 steps (records, 2026-11-21)."
)
SMOKE = "smoke: built-in digits, 8-layer networks, 3 steps: it shows that the item runs, and nothing about normalizers."
