from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as Pil
from sklearn.datasets import load_digits

from normscope.data import load
from normscope.data.columns import as_source

GRID = [[float(i), float(i % 7), float(i * i)] for i in range(40)]
LABELS = [i % 2 for i in range(40)]
A = [float(i) for i in range(40)]


def test_digits_are_scikit_learns_standardized_and_divided():
    data = load("digits")
    assert data.input_shape == (1, 8, 8)
    assert data.num_classes == 10
    assert [len(split) for split in (data.train, data.validation, data.test)] == [1437, 180, 180]
    assert data.train.inputs.mean().abs() < 1e-5
    assert data.train.inputs.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert (data.train.inputs.dtype, data.train.targets.dtype) == (torch.float32, torch.int64)
    assert "no test split is stored" in data.note

    images, targets = load_digits(return_X_y=True)
    splits = (data.train, data.validation, data.test)
    everything = torch.cat([split.inputs for split in splits]).flatten(1).double()
    scale = torch.tensor(images).std(correction=0) / everything.std(correction=0)
    ours = sorted(
        zip(torch.cat([s.targets for s in splits]).tolist(), (everything * scale).sum(1).tolist(), strict=True)
    )
    shift = (torch.tensor(images).sum() - (everything * scale).sum()) / len(images)
    theirs = sorted(zip(targets.tolist(), images.sum(1).tolist(), strict=True))
    np.testing.assert_allclose([total + shift.item() for _, total in ours], [total for _, total in theirs], atol=0.02)
    assert [target for target, _ in ours] == [target for target, _ in theirs]


def test_loading_is_the_same_every_time_and_its_hash_speaks_for_all_it_depends_on():
    one, two = load("digits"), load("digits")
    assert torch.equal(one.train.inputs, two.train.inputs)
    assert one.sha256 == two.sha256
    assert len({one.sha256, load("digits", max_train=100).sha256, load("digits", validation_fraction=0.2).sha256}) == 3


def test_the_hash_speaks_for_the_targets(stored):
    one = load(stored(train={"a": A, "label": LABELS}))
    two = load(stored(train={"a": A, "label": [1 - label for label in LABELS]}))
    assert torch.equal(one.train.inputs, two.train.inputs)
    assert one.sha256 != two.sha256


def test_the_hash_is_of_the_values_before_standardization(stored):
    one = load(stored(train={"a": A, "label": LABELS}))
    two = load(stored(train={"a": [4 * a for a in A], "label": LABELS}))
    assert torch.equal(one.train.inputs, two.train.inputs)
    assert one.sha256 != two.sha256


def test_limits_reduce_every_split():
    data = load("digits", max_train=100, max_eval=30)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [100, 30, 30]
    assert torch.bincount(data.train.targets).min() >= 9


@pytest.mark.parametrize("as_list", [True, False])
def test_numeric_columns_are_features_standardized_by_train(stored, as_list):
    train = {"x": GRID} if as_list else {name: [row[i] for row in GRID] for i, name in enumerate("abc")}
    path = stored(train=train | {"label": LABELS}, test=train | {"label": LABELS}, validation=train | {"label": LABELS})
    data = load(path)
    assert data.input_shape == (3,)
    assert data.classes == ("0", "1")
    grid = np.array(GRID)
    expected = np.sort((grid - grid.mean(0)) / grid.std(0), axis=0)
    for split in (data.train, data.test):
        np.testing.assert_allclose(np.sort(split.inputs.numpy(), axis=0), expected, rtol=1e-5, atol=1e-6)
    pairs = {(round(row[0].item(), 3), int(target)) for row, target in zip(*vars(data.train).values(), strict=True)}
    assert pairs == {(round((i - 19.5) / grid[:, 0].std(), 3), i % 2) for i in range(40)}


def test_a_constant_feature_is_only_centered(stored):
    data = load(stored(train={"a": [5.0] * 40, "b": list(range(40)), "label": LABELS}))
    assert data.train.inputs[:, 0].abs().max() == 0


def test_plain_integer_labels_are_the_distinct_values_of_train(stored):
    data = load(stored(train={"a": [float(i) for i in range(40)], "y": [10 if i % 2 else -3 for i in range(40)]}))
    assert data.classes == ("-3", "10")
    assert set(data.train.targets.tolist()) == {0, 1}


def test_of_several_label_columns_the_finest_is_used_and_noted(stored):
    features = {"a": Value("float32"), "coarse": ClassLabel(2), "fine": ClassLabel(4)}
    data = load(stored(features, train={"a": [0.0, 1.0] * 20, "coarse": LABELS, "fine": [i % 4 for i in range(40)]}))
    assert data.num_classes == 4
    assert "of the label columns coarse, fine, fine was used" in data.note


