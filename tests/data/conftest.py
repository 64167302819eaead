from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import pytest


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture
def stored(tmp_path) -> Callable[..., str]:
    """Store splits, {split: {column: values}}, as Parquet in a new directory, and return its path."""

    def store(features: Mapping[str, Any] | None = None, **splits: Mapping[str, list[Any]]) -> str:
        for split, columns in splits.items():
            kinds = datasets.Features({name: features[name] for name in columns}) if features else None
            datasets.Dataset.from_dict(dict(columns), features=kinds).to_parquet(tmp_path / f"{split}.parquet")
        return str(tmp_path)

    return store


@pytest.fixture
def shared() -> Callable[[str], str]:
    """The path of a real data set beside the repository, or a skip."""

    def find(name: str) -> str:
        path = Path(__file__).parents[3] / "shared" / "data" / name
        if not path.is_dir():
            pytest.skip(f"needs the data set {name} in {path.parent}")
        return str(path)

    return find
