from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save as save_tensors
from torch import nn

from normscope.data import Split, crop_flip, shuffled_batches
from normscope.train import Objective, checkpoint, fit, optimizer, schedule

STEPS, CUT = 11, 5  # an epoch has 4 batches, so the cut lies in the middle of the second one


class Dropout(nn.Module):
    """Dropout of one half that draws from a generator of its own."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return 2 * inputs * torch.randint(2, inputs.shape, generator=self.generator)


class Training:
    """A small training with everything that has a state: made anew for each run, from the same seeds."""

    def __init__(self, name: str, **options: float) -> None:
        self.generators = {key: torch.Generator().manual_seed(i) for i, key in enumerate(("dropout", "augment"))}
        draw = torch.Generator().manual_seed(7)
        split = Split(torch.randn(18, 1, 6, 6, generator=draw), torch.randint(3, (18,), generator=draw))
        self.batches = shuffled_batches(split, 4, generator=torch.Generator().manual_seed(8))
        torch.manual_seed(9)
        self.model = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            Dropout(self.generators["dropout"]),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.Linear(64, 3),
        )
        self.generators["global"] = torch.default_generator
        self.optimizer = optimizer(self.model, name, 0.05, **options)

    def run(self, first: int, last: int) -> list[float]:
        def augmented():
            for inputs, targets in itertools.islice(self.batches, last - first + 1):
                yield crop_flip(inputs, generator=self.generators["augment"], padding=1), targets

        def objective(batch):
            loss = F.cross_entropy(self.model(batch[0]), batch[1])
            return Objective(loss, loss)

        factors = schedule("cosine", total=STEPS, warmup=2)
        return [step.loss for step in fit(objective, augmented(), self.optimizer, schedule=factors, first=first)]

    @property
    def parts(self) -> dict[str, object]:
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "batches": self.batches,
            "generators": self.generators,
        }

    def tensors(self) -> dict[str, torch.Tensor]:
        state = {f"model.{name}": value.clone() for name, value in self.model.state_dict().items()}
        for index, entry in self.optimizer.state_dict()["state"].items():
            state |= {f"{index}.{key}": value.clone() for key, value in entry.items()}
        return state


OPTIMIZERS = [
    ("sgd", {"momentum": 0.9, "weight_decay": 1e-2}),
    ("adamw", {"weight_decay": 0.1}),
    ("sgd", {"momentum": 0.0, "nesterov": False}),
]


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_a_training_goes_on_in_the_middle_of_an_epoch_bit_for_bit(name, options, tmp_path):
    whole = Training(name, **options)
    expected = whole.run(1, STEPS)
    begun = Training(name, **options)
    losses = begun.run(1, CUT)
    checkpoint.save(tmp_path / "c", step=CUT, extra={"seed": 3}, **begun.parts)
    resumed = Training(name, **options)
    resumed.run(1, 2)  # whatever it did before
    restored = checkpoint.restore(tmp_path / "c", **resumed.parts)
    losses += resumed.run(restored.step + 1, STEPS)
    assert losses == expected
    assert restored.extra == {"seed": 3}
    ours, theirs = resumed.tensors(), whole.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_saving_changes_nothing_and_leaves_one_file(tmp_path):
    expected, losses = Training("adamw").run(1, 4), []
    saved = Training("adamw")
    for step in range(1, 5):
        losses += saved.run(step, step)
        checkpoint.save(tmp_path / "c", step=step, **saved.parts)
    assert losses == expected
    assert [file.name for file in tmp_path.iterdir()] == ["c"]


def test_the_file_is_plain_safetensors_with_names_and_json(tmp_path):
    training = Training("adamw")
    training.run(1, 2)
    checkpoint.save(tmp_path / "c", step=2, extra={"a": [1, None]}, **training.parts)
    with safe_open(tmp_path / "c", "pt") as file:
        names, facts = set(file.keys()), json.loads(file.metadata()["normscope"])
        assert torch.equal(file.get_tensor("model.1.running_mean"), training.model[1].running_mean)
    assert {"optimizer.0.weight.exp_avg", "optimizer.6.bias.step", "generator.dropout", "batches.taken"} <= names
    assert (facts["step"], facts["extra"]) == (2, {"a": [1, None]})
    assert facts["options"]["groups"][0]["lr"] == 0.05, "the base rate, not that of a step"


def test_tied_parameters_are_saved_and_restored(tmp_path):
    def tied() -> nn.Module:
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        model[1].weight = model[0].weight
        return model

    one, two = tied(), tied()
    checkpoint.save(tmp_path / "c", model=one, optimizer=optimizer(one, "sgd", 0.1), step=1)
    checkpoint.restore(tmp_path / "c", model=two, optimizer=optimizer(two, "sgd", 0.1))
    assert torch.equal(one[1].weight, two[0].weight)
    assert two[0].weight is two[1].weight


@pytest.fixture
def written(tmp_path) -> Path:
    training = Training("adamw")
    training.run(1, 2)
    checkpoint.save(tmp_path / "c", step=2, **training.parts)
    return tmp_path / "c"


def refused(path: Path, match: str, **changes: object) -> None:
    training = Training("adamw")
    before = training.tensors()
    with pytest.raises(ValueError, match=match) as caught:
        checkpoint.restore(path, **training.parts | changes)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    after = training.tensors()
    assert before.keys() == after.keys(), "nothing was changed"
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_files_are_refused(written, share):
    content = written.read_bytes()
    written.write_bytes(content[: int(share * len(content))])
    refused(written, "truncated or damaged .*use an earlier checkpoint")


def test_every_damaged_byte_is_refused(written):
    content = written.read_bytes()
    header = int.from_bytes(content[:8], "little")
    middle = 8 + header + (len(content) - 8 - header) // 2
    # The length, the header's JSON in several places, the first, a middle and the last byte of the tensors.
    places = [0, 3, 8, *range(9, 8 + header, header // 300), 8 + header, middle, len(content) - 1]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1
        written.write_bytes(damaged)
        refused(written, "damaged|no checkpoint of normscope")


def test_foreign_files_are_refused(tmp_path):
    (tmp_path / "c").write_bytes(save_tensors({"a": torch.zeros(1)}))
    refused(tmp_path / "c", "is a safetensors file, but no checkpoint of normscope")
    (tmp_path / "c").write_bytes(b"PK\x03\x04 a zip file")
    refused(tmp_path / "c", "truncated or damaged")
    with pytest.raises(FileNotFoundError):
        checkpoint.restore(tmp_path / "none", **Training("adamw").parts)


def test_a_format_of_another_version_is_refused(written, monkeypatch):
    monkeypatch.setattr(checkpoint, "_FORMAT", 0)
    refused(written, "has format 1, this version reads 0; use a newer normscope")


def test_objects_that_were_made_otherwise_are_refused(written):
    other = nn.Sequential(nn.Linear(2, 2))
    refused(written, "the optimizer must be one of the model's parameters", model=Training("adamw").model)
    refused(
        written,
        "it holds model.1.bias, which has no place here. Make everything as it was made",
        model=other,
        optimizer=optimizer(other, "adamw", 0.05),
    )
    wide = Training("adamw").model
    wide[6] = nn.Linear(64, 4)
    refused(
        written,
        r"model.6.weight was saved as float32 \(3, 64\), and here it is float32 \(4, 64\)",
        model=wide,
        optimizer=optimizer(wide, "adamw", 0.05),
    )
    same = Training("adamw").model
    refused(written, "its optimizer was AdamW, and here it is SGD", model=same, optimizer=optimizer(same, "sgd", 0.05))
    refused(written, "had lr 0.05, and here it has 0.1", model=same, optimizer=optimizer(same, "adamw", 0.1))
    only = [{"params": list(same.parameters())}]
    refused(written, "its number of parameter groups was 2", model=same, optimizer=torch.optim.AdamW(only, lr=0.05))
    refused(written, "it holds generator.augment, which has no place", generators={})
    more = Training("adamw").generators | {"more": torch.Generator()}
    refused(written, "it lacks generator.more", generators=more)
    refused(written, "it holds batches.epoch_start, which has no place here", batches=None)
    tiny = Split(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64))
    refused(written, "stand at 2 of an epoch of 1", batches=shuffled_batches(tiny, 2, generator=torch.Generator()))


def test_what_cannot_be_saved_is_refused_and_the_last_checkpoint_stays(written, monkeypatch):
    content = written.read_bytes()
    training = Training("adamw")
    with pytest.raises(ValueError, match=r"extra must be plain JSON .*Save numbers, strings"):
        checkpoint.save(written, step=3, extra={"path": written}, **training.parts)

    class Stateful(nn.Linear):
        def get_extra_state(self) -> object:
            return {"not": "a tensor"}

    model = Stateful(1, 1)
    with pytest.raises(ValueError, match="model's state _extra_state must be a tensor, got dict"):
        checkpoint.save(written, model=model, optimizer=optimizer(model, "sgd", 0.1), step=1)
    odd = optimizer(model := nn.Linear(1, 1), "sgd", 0.1)
    odd.state[model.weight]["count"] = 3
    with pytest.raises(ValueError, match="the optimizer's count of weight must be a tensor, got 3"):
        checkpoint.save(written, model=model, optimizer=odd, step=1)
    monkeypatch.setattr(os, "fsync", lambda _file: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(written, step=3, **training.parts)
    assert written.read_bytes() == content
    assert [file.name for file in written.parent.iterdir()] == ["c"]