def test_a_directory_of_image_files_is_a_data_set(tmp_path):
    for i in range(40):
        folder = tmp_path / "train" / ("cat" if i % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Pil.fromarray(np.full((3, 4), i, np.uint8)).save(folder / f"{i}.png")
    data = load(str(tmp_path))
    assert data.input_shape == (1, 3, 4)
    assert data.classes == ("cat", "dog")


def image_rows(*pictures):
    return {"image": list(pictures) * 10, "label": [i % 2 for i in range(len(pictures) * 10)]}


IMAGES = Features({"image": Image(), "label": ClassLabel(2)})


def test_one_colored_image_makes_every_image_colored(stored):
    grey = Pil.fromarray(np.full((3, 4), 9, np.uint8))
    color = Pil.fromarray(np.arange(36, dtype=np.uint8).reshape(3, 4, 3))
    assert load(stored(IMAGES, train=image_rows(grey, color, grey))).input_shape == (3, 3, 4)


@pytest.mark.parametrize(
    ("name", "shape", "sizes", "classes"),
    [
        ("cifar10", (3, 32, 32), (45_000, 5_000, 10_000), 10),
        ("mnist", (1, 28, 28), (54_000, 6_000, 10_000), 10),
        ("fashion_mnist", (1, 28, 28), (54_000, 6_000, 10_000), 10),
        ("tiny-imagenet-12", (3, 64, 64), (5_400, 600, 600), 12),
    ],
)
def test_the_shared_data_sets_load_as_they_stand(shared, name, shape, sizes, classes):
    data = load(shared(name), max_train=200, max_eval=100)
    assert (data.input_shape, data.num_classes) == (shape, classes)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [200, 100, 100]
    assert f"train was reduced from {sizes[0]} to 200" in data.note
    means = data.train.inputs.double().mean((0, 2, 3))
    assert means.abs().max() < 1e-5


def test_the_hash_of_earlier_versions_has_not_changed():
    assert load("digits").sha256 == "6feeee60a808a3164734b8500a5bc86ed45244ab91bc08639d96eb5851a11146"


def test_the_hash_of_earlier_versions_has_not_changed_for_images(shared):
    data = load(shared("tiny-imagenet-12"), max_train=100, max_eval=50)
    assert data.sha256 == "3d95dabb2472304c54ee61f33c42f1281c43e62bb6b6d3d98755e7bf08b19bc3"


def test_images_are_resized(stored):
    large = Pil.fromarray(np.full((9, 9), 9, np.uint8))
    data = load(
        stored(IMAGES, train=image_rows(large, Pil.fromarray(np.arange(36, dtype=np.uint8).reshape(3, 4, 3)))),
        image_size=5,
    )
    assert data.input_shape == (3, 5, 5)
    assert data.task == "classification"


def refused(match, path, **arguments):
    with pytest.raises(ValueError, match=match) as caught:
        load(path, **arguments)
    assert "\n" not in str(caught.value)


def test_names_that_lead_nowhere_are_refused_with_the_near_ones(tmp_path):
    (tmp_path / "cifar10").mkdir()
    refused("'digit' is no built-in data set, directory or hub id. Did you mean digits", "digit")
    refused("Did you mean .*cifar10.* or a hub id such as", str(tmp_path / "cifar11"))
    (tmp_path / "table.csv").write_text("a\n")
    refused("is a file, not a directory", str(tmp_path / "table.csv"))


def test_a_hub_that_cannot_be_asked_is_one_line(monkeypatch):
    import huggingface_hub

    def offline(*_arguments, **_options):
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", offline)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    refused(
        r"hub cannot be asked \(no network \.\.\. at all\)\. Use a local directory, or set HF_HUB_OFFLINE=1",
        "someone/something",
    )


def test_unreadable_directories_are_refused(tmp_path):
    refused("cannot be read .*doesn't contain any data files", str(tmp_path))
    (tmp_path / "train.parquet").write_bytes(b"rubbish")
    refused("cannot be read .*Check that no file is empty and that datasets.load_dataset reads it", str(tmp_path))


