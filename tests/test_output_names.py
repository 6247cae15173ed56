"""Names and folders of outputs: long and odd ones, folders that vanish or belong to others, and what is flushed."""

import ctypes
import errno
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from writers import WRITERS, Interposed, contents, in_child, killed, names

from fairdd_cli.artifacts import (
    Checkpoint,
    check_target,
    checkpoint_of,
    lock_output,
    read_checkpoint,
    write_bytes,
    write_checkpoint,
)
from fairdd_cli.errors import Interrupted, UsageError, WorkError

ODD = [
    "a" * 241,
    "a" * 252,
    "ü" * 120 + "a" * 12,
    "日" * 80 + "a" * 10,
    "\udcff\udcfe",
    "a b\n\u00a0",
    "-x",
    "[a]*?",
    "~",
]


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_every_name_that_the_system_allows_is_written(tmp_path: Path, odd: str) -> None:
    path = str(tmp_path / f"{odd}.h5")
    for force in (False, True):
        check_target(path, force)
        with lock_output(path):
            WRITERS["synthetic.h5"](path)
            write_checkpoint(checkpoint_of(path), Checkpoint({}, 0, 3, 1.0, {"images": np.ones(3)}))
            assert read_checkpoint(checkpoint_of(path)).done == 3
            for leftover in (path, checkpoint_of(path)):
                assert in_child(lambda leftover=leftover: dying(leftover)) < 0
            assert len(names(tmp_path)) == 5
        with lock_output(path):
            Path(checkpoint_of(path)).unlink()
            assert len(names(tmp_path)) == 2
        assert names(tmp_path) == {f"{odd}.h5"}


def dying(path: str) -> None:
    """Is killed while it writes `path`."""
    with pytest.MonkeyPatch.context() as patch:
        Interposed(patch, killed, 2, calls=("fsync", "pwrite"))
        write_bytes(path, b"new")


def test_long_names_that_begin_alike_have_files_of_their_own(tmp_path: Path) -> None:
    one, other = (str(tmp_path / ("a" * 240 + end)) for end in ("1", "2"))
    assert checkpoint_of(one) != checkpoint_of(other)
    with lock_output(one), lock_output(other):
        pass


def test_a_folder_that_vanishes_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "s.h5"
    check_target(str(path), force=False)
    with lock_output(str(path)):
        shutil.rmtree(tmp_path / "a")
        WRITERS["synthetic.h5"](str(path))
    assert names(path.parent) == {"s.h5"}


def test_what_appears_during_the_run_stays_and_the_work_fails(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(b"of another")
    for lacking in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            if lacking:
                patch.setattr(ctypes, "CDLL", lambda name: None)
            with pytest.raises(WorkError, match="--force"):
                write_bytes(str(path), b"mine", force=False)
        assert contents(tmp_path) == {"page.html": b"of another"}


@pytest.mark.parametrize("error", [OSError(errno.EIO, "lost"), Interrupted()])
@pytest.mark.parametrize("after", [1, 2])
def test_a_folder_keeps_its_name_where_another_cannot_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, after: int
) -> None:
    WRITERS["export"](str(tmp_path / "out"))
    before = contents(tmp_path)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)

    def fail() -> None:
        raise error

    Interposed(monkeypatch, fail, after, calls=("rename",))
    with pytest.raises((WorkError, Interrupted)):
        WRITERS["export"](str(tmp_path / "out"))
    assert contents(tmp_path) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to act as other users")
def test_what_another_user_left_is_named_as_in_the_way(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):  # the other user must get there; processes of pytest add a folder
        if not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(0o755)
    tmp_path.chmod(0o1777)
    taken = {
        "s.h5": lambda: check_target(str(tmp_path / "s.h5"), force=True),
        "t.h5.checkpoint": lambda: check_target(str(tmp_path / "t.h5"), force=True),
        ".u.h5.lock": lambda: lock_output(str(tmp_path / "u.h5")).__enter__(),
        ".v.h5.abcdefgh.part": lambda: lock_output(str(tmp_path / "v.h5")).__enter__(),
    }
    for name, work in taken.items():
        (tmp_path / name).touch(0o600)

        def other(name: str = name, work=work) -> None:  # type: ignore[no-untyped-def]
            os.setuid(65534)
            with pytest.raises(UsageError, match=f"{name}' of user root is in the way"):
                work()

        assert in_child(other) == 0
    assert set(taken) <= names(tmp_path)


def test_the_umask_holds_for_every_output(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        for name, write in WRITERS.items():
            write(str(tmp_path / "new" / name))
    finally:
        os.umask(before)
    for path in (tmp_path / "new").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o750 if path.is_dir() else 0o640), path
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o750


@pytest.mark.parametrize("name", WRITERS)
def test_every_file_and_every_name_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    flushed = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        flushed.append(os.stat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    path = tmp_path / "new" / "folder" / name
    WRITERS[name](str(path))
    for each in (path, *path.rglob("*"), path.parent, path.parent.parent, tmp_path):
        assert each.stat().st_ino in flushed, each
