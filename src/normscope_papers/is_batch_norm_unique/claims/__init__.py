"""What the paper states, as claims: a number per seed from the rows of items, and a threshold.

Thresholds were written down before the first run at laptop scale. Each stands beside its reason; none was moved later.
"""

from normscope_papers.is_batch_norm_unique.claims import (
    disagreements,
    early_training,
    failed,
    initialization,
    minimized,
    performance,
    recurrent,
    sharpness,
    spectra,
)

CLAIMS = (
    *initialization.CLAIMS,
    *minimized.CLAIMS,
    *early_training.CLAIMS,
    *spectra.CLAIMS,
    *sharpness.CLAIMS,
    *performance.CLAIMS,
    *failed.CLAIMS,
    *recurrent.CLAIMS,
    *disagreements.CLAIMS,
)

__all__ = ["CLAIMS"]
