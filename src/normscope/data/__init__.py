"""Named data sets as tensors: the built-in ones, a local directory, or the Hugging Face hub."""

from normscope.data.augment import crop_flip, resized_crop_flip
from normscope.data.batches import ShuffledBatches, even_batches, shuffled_batches
from normscope.data.dataset import Dataset, Split, Task
from normscope.data.holding import hold
from normscope.data.loading import load
from normscope.data.streamed import StreamedBatches, StreamSplit
from normscope.data.streaming import Stream, stream

__all__ = [
    "Dataset",
    "ShuffledBatches",
    "Split",
    "Stream",
    "StreamSplit",
    "StreamedBatches",
    "Task",
    "crop_flip",
    "even_batches",
    "hold",
    "load",
    "resized_crop_flip",
    "shuffled_batches",
    "stream",
]
