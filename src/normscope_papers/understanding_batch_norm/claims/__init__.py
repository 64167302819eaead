"""What the papers state, as claims: a number per seed from the rows of items, and a threshold.

Each threshold stands beside its reason, and was written down before the first committed record. What was defined anew
after trial runs, and why, is said in docs/understanding-batch-norm.md.
"""

from normscope_papers.understanding_batch_norm.claims import (
    covariate_shift,
    gradients,
    initialization,
    noise,
    products,
    smoothness,
    step_sizes,
    training,
)

CLAIMS = (
    *training.CLAIMS,
    *noise.CLAIMS,
    *step_sizes.CLAIMS,
    *initialization.CLAIMS,
    *gradients.CLAIMS,
    *products.CLAIMS,
    *smoothness.CLAIMS,
    *covariate_shift.CLAIMS,
)

__all__ = ["CLAIMS"]
