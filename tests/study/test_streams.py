"""Studies whose training examples are streamed: the same numbers from any stop, and refusals before they begin."""

from __future__ import annotations

from pathlib import Path

import datasets
import msgspec
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image as Pil

from normscope.data import holding, streaming
from normscope.study import (
    Data,
    Experiment,
    Measurement,
    Model,
    Norm,
    Optimizer,
    Study,
    Training,
    load,
    measuring,
    records,
)
from normscope.study.preparation import load_data

from .conftest import run

LR = Optimizer(lr=0.05)
ENDS = tuple(Measurement(probe="evaluation", at=(0, 11), options={"split": split}) for split in ("validation", "test"))
PLAIN = Model(family="wrn", options={"depth": 8, "width": 1})
WRN = Model(family="wrn", options={**PLAIN.options, "dropout": 0.3})
TRANSFORMER = Model(family="transformer", options={"depth": 1, "dim": 8, "heads": 2, "hidden": 16})
MEASURED = Measurement(probe="gradient_norm", at=(0, 11))


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture
def images(tmp_path) -> str:
    """Three files of 20 images to train on, 12 to validate and 12 to test on; one class is brighter than the other."""
    draw = np.random.default_rng(0)
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(2)})

    def store(name: str, count: int) -> None:
        labels = [i % 2 for i in range(count)]
        pictures = [Pil.fromarray((draw.integers(0, 99, (8, 8, 3)) + 99 * label).astype(np.uint8)) for label in labels]
        rows = datasets.Dataset.from_dict({"image": pictures, "label": labels}, features=kinds)
        rows.to_parquet(tmp_path / "images" / name)

    (tmp_path / "images").mkdir()
    for part in range(3):
        store(f"train-{part:05}-of-00003.parquet", 20)
    store("validation.parquet", 12)
    store("test.parquet", 12)
    return str(tmp_path / "images")


def experiment(data: Data, **changes: object) -> Experiment:
    fields: dict[str, object] = {
        "id": "streamed",
        "data": data,
        "model": WRN,
        "norm": Norm("regnorm"),
        "seed": 0,
        "training": Training(steps=11, batch_size=9, optimizer=LR, penalty_weight=0.1, checkpoint_every=4),
        "batch_size": 6,
        "measurements": (*ENDS, MEASURED),
    }
    return Experiment(**fields | changes)


def study(one: Experiment) -> Study:
    return Study(paper="some-paper", item="table3", scale="smoke", experiments=(one,))


def streamed(name: str, **changes: object) -> Data:
    return Data(**{"name": name, "max_train": 12, "max_eval": 8, "augment": "crop_flip", "buffer": 16, **changes})


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    measure = measuring.Measurements.take

    def take(self: object, model: object, at: int) -> None:
        if at == step:
            raise KeyboardInterrupt
        measure(self, model, at)

    monkeypatch.setattr(measuring.Measurements, "take", take)


def stopped_and_resumed(asked: Study, out: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> pd.DataFrame:
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            run(asked, out)
    (kept,) = out.glob("*/trials/*/checkpoint.safetensors")
    assert kept.stat().st_size
    return load(run(asked, out))


@pytest.mark.parametrize("step", [7, 10])  # after the checkpoints at 4, of an epoch of six batches, and at 8
def test_a_streamed_training_goes_on_in_the_middle_of_an_epoch_bit_for_bit(images, tmp_path, monkeypatch, step):
    asked = study(experiment(streamed(images)))
    unbroken = load(run(asked, tmp_path / "a"))
    assert len(unbroken[(unbroken["probe"] == "train") & (unbroken["name"] == "loss")]) == 11
    resumed = stopped_and_resumed(asked, tmp_path / "b", monkeypatch, step)
    pd.testing.assert_frame_equal(resumed, unbroken, check_exact=True)


def losses(asked: Experiment, out: Path) -> list[float]:
    rows = load(run(study(asked), out))
    return rows[(rows["probe"] == "train") & (rows["name"] == "loss")]["value"].tolist()


def test_the_seed_and_the_buffer_alone_decide_the_order(images, tmp_path):
    plain = experiment(streamed(images), model=PLAIN)
    first = losses(plain, tmp_path / "a")
    threads = torch.get_num_threads()
    torch.set_num_threads(3)  # batches decoded ahead
    try:
        assert losses(plain, tmp_path / "b") == first
    finally:
        torch.set_num_threads(threads)
    other = msgspec.structs.replace(plain, seed=1)
    assert losses(other, tmp_path / "c") != first
    wider = msgspec.structs.replace(plain, data=streamed(images, buffer=60))
    assert losses(wider, tmp_path / "d")[1:] != first[1:]


def test_training_sees_examples_that_are_not_held(images):
    data = load_data(streamed(images, max_train=12))
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 8, 8)
    batches = data.streamed.shuffled(20, generator=torch.Generator().manual_seed(0), buffer=16)
    seen = torch.cat([next(batches)[0] for _ in range(3)])
    assert len(torch.unique(seen.flatten(1), dim=0)) == 60