@pytest.mark.parametrize(
    ("splits", "match"),
    [
        ({"test": {"a": A, "label": LABELS}}, "there is no train split, only test"),
        ({"train": {"text": ["x"] * 40, "label": LABELS}}, "no image or numeric column among text"),
        ({"train": {"a": A, "b": A}}, "no label column among a .*float64"),
        ({"train": {"a": A, "label": [1] * 40}}, "all training examples have the same label"),
        ({"train": {"a": A, "label": [None, *LABELS[1:]]}}, "misses 1 labels"),
        ({"train": {"a": [float("nan"), *A[1:]], "label": LABELS}}, "1 of 32 rows hold a missing, NaN or infinite"),
        ({"train": {"a": [None, *A[1:]], "label": LABELS}}, "1 of 32 rows hold a missing, NaN or infinite"),
        ({"train": {"a": [float("inf")] * 40, "label": LABELS}}, "32 of 32 rows"),
        ({"train": {"a": [[1.0]] * 39 + [[1.0, 2.0]], "label": LABELS}}, "lists of column a differ in length"),
        ({"train": {"a": A, "label": LABELS}, "test": {"a": A, "label": [2] * 40}}, "holds 2, which is none of the 2"),
        (
            {"train": {"a": A, "label": LABELS}, "test": {"a": A, "b": LABELS}},
            "cannot be read .*because column names don't match",
        ),
    ],
)
def test_unusable_tables_are_refused(stored, splits, match):
    refused(match, stored(**splits))


def test_unusable_images_and_labels_are_refused(stored):
    picture = Pil.fromarray(np.zeros((3, 4), np.uint8))
    refused(
        "in split train, all images must have one size, got 4x4 and, in row",
        stored(IMAGES, train=image_rows(picture, Pil.fromarray(np.eye(4) > 0))),
    )
    refused(
        "splits must have examples of one shape",
        stored(IMAGES, train=image_rows(picture), test=image_rows(Pil.fromarray(np.zeros((5, 5), np.uint8)))),
    )


def test_missing_class_labels_are_refused(stored):
    features = {"a": Value("float32"), "label": ClassLabel(2)}
    refused("holds -1, which is none of the 2 classes", stored(features, train={"a": A, "label": [-1, *LABELS[1:]]}))


def test_two_image_columns_are_refused(stored):
    picture = Pil.fromarray(np.zeros((3, 4), np.uint8))
    rows = {"one": [picture] * 40, "two": [picture] * 40, "label": LABELS}
    refused(
        "more than one image column: one, two",
        stored({"one": Image(), "two": Image(), "label": ClassLabel(2)}, train=rows),
    )


def test_an_empty_split_is_refused(stored):
    features = {"a": List(Value("float32")), "label": ClassLabel(2)}
    path = stored(features, train={"a": [[v] for v in A], "label": LABELS}, test={"a": [], "label": []})
    refused("cannot be read .*test.* corresponds to no data", path)
    splits = DatasetDict(
        train=Dataset.from_dict({"a": A, "label": LABELS}), test=Dataset.from_dict({"a": [], "label": []})
    )
    with pytest.raises(ValueError, match="split test has no rows"):
        as_source(splits)


def test_arguments_out_of_range_are_refused():
    refused("validation_fraction must lie between 0 and 0.5, got 0.5", "digits", validation_fraction=0.5)
    refused("max_train must be at least 1, got 0", "digits", max_train=0)
    refused("max_eval must be at least 1, got -1", "digits", max_eval=-1)
    refused("leaves nothing for validation", "digits", validation_fraction=1e-5)
    refused("image_size must be at least 1, got 0", "digits", image_size=0)
    refused("sequence_length must be at least 1, got 0", "digits", sequence_length=0)
    refused("vocabulary is for texts, which need a sequence_length too", "digits", vocabulary=300)
    refused("image_size is for images and sequence_length for texts", "digits", image_size=3, sequence_length=3)
    refused("'digits': its images have one size. Leave image_size out", "digits", image_size=3)
    refused("'digits': it is no text. Leave sequence_length out", "digits", sequence_length=3)
    refused("'declaration': it is a text. Give a sequence_length", "declaration")


def test_a_size_is_refused_where_there_are_no_images(stored):
    refused(
        "image_size is for images, and there are none among a", stored(train={"a": A, "label": LABELS}), image_size=3
    )


def test_a_missing_data_set_names_the_two_ways_to_get_it(monkeypatch):
    import huggingface_hub

    def missing(*_arguments, **_options):
        raise huggingface_hub.errors.HFValidationError("no such thing")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", missing)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    refused(
        r"neither a directory here nor public on the Hugging Face hub.* local directory by its path, or over the "
        r"network by a hub id \(a private one after `hf auth login`\)",
        "someone/something",
    )


def test_a_configuration_stands_after_the_hub_id(monkeypatch, stored):
    import datasets
    import huggingface_hub

    asked = []
    rows = datasets.DatasetDict(train=Dataset.from_dict({"a": A, "label": LABELS}))
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda _self, name, **_options: asked.append(name))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets, "load_dataset", lambda *arguments, **options: asked.append(arguments) or rows)
    load("some/thing:part-1")
    load("some/thing")
    assert asked == ["some/thing", ("some/thing", "part-1"), "some/thing", ("some/thing", None)]
