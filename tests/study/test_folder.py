from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from normscope import files
from normscope.study import folder as folders


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_sealed_folder_checks_and_remembers_its_seconds(tmp_path):
    files.write(tmp_path / "a", b"1")
    assert not folders.is_sealed(tmp_path)
    folders.seal(tmp_path, ["a"], seconds=1.5)
    assert folders.is_sealed(tmp_path)
    assert folders.check_seal(tmp_path, remedy="do this.") == 1.5


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "a").write_bytes(b"2"), "a is damaged: its SHA-256.*do this"),
        (lambda folder: (folder / "a").unlink(), "a is missing; do this"),
        (lambda folder: (folder / "COMPLETED").write_text("{"), "COMPLETED is damaged.*do this"),
        (lambda folder: (folder / "COMPLETED").write_text("{}"), "COMPLETED is damaged.*do this"),
    ],
)
def test_damage_names_the_file_and_the_remedy(tmp_path, damage, message):
    files.write(tmp_path / "a", b"1")
    folders.seal(tmp_path, ["a"])
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        folders.check_seal(tmp_path, remedy="do this.")


@pytest.mark.parametrize(("content", "message"), [(None, "is missing"), ("[1]", "damaged"), ("{", "damaged")])
def test_json_that_is_no_object_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        folders.read_json(tmp_path / "x.json")


def test_runs_are_found_at_any_depth_below(tmp_path):
    for name in ("b/run-1", "a/deep/run-2"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "recipe.json").touch()
    assert folders.run_folders(tmp_path) == [tmp_path / "a/deep/run-2", tmp_path / "b/run-1"]
    assert folders.run_folders(tmp_path / "b/run-1") == [tmp_path / "b/run-1"]


def test_no_runs_is_an_error_that_says_where_it_looked(tmp_path):
    with pytest.raises(ValueError, match="no run lies in or below"):
        folders.run_folders(tmp_path)
    with pytest.raises(ValueError, match="there is no folder"):
        folders.run_folders(tmp_path / "absent")


def test_a_second_driver_is_refused_and_a_first_one_only_while_it_lives(tmp_path):
    folder = tmp_path / "run"
    with folders.driving(folder):
        assert folders.is_driven(folder)
        with pytest.raises(ValueError, match="another process is running"), folders.driving(folder):
            pass
        with pytest.raises(ValueError, match="another process is running"):
            folders.refuse_driven(folder)
    assert not folders.is_driven(folder)
    with folders.driving(folder):
        pass


def _work_for_a_moment(folder: Path, ready: multiprocessing.synchronize.Event, go: multiprocessing.synchronize.Event):
    with folders.working(folder):
        ready.set()
        go.wait(30)


def test_a_driver_waits_for_the_workers_of_a_dead_one(tmp_path, monkeypatch):
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    orphan = context.Process(target=_work_for_a_moment, args=(tmp_path, ready, go))
    orphan.start()
    try:
        assert ready.wait(60)
        monkeypatch.setattr(folders, "_ORPHAN_SECONDS", 0.2)
        with pytest.raises(ValueError, match="workers of an earlier run"), folders.driving(tmp_path):
            pass
        monkeypatch.setattr(folders, "_ORPHAN_SECONDS", 30.0)
        go.set()
        with folders.driving(tmp_path):
            pass
    finally:
        go.set()
        orphan.join()
