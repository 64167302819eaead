"""Torch functions by what they do to a tensor, by name: what a run is read with."""

from __future__ import annotations

# They hand every value on, perhaps at another place or in another dtype.
MOVES = frozenset(
    {
        "view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "ravel", "transpose", "swapaxes", "permute",
        "t", "movedim", "moveaxis", "contiguous", "clone", "detach", "to", "type", "type_as", "float", "half",
        "bfloat16", "double", "squeeze", "squeeze_", "unsqueeze", "unsqueeze_", "expand", "expand_as", "chunk", "split",
        "split_with_sizes", "tensor_split", "unbind", "unsafe_chunk", "select", "narrow", "__getitem__", "index_select",
        "dropout", "dropout1d", "dropout2d", "dropout3d", "dropout_", "alpha_dropout", "roll", "unfold", "T", "mT", "H",
        "mH", "data", "pad", "positive", "as_strided",
    }
)  # fmt: skip
# Those that leave every value at its place.
STAYS = frozenset(
    {
        "contiguous", "clone", "detach", "to", "type", "float", "half", "bfloat16", "double", "dropout", "dropout_",
        "data",
    }
)  # fmt: skip
POOLS = frozenset(
    {
        "mean", "sum", "amax", "max", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
        "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "avg_pool2d",
    }
)  # fmt: skip
# Halves of a rotary embedding meet in one of them again; query and key, or a gate and what it gates, do not.
JOINS = frozenset(
    {
        "cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "add", "add_", "__add__", "__radd__",
        "__iadd__", "sub", "sub_", "__sub__", "__rsub__", "__isub__", "rsub",
    }
)  # fmt: skip
PRODUCTS = frozenset({"mul", "mul_", "multiply", "__mul__", "__imul__", "__rmul__"})
# They normalize.
NORMS = frozenset(
    {
        "layer_norm", "batch_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm",
        "native_layer_norm", "native_batch_norm", "native_group_norm",
    }
)  # fmt: skip
# They are affine where one of their inputs is a parameter.
AFFINES = frozenset(
    {
        "linear", "bilinear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
        "convolution", "matmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "__matmul__", "__rmatmul__",
        "multi_head_attention_forward", "lstm", "gru", "rnn_tanh", "rnn_relu",
    }
)  # fmt: skip
