"""`normscope convert`: what it prints and writes, and that the loader gives the same model in another process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import load_file

import normscope as ns
from normscope import files
from normscope.cli import main

FACTORIES = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6, eps=1e-3)
        self.hidden, self.late = nn.Linear(6, 5), nn.BatchNorm1d(5)
        self.head = nn.Linear(5, 4)
        self.tied = nn.Linear(5, 4)
        self.tied.weight = self.head.weight

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x))).mean((2, 3))
        x = torch.relu(self.late(self.hidden(x)))
        return self.head(x) + self.tied(x)


def with_inputs():
    return Net(), torch.ones(2, 3, 8, 8)


def empty():
    return nn.Linear(2, 2)


def broken():
    raise KeyError("weights.pt")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module of models in it."""
    (tmp_path / "mynets.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mynets", raising=False)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command that must end with exit code 2."""
    capsys.readouterr()
    assert main(["convert", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("normscope: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_the_loaders_give_the_same_models_in_another_process(folder, capsys):
    asked = {
        "a": ("mynets:Net", "prelayernorm", ["--input-shape", "2,3,8,8"]),
        "b": ("mynets:with_inputs", "weightnorm", []),
        "c": ("mynets:Net", "groupnorm:num_groups=1:eps=0.01", []),
    }
    x = torch.randn(3, 3, 8, 8)
    expected = {}
    for name, (source, to, options) in asked.items():
        torch.manual_seed(5)  # so that weights built anew there are others
        assert main(["convert", source, "--to", to, "--out", f"{name}.safetensors", *options]) == 0
        printed = capsys.readouterr().out
        assert "BatchNorm2d" in printed
        assert printed.endswith(f"\ncheckpoint  {name}.safetensors\nloader      {name}.py\n")
        torch.manual_seed(5)
        row = ns.normalizer("groupnorm", num_groups=1, eps=0.01) if ":" in to else to
        built = ns.models.source(source).build(input_shape=(2, 3, 8, 8))
        model = ns.convert_norm(built.model, row, example_inputs=built.example_inputs).model
        expected[name] = model.eval()(x)
    torch.save(x, folder / "x.pt")
    code = "import torch, a, b, c; x = torch.load('x.pt')\n"
    code += "torch.save({m.__name__: m.model.eval()(x) for m in (a, b, c)}, 'y.pt')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    ran = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found = torch.load(folder / "y.pt")
    assert all(torch.equal(found[name], expected[name]) for name in asked)


def test_the_loader_has_three_lines_below_its_imports_and_no_options_that_nobody_gave(folder):
    assert main(["convert", "mynets:Net", "--to", "layernorm"]) == 0
    text = (folder / "Net_layernorm.py").read_text()
    below = [line for line in text.split("import normscope as ns\n")[1].splitlines() if line]
    assert below == [
        'built = ns.models.source("mynets:Net").build()',
        'model = ns.convert_norm(built.model, "layernorm", example_inputs=built.example_inputs).model',
        'model.load_state_dict(load_file(Path(__file__).with_suffix(".safetensors")))',
    ]


def test_a_name_takes_over_eps_and_options_are_used_as_they_are(folder, capsys):
    assert main(["convert", "mynets:Net", "--to", "batchnorm"]) == 0
    assert "batchnorm eps=0.001 " in capsys.readouterr().out  # that of the old norm
    assert main(["convert", "mynets:Net", "--to", "batchnorm:eps=0.01"]) == 0
    assert "eps=0.001" not in capsys.readouterr().out


def test_the_checkpoint_says_what_it_is_and_holds_the_whole_state(folder):
    assert main(["convert", "mynets:with_inputs", "--to", "batchnorm"]) == 0
    with safetensors.safe_open(folder / "with_inputs_batchnorm.safetensors", framework="pt") as file:
        assert file.metadata() == {"source": "mynets:with_inputs", "normalizer": "batchnorm"}
    state = load_file(folder / "with_inputs_batchnorm.safetensors")
    assert {"norm.running_var", "head.weight", "tied.weight", "late.num_batches_tracked"} <= set(state)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["mynets", "--to", "layernorm"],
            "a model is written module:factory, timm:NAME, torchvision:NAME or hf:CONFIG",
        ),
        (["mynets:Net", "--to", "layernrom"], "Unknown normalizer 'layernrom'; did you mean layernorm"),
        (["mynets:Net", "--to", "layernorm:epsilon=1"], "Unknown option 'epsilon' of layernorm; did you mean eps"),
        (["mynets:Nett", "--to", "layernorm"], "mynets has no 'Nett'; did you mean Net"),
        (["mynet:Net", "--to", "layernorm"], "there is no module 'mynet' here; install it, or start from the folder"),
        (["mynets:broken", "--to", "layernorm"], "mynets:broken cannot make a model (KeyError: 'weights.pt')"),
        (["mynets:torch.ones", "--to", "layernorm"], "mynets:torch.ones cannot make a model (TypeError"),
        (["mynets:dict", "--to", "layernorm"], "mynets has no 'dict'"),
        (["mynets:Net", "--to", "layernorm", "--pretrained"], "pretrained is for models of timm, torchvision, hf"),
        (["mynets:Net", "--to", "prelayernorm"], "give --input-shape, such as 2,3,224,224"),
        (["mynets:Net", "--to", "layernorm", "--input-shape", "2,0"], "input-shape is of positive sizes"),
        (["mynets:Net", "--to", "layernorm", "--input-shape", "2,x"], "--input-shape: expected a whole number"),
        (["mynets:Net", "--to", "layernorm", "--input-shape", "2,4,8,8"], "give inputs that it takes"),
        (["mynets:Net", "--to", "layernorm", "--out", "net.pt"], "out is a file NAME.safetensors, got net.pt"),
        (["mynets:Net", "--to", "layernorm", "--out", "no/net.safetensors"], "make no first"),
        (["mynets:Net"], "Missing from normscope convert: --to"),
    ],
)
def test_bad_input_is_one_line_exit_code_2_and_no_file(arguments, says, folder, capsys):
    before = {path.name for path in folder.iterdir()}
    assert says in refused(capsys, *arguments)
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == before


def test_a_failed_write_is_one_line_and_leaves_what_stood_there(folder, capsys, monkeypatch):
    (folder / "net.safetensors").write_text("old")

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(files, "write", full)
    line = refused(capsys, "mynets:Net", "--to", "layernorm", "--out", "net.safetensors")
    assert "net.safetensors cannot be written (No space left on device); choose another --out" in line
    assert (folder / "net.safetensors").read_text() == "old"
