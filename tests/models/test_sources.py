"""Where models come from, with stand-ins for the foreign libraries: what is asked of them, and what is refused."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from normscope.models import source

CALLS: list[tuple[str, dict[str, Any]]] = []


def convolution(name: str, **options: Any) -> nn.Module:
    CALLS.append((name, options))
    if name == "brittle":
        raise RuntimeError("no weights\nfor this one")
    model = nn.Conv2d(3, 2, 3)
    model.pretrained_cfg = {"input_size": (3, 20, 24)} if name != "unsized" else {}
    return model


class HuggingFace(nn.Module):
    dummy_inputs: ClassVar = {"input_ids": torch.ones(3, 5, dtype=torch.long)}

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.config, self.main_input_name = config, config.takes
        self.weight = nn.Parameter(torch.ones(2))

    @classmethod
    def from_config(cls, config: SimpleNamespace) -> HuggingFace:
        CALLS.append(("AutoModel", {}))
        return cls(config)

    @classmethod
    def from_pretrained(cls, name: str) -> HuggingFace:
        CALLS.append(("pretrained", {}))
        return cls(CONFIGS[name])


CONFIGS = {
    "text": SimpleNamespace(takes="input_ids", architectures=["ForTests"]),
    "bare": SimpleNamespace(takes="input_ids", architectures=None),
    "images": SimpleNamespace(takes="pixel_values", architectures=None, image_size=12, num_channels=1),
    "oblong": SimpleNamespace(takes="pixel_values", architectures=None, image_size=(12, 16)),
    "sound": SimpleNamespace(takes="input_values", architectures=None),
}


def builder(weights: object = None, weights_backbone: object = "downloaded") -> None: ...


@pytest.fixture(autouse=True)
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    names = ["resnet", "brittle", "unsized"]
    timm, torchvision, transformers = (ModuleType(name) for name in ("timm", "torchvision", "transformers"))
    timm.__dict__.update(is_model=names.__contains__, list_models=lambda: names, create_model=convolution)
    torchvision.__dict__["models"] = SimpleNamespace(
        list_models=lambda: ["resnet", "fasterrcnn"],
        get_model=convolution,
        get_model_builder=lambda name: builder if name == "fasterrcnn" else (lambda weights=None: None),
    )
    config = SimpleNamespace(from_pretrained=CONFIGS.__getitem__)
    transformers.__dict__.update(AutoConfig=config, AutoModel=HuggingFace, ForTests=HuggingFace)
    for module in (timm, torchvision, transformers):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("timm:resnet", (2, 3, 20, 24)),
        ("torchvision:resnet", (2, 3, 224, 224)),
    ],
)
def test_example_inputs_have_the_size_that_the_library_says(text, shape):
    built = source(text).build()
    assert tuple(built.example_inputs.shape) == shape
    assert built.model(built.example_inputs).shape[0] == 2
    assert tuple(source(text).build(input_shape=(1, 3, 9, 9)).example_inputs.shape) == (1, 3, 9, 9)
    assert source("timm:unsized").build().example_inputs is None


@pytest.mark.parametrize(
    ("config", "name", "shape", "dtype"),
    [
        ("text", "input_ids", (3, 5), torch.long),
        ("images", "pixel_values", (2, 1, 12, 12), torch.float32),
        ("oblong", "pixel_values", (2, 3, 12, 16), torch.float32),
    ],
)
def test_hugging_face_inputs_are_keyword_arguments_of_what_the_model_takes(config, name, shape, dtype):
    inputs = source(f"hf:{config}").build().example_inputs
    assert {key: (tuple(value.shape), value.dtype) for key, value in inputs.items()} == {name: (shape, dtype)}
    wider = source(f"hf:{config}").build(input_shape=(4, *shape[1:])).example_inputs[name]
    assert (tuple(wider.shape), wider.dtype) == ((4, *shape[1:]), dtype)


def test_hugging_face_builds_the_architecture_of_the_configuration():
    source("hf:text").build()
    assert CALLS == []
    source("hf:bare").build()
    assert CALLS == [("AutoModel", {})]
    assert source("hf:sound").build().example_inputs is None


def test_weights_are_only_fetched_on_request():
    for text in ("timm:resnet", "torchvision:resnet", "torchvision:fasterrcnn"):
        source(text).build()
    source("timm:resnet").build(pretrained=True)
    source("torchvision:fasterrcnn").build(pretrained=True)
    source("hf:text").build(pretrained=True)
    assert CALLS == [
        ("resnet", {"pretrained": False}),
        ("resnet", {"weights": None}),
        ("fasterrcnn", {"weights": None, "weights_backbone": None}),
        ("resnet", {"pretrained": True}),
        ("fasterrcnn", {"weights": "DEFAULT"}),
        ("pretrained", {}),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("timm:resnett", "timm has no model 'resnett'; did you mean resnet."),
        ("torchvision:zzz", "torchvision has no model 'zzz'; list its names and choose one."),
        ("timm:brittle", "timm cannot make 'brittle' (RuntimeError: no weights for this one); call it in Python"),
        ("hf:nowhere", "transformers cannot make 'nowhere' (KeyError"),
        ("json:loads.x", "json has no 'loads.x'"),
        ("builtins:dict", "builtins:dict must return an nn.Module, or one with its example inputs, got dict"),
    ],
)
def test_refusals_are_one_line(text, says):
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        source(text).build()
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_library_that_is_not_there_or_does_not_import(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match="timm cannot be imported"):
        source("timm:resnet").build()
    (tmp_path / "sick.py").write_text("import missing_thing")
    (tmp_path / "ill.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    with pytest.raises(ValueError, match="there is no module 'missing_thing' here"):
        source("sick:Net").build()
    with pytest.raises(ValueError, match=r"importing ill failed \(ZeroDivisionError: division by zero\)"):
        source("ill:Net").build()
    assert sys.path == path


@pytest.mark.parametrize("text", ["", "resnet50", "timm:", ":Net"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="a model is written module:factory"):
        source(text)