def test_one_batch_of_everything_is_the_same_step_streamed_or_held(images, tmp_path):
    """The order within a batch moves rounding alone: a whole epoch as one batch has one loss."""
    training = Training(steps=1, batch_size=60, optimizer=LR)
    fields = {"training": training, "model": PLAIN, "norm": Norm("layernorm"), "measurements": ()}
    both = [
        losses(experiment(data, **fields), tmp_path / name)
        for name, data in (("a", streamed(images, augment="none")), ("b", Data(name=images, max_eval=8)))
    ]
    assert both[0] == pytest.approx(both[1], rel=1e-5)


def test_a_text_is_streamed_too(tmp_path, monkeypatch):
    place = tmp_path / "text"
    place.mkdir()
    for name, count in (("train-00000-of-00002", 40), ("train-00001-of-00002", 40), ("validation", 30), ("test", 30)):
        texts = [f"the {i}th of {count} lines of {name}" for i in range(count)]
        datasets.Dataset.from_dict({"text": texts}).to_parquet(place / f"{name}.parquet")
    data = Data(name=str(place), max_train=32, max_eval=8, sequence_length=16, vocabulary=280, buffer=32)
    asked = study(experiment(data, model=TRANSFORMER, norm=Norm("layernorm"), measurements=ENDS))
    unbroken = load(run(asked, tmp_path / "a"))
    resumed = stopped_and_resumed(asked, tmp_path / "b", monkeypatch, 10)
    pd.testing.assert_frame_equal(resumed, unbroken, check_exact=True)


def test_data_in_memory_keep_their_ids():
    assert "buffer" not in msgspec.to_builtins(Data(name="digits"))


def test_what_cannot_be_streamed_is_refused_before_a_folder_is_made(images, tmp_path):
    def refused(match: str, one: Experiment) -> None:
        with pytest.raises(ValueError, match=match) as raised:
            run(study(one), tmp_path / "runs")
        assert "\n" not in str(raised.value)
        assert not (tmp_path / "runs").exists()

    unbounded = experiment(streamed(images, max_eval=None))
    refused("is streamed, and what it is evaluated on .*: max_eval must say", unbounded)
    refused("buffer must be at least 1, got 0", experiment(streamed(images, buffer=0)))
    refused("batch_size must lie between 1 and the 12 training examples", experiment(streamed(images), batch_size=13))
    refused("'digits': it is small. Use load", experiment(streamed("digits")))


def shared(name: str) -> str:
    path = Path(__file__).parents[3] / "shared" / "data" / name
    if not path.is_dir():
        pytest.skip(f"needs the data set {name} in {path.parent}")
    return str(path)


@pytest.mark.parametrize(
    ("name", "model", "fields"),
    [
        ("tiny-imagenet-12", PLAIN, {"image_size": 8}),
        ("lm1b", TRANSFORMER, {"sequence_length": 16, "vocabulary": 300, "augment": "none"}),
    ],
)
def test_real_data_are_streamed_and_gone_on_from(name, model, fields, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "MOMENTS_FROM", 50)
    monkeypatch.setattr(streaming, "VOCABULARY_FROM", 50)
    for module in (streaming, holding):
        monkeypatch.setattr(module, "_MIXED", 60)
    data = streamed(shared(name), **fields)
    asked = study(experiment(data, model=model, norm=Norm("layernorm"), measurements=ENDS))
    unbroken = run(asked, tmp_path / "a")
    assert "training examples are streamed" in str(records.data(unbroken)["sets"][0]["note"])
    resumed = stopped_and_resumed(asked, tmp_path / "b", monkeypatch, 7)
    pd.testing.assert_frame_equal(resumed, load(unbroken), check_exact=True)
