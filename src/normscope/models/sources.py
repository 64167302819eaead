"""Models that others define, by a text: ``module:factory``, ``timm:NAME``, ``torchvision:NAME`` or ``hf:CONFIG``.

The foreign library is imported when a model of it is built.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import operator
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, final

import torch
from torch import Tensor, nn

Shape: TypeAlias = tuple[int, ...]

_WRITTEN = "module:factory, timm:NAME, torchvision:NAME or hf:CONFIG"
_EXAMPLES = 2  # in the example inputs: batch norm in train mode refuses one
_TOKENS = "input_ids"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """A model and inputs that it runs on.

    Attributes:
        model: as its maker returned it, on the CPU, in the mode it came in.
        example_inputs: what `model` takes: a tensor, a mapping of keyword arguments, or None where nobody knows.
    """

    model: nn.Module
    example_inputs: Any


@final
@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from.

    Attributes:
        library: "timm", "torchvision" or "hf"; otherwise a module that can be imported, also from the current folder.
        name: a model of that library, a Hugging Face configuration (folder, file or hub id), or a function of the
            module without arguments that returns a module, or a pair of a module and its example inputs.
    """

    library: str
    name: str

    def build(self, *, pretrained: bool = False, input_shape: Shape | None = None) -> Built:
        """Make the model.

        Args:
            pretrained: with the weights that its library offers, which may download them; a factory has its own.
            input_shape: of the example inputs, batch included; by default what the library says of the model: timm's
                configured input size, 224 x 224 for torchvision, dummy inputs for Hugging Face.

        Raises:
            ValueError: in one line: the library is not there, there is no such model (the close ones are named), or
                making it failed.
        """
        make = _LIBRARIES.get(self.library)
        if make is None and pretrained:
            raise ValueError(
                f"pretrained is for models of {', '.join(_LIBRARIES)}, got {self}; load weights inside the factory."
            )
        with _current_folder_importable():
            built = _factory(self) if make is None else make(self.name, pretrained)
        if input_shape is None:
            return built
        return Built(built.model, _inputs(built.model, input_shape))

    def __str__(self) -> str:
        return f"{self.library}:{self.name}"


def source(text: str) -> Source:
    """Read ``module:factory``, ``timm:NAME``, ``torchvision:NAME`` or ``hf:CONFIG``.

    Raises:
        ValueError: the text has no such form.
    """
    library, colon, name = text.partition(":")
    if not (library and colon and name):
        raise ValueError(f"a model is written {_WRITTEN}, got {text!r}.")
    return Source(library, name)


def _timm(name: str, pretrained: bool) -> Built:
    timm = _imported("timm")
    _known(name, "timm", timm.list_models, given=timm.is_model(name.split(".")[0]))
    with _one_line(f"timm cannot make {name!r}"):
        model = timm.create_model(name, pretrained=pretrained)
    size = getattr(model, "pretrained_cfg", {}).get("input_size")
    return Built(model, None if size is None else _inputs(model, (_EXAMPLES, *size)))


def _torchvision(name: str, pretrained: bool) -> Built:
    models = _imported("torchvision").models
    _known(name, "torchvision", models.list_models, given=name in models.list_models())
    options: dict[str, Any] = {"weights": "DEFAULT" if pretrained else None}
    if not pretrained and "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        options["weights_backbone"] = None  # by default it is downloaded
    with _one_line(f"torchvision cannot make {name!r}"):
        model = models.get_model(name, **options)
    return Built(model, _inputs(model, (_EXAMPLES, 3, 224, 224)))


def _hugging_face(name: str, pretrained: bool) -> Built:
    transformers = _imported("transformers")
    with _one_line(f"transformers cannot make {name!r}"):
        config = transformers.AutoConfig.from_pretrained(name)
        kind = getattr(transformers, (config.architectures or [""])[0], None)
        if pretrained:
            model = (kind or transformers.AutoModel).from_pretrained(name)
        else:
            model = transformers.AutoModel.from_config(config) if kind is None else kind(config)
    return Built(model, _dummy_inputs(model))


def _dummy_inputs(model: Any) -> dict[str, Tensor] | None:
    """The library's own for tokens, noise for images; transformers gives tokens to every model."""
    if model.main_input_name == _TOKENS:
        return dict(model.dummy_inputs)
    size = getattr(model.config, "image_size", None)
    if model.main_input_name != "pixel_values" or size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    inputs: dict[str, Tensor] = _inputs(model, (_EXAMPLES, getattr(model.config, "num_channels", 3), height, width))
    return inputs


_LIBRARIES: Mapping[str, Callable[[str, bool], Built]] = MappingProxyType(
    {"timm": _timm, "torchvision": _torchvision, "hf": _hugging_face}
)


def _factory(source: Source) -> Built:
    module = _imported(source.library)
    try:
        factory = operator.attrgetter(source.name)(module)
    except AttributeError:
        public = [name for name in vars(module) if not name.startswith("_")]
        raise ValueError(f"{source.library} has no {source.name!r}; {_nearest(source.name, public)}.") from None
    with _one_line(f"{source} cannot make a model"):
        made = factory()
    model, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"{source} must return an nn.Module, or one with its example inputs, got {type(made).__name__}; name a "
            "function without arguments, or a class."
        )
    return Built(model, inputs)


def _inputs(model: nn.Module, shape: Shape) -> Any:
    """Standard normal noise, or the token 0, under the name that a Hugging Face model takes it by."""
    name = getattr(model, "main_input_name", None)
    if name == _TOKENS:
        return {name: torch.zeros(shape, dtype=torch.long)}
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(like)
    return noise if name is None else {name: noise}


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{module} cannot be imported, since there is no module {error.name!r} here; install it, or start from the "
            f"folder that holds it. A model is written {_WRITTEN}."
        ) from None
    except Exception as error:
        raise ValueError(f"importing {module} failed ({_said(error)}); put that right first.") from error


def _known(name: str, library: str, names: Callable[[], Collection[str]], *, given: bool) -> None:
    if not given:
        raise ValueError(f"{library} has no model {name!r}; {_nearest(name, names())}.")


def _nearest(word: str, words: Collection[str]) -> str:
    close = difflib.get_close_matches(word, words, n=3)
    return f"did you mean {' or '.join(close)}" if close else "list its names and choose one"


@contextlib.contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Whatever somebody else's constructor raises, as one line of ValueError."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{what} ({_said(error)}); call it in Python to see where.") from error


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


@contextlib.contextmanager
def _current_folder_importable() -> Iterator[None]:
    """A console script, unlike ``python -m``, does not look for modules in the current folder."""
    folder = str(Path.cwd())
    if folder in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
