"""What a killed command leaves: whole outputs, locks that the next one takes, and no doubt whose they are."""

import ctypes
import errno
import fcntl
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Fairdd, write_toy
from writers import CALLS, WRITERS, Interposed, in_child, killed, locked, names

from fairdd_cli.artifacts import (
    check_export,
    check_target,
    lock_output,
    made_by_this_command,
    read_any,
    write_bytes,
)
from fairdd_cli.artifacts.export import METADATA
from fairdd_cli.cli import main
from fairdd_cli.errors import UsageError

TINY_RUN = ("--method", "random", "--ipc", 1, "-o", "s.h5")


def survives(path: Path, name: str) -> None:
    """Asserts that the output is whole, if it is there."""
    if path.is_dir():
        assert len(list(path.glob("*/*.png"))) == 2
    elif path.suffix in (".h5", ".json") and path.exists():
        read_any(str(path))
    elif path.exists():
        assert path.stat().st_size > 3


@pytest.mark.parametrize(
    ("name", "swap"),
    [("synthetic.h5", True), ("evaluation.json", True), ("export", True), ("export", False)],
)
def test_a_command_killed_at_any_call_leaves_whole_outputs_and_ends_when_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, swap: bool
) -> None:
    path = tmp_path / name
    check = check_export if name == "export" else check_target
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # it takes its time, and no power is cut
    if not swap:
        monkeypatch.setattr(ctypes, "CDLL", lambda name: None)

    def dying(at: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            Interposed(patch, killed, at, calls=(*CALLS, "unlink", "rmdir"))
            locked(path, name)

    for there_before in (False, True):
        at, code = 1, -9
        while code < 0:
            if not there_before:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            made = path.stat().st_ino if path.exists() else None
            code = in_child(lambda at=at: dying(at))
            if swap or name != "export":  # else for a moment it has no name
                assert path.exists() or not there_before
            survives(path, name)
            if path.exists() and path.stat().st_ino != made and code < 0 and names(tmp_path) - {name}:
                assert made_by_this_command(str(path))
                check(str(path), force=made_by_this_command(str(path)))
            with lock_output(str(path)):
                survives(path, name)
            assert names(tmp_path) <= {name}
            assert path.exists() or not there_before
            at += 1
        assert at > 5


def test_another_command_does_not_take_an_output_for_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"

    def dying() -> None:
        with lock_output(str(path)):
            write_bytes(str(path), b"page")
            killed()

    assert in_child(dying) < 0
    assert check_target(str(path), force=False)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["fairdd", "other"])
        with pytest.raises(UsageError, match="exists already"):
            check_target(str(path), force=False)
    with lock_output(str(path)):
        pass
    with pytest.raises(UsageError, match="exists already"):  # nobody was killed any more
        check_target(str(path), force=False)


@pytest.mark.parametrize("name", ["page.html", "export"])
@pytest.mark.parametrize("ended", [False, True])
def test_what_lies_at_the_name_of_a_killed_command_counts_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, ended: bool
) -> None:
    path = tmp_path / name
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)  # every rename is one of Python's

    def dying() -> None:
        with lock_output(str(path)):
            if ended:
                WRITERS[name](str(path))
            killed()

    def dying_before_a_name_is_given() -> None:
        with pytest.MonkeyPatch.context() as patch:
            Interposed(patch, killed, missing=("rename", "replace"), calls=())
            locked(path, name)

    assert in_child(dying) < 0
    if ended:
        path.rename(tmp_path / "first")  # the content gets other inodes and times, as with a new mount
        (shutil.copytree if name == "export" else shutil.copyfile)(tmp_path / "first", path)
        assert made_by_this_command(str(path))
        assert in_child(dying_before_a_name_is_given) < 0
        assert made_by_this_command(str(path))
    else:
        WRITERS[name](str(path))  # by somebody else
    (path / METADATA if path.is_dir() else path).write_bytes(b"{}")
    assert not made_by_this_command(str(path))
    with pytest.raises(UsageError, match=r"exists already|holds an export already"):
        (check_export if name == "export" else check_target)(str(path), force=False)


def test_a_lock_without_its_process_is_taken_where_the_system_knows_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock_output(str(tmp_path / "s.h5")):
        record = json.loads((tmp_path / ".s.h5.lock").read_text())
        assert record["process"] == os.getpid()
    for process, free in ((2**22 + 1, True), (os.getppid(), False)):
        (tmp_path / ".s.h5.lock").write_text(json.dumps({**record, "process": process}))
        if free:
            locked(tmp_path / "s.h5", "synthetic.h5")
            continue
        with pytest.raises(UsageError, match=f"process {process}"):
            locked(tmp_path / "s.h5", "synthetic.h5")


@pytest.mark.parametrize("content", [b"", b"12345", b"\xff", b"[" * 10**5, b'{"process": []}', b"{}"])
def test_any_content_of_a_lock_is_taken(tmp_path: Path, content: bytes) -> None:
    write_toy(tmp_path / "s.h5", np.full((2, 2), 3))
    (tmp_path / ".s.h5.lock").write_bytes(content)
    with pytest.raises(UsageError, match="exists already"):
        check_target(str(tmp_path / "s.h5"), force=False)
    with lock_output(str(tmp_path / "s.h5")):
        pass
    assert names(tmp_path) == {"s.h5"}


def test_a_command_killed_after_its_output_was_complete_says_so(fairdd: Fairdd, tmp_path: Path) -> None:
    write_toy(tmp_path / "toy.h5", np.full((2, 2), 3))
    words = ["distill", "toy.h5", *map(str, TINY_RUN)]

    def dying() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            patch.setattr(sys, "argv", ["fairdd", *words])
            Interposed(patch, killed, missing=("unlink",), calls=())  # of its checkpoint or lock, at the end
            main()

    assert in_child(dying) == -9
    assert names(tmp_path) == {"toy.h5", "s.h5", ".s.h5.lock"}
    before = (tmp_path / "s.h5").stat()
    done = fairdd(*words)
    assert done.stdout == "s.h5\n"
    assert "'s.h5' is complete" in done.stderr
    assert names(tmp_path) == {"toy.h5", "s.h5"}
    assert (tmp_path / "s.h5").stat().st_mtime_ns == before.st_mtime_ns
    assert "exists already" in fairdd(*words, check=False).stderr
