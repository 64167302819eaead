from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from normscope.train import Objective, checkpoint, fit, setup, sgd

INPUTS = torch.linspace(-1, 1, 64).view(16, 4)
TARGETS = torch.arange(16) // 6  # ordered as the inputs are, so that they can be learned


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def losses(model: nn.Module, precision: str, steps: int = 30) -> list[float]:
    prepared = setup(model, sgd(model, lr=0.1), precision=precision, accelerator="cpu")

    def objective(batch):
        loss = F.cross_entropy(prepared.model(batch[0]), batch[1])
        return Objective(loss, loss)

    batches = [(INPUTS, TARGETS)] * steps
    return [step.loss for step in fit(objective, batches, prepared.optimizer, backward=prepared.backward)]


def test_plain_float32_is_what_was_given():
    model = network()
    optimizer = sgd(model, lr=0.1)
    prepared = setup(model, optimizer, accelerator="cpu")
    assert prepared.model is model
    assert prepared.optimizer is optimizer
    assert prepared.state() == {}
    with prepared.autocast():
        assert not torch.is_autocast_enabled("cpu")
    total = model(INPUTS).square().mean()
    prepared.backward(total)
    assert model[0].weight.grad is not None


def test_bfloat16_trains_on_the_cpu_near_float32_and_not_in_it():
    full, mixed = losses(network(), "32-true"), losses(network(), "bf16-mixed")
    assert full[-1] < 0.6 * full[0]
    assert mixed == pytest.approx(full, abs=0.05)
    assert mixed != full


def test_mixed_precision_keeps_parameters_and_outputs_in_float32():
    model = network()
    seen = []
    model[0].register_forward_hook(lambda _layer, _inputs, output: seen.append(output.dtype))
    prepared = setup(model, sgd(model, lr=0.1), precision="bf16-mixed", accelerator="cpu")
    assert prepared.model(INPUTS).dtype == torch.float32
    with prepared.autocast():
        model(INPUTS)
    model(INPUTS)
    assert seen == [torch.bfloat16, torch.bfloat16, torch.float32]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert list(prepared.model.state_dict()) == list(model.state_dict())
    assert prepared.device == torch.device("cpu")


def test_a_mixed_training_goes_on_from_a_checkpoint(tmp_path):
    def run(until: int, first: int = 1, path=None) -> tuple[list[float], nn.Module]:
        model = network()
        prepared = setup(model, sgd(model, lr=0.1), precision="bf16-mixed", accelerator="cpu")
        if path:
            checkpoint.restore(path, model=model, optimizer=prepared.optimizer, precision=prepared)

        def objective(batch):
            loss = F.cross_entropy(prepared.model(batch[0]), batch[1])
            return Objective(loss, loss)

        batches = [(INPUTS, TARGETS)] * (until - first + 1)
        steps = fit(objective, batches, prepared.optimizer, backward=prepared.backward, first=first)
        seen = [step.loss for step in steps]
        if not path and until == 3:
            checkpoint.save(tmp_path / "c", model=model, optimizer=prepared.optimizer, step=3, precision=prepared)
        return seen, model

    whole, model = run(6)
    begun, _ = run(3)
    ended, resumed = run(6, first=4, path=tmp_path / "c")
    assert begun + ended == whole
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


def test_the_scaler_of_half_precision_is_saved_and_restored():
    model = network()
    plain = setup(model, sgd(model, lr=0.1), accelerator="cpu")

    def scaled(**state: float) -> object:
        scaler = torch.amp.GradScaler("cpu", **state)
        scaler._lazy_init_scale_growth_tracker(torch.device("cpu"))
        return dataclasses.replace(plain, scaler=scaler)

    one, two = scaled(init_scale=2.0**10, growth_interval=7), scaled()
    assert {key: value.item() for key, value in one.state().items()} == one.scaler.state_dict()
    two.restore(one.state())
    assert two.scaler.state_dict() == one.scaler.state_dict()
    assert type(two.scaler.state_dict()["growth_interval"]) is int


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"precision": "64"}, "precision must be one of 32-true, bf16-mixed, 16-mixed, got '64'"),
        ({"accelerator": "tpu"}, "accelerator must be one of auto, cpu, cuda, got 'tpu'"),
        (
            {"precision": "16-mixed", "accelerator": "cpu"},
            "16-mixed needs a CUDA device, and this is the CPU",
        ),
    ],
)
def test_what_cannot_be_had_is_refused(options, match):
    model = network()
    with pytest.raises(ValueError, match=match):
        setup(model, sgd(model, lr=0.1), **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none():
    model = network()
    with pytest.raises(ValueError, match="accelerator is cuda, and there is no CUDA device"):
        setup(model, sgd(model, lr=0.1), accelerator="cuda")
    assert setup(model, sgd(model, lr=0.1)).device == torch.device("cpu")


def test_fabric_is_imported_for_mixed_precision_alone():
    code = (
        "import sys, torch; from normscope.train import setup, sgd; model = torch.nn.Linear(1, 1); "
        "setup(model, sgd(model, lr=1.0), accelerator='cpu'); "
        "sys.exit('lightning_fabric' in sys.modules or 'safetensors' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_every_precision_trains_on_the_gpu(precision):
    model = network()
    prepared = setup(model, sgd(model, lr=0.1), precision=precision, accelerator="cuda")
    inputs, targets = INPUTS.to(prepared.device), TARGETS.to(prepared.device)

    def objective(batch):
        loss = F.cross_entropy(prepared.model(batch[0]), batch[1])
        return Objective(loss, loss)

    batches = [(inputs, targets)] * 30
    seen = [step.loss for step in fit(objective, batches, prepared.optimizer, backward=prepared.backward)]
    assert seen[-1] < 0.6 * seen[0]
    prepared.restore(prepared.state())
