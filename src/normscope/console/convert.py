"""`normscope convert`: the table of what was converted, a checkpoint of it, and the lines that load it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normscope import files
from normscope.study.recipe import parse_norm

if TYPE_CHECKING:
    from torch import nn

_LOADER = '''r"""`model` is {source} with {norm}, as `normscope convert` made it, with the weights beside this file."""

from pathlib import Path

from safetensors.torch import load_file

import normscope as ns

built = ns.models.source({quoted}).build({build})
model = ns.convert_norm(built.model, {row}, example_inputs=built.example_inputs).model
model.load_state_dict(load_file(Path(__file__).with_suffix(".safetensors")))
'''


def convert(text: str, norm: str, *, out: Path | None, input_shape: tuple[int, ...] | None, pretrained: bool) -> None:
    """Convert the model of a source; print the table, then write checkpoint and loader and print their places.

    Raises:
        ValueError: in one line: no such source or normalizer, a model that cannot be converted, or no place to write.
    """
    plain = parse_norm(norm)
    path = _place(out or Path(f"{_identifier(text.partition(':')[2])}_{_identifier(norm)}.safetensors"))
    if input_shape is not None and (not input_shape or min(input_shape) < 1):
        raise ValueError(f"input-shape is of positive sizes, batch included, got {input_shape}; write 2,3,224,224.")

    import normscope as ns

    row = ns.normalizer(plain["name"], **plain["options"])  # before a model is built: the name may be wrong
    source = ns.models.source(text)
    built = source.build(pretrained=pretrained, input_shape=input_shape)
    # A name takes over eps and the like from the old norm; a row with options is used as it is.
    to = row if plain["options"] else row.name
    try:
        conversion = ns.convert_norm(built.model, to, example_inputs=built.example_inputs)
    except ValueError as error:
        if built.example_inputs is not None:
            raise
        raise ValueError(f"{error} Nobody says what {source} takes; give --input-shape, such as 2,3,224,224.") from None
    print(conversion)
    contents = {
        path: _checkpoint(conversion.model, {"source": str(source), "normalizer": norm}),
        path.with_suffix(".py"): _loader(text, plain, input_shape).encode(),
    }
    try:
        for place, content in contents.items():
            files.write(place, content)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}); choose another --out.") from None
    print(f"\ncheckpoint  {path}\nloader      {path.with_suffix('.py')}")


def _place(path: Path) -> Path:
    """The path of the checkpoint; ValueError before any work where nothing can be written there."""
    if path.suffix != ".safetensors":
        raise ValueError(f"out is a file NAME.safetensors, got {path}; the loader NAME.py is written beside it.")
    if not path.parent.is_dir():
        raise ValueError(f"out must lie in a folder that is there, got {path}; make {path.parent} first.")
    for place in (path, path.with_suffix(".py")):
        if place.is_dir():
            raise ValueError(f"out must be a file, but {place} is a folder; choose another --out.")
    return path


def _identifier(text: str) -> str:
    """As a part of a name that Python can import: letters, digits and underscores."""
    return re.sub(r"\W+", "_", text).strip("_")


def _checkpoint(model: nn.Module, metadata: Mapping[str, str]) -> bytes:
    import safetensors.torch
    from torch import Tensor

    state = model.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"a checkpoint holds tensors, but the model's state {name} is {type(value).__name__}.")
    # A copy each: two names of one memory are refused by the format.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    content: bytes = safetensors.torch.save(tensors, dict(metadata))
    return content


def _loader(text: str, plain: Mapping[str, Any], input_shape: tuple[int, ...] | None) -> str:
    name = json.dumps(plain["name"])
    options = "".join(
        f", {key}={json.dumps(value) if isinstance(value, str) else repr(value)}"
        for key, value in plain["options"].items()
    )
    return _LOADER.format(
        source=text,
        quoted=json.dumps(text),
        norm=plain["name"],
        build="" if input_shape is None else f"input_shape={input_shape!r}",
        row=f"ns.normalizer({name}{options})" if options else name,
    )
