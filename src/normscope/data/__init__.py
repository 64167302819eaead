"""Named data sets as tensors: the embedded one, a local directory, or the Hugging Face hub."""

from normscope.data.batches import even_batches, shuffled_batches
from normscope.data.dataset import Dataset, Split
from normscope.data.loading import load

__all__ = ["Dataset", "Split", "even_batches", "load", "shuffled_batches"]
