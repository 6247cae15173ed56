"""Where outputs go: links, streams, long and odd names, folders of others, and what a killed command leaves."""

import ctypes
import errno
import fcntl
import json
import os
import resource
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import Fairdd, write_toy
from writers import CALLS, WRITERS, Interposed, contents, in_child, killed

from fairdd_cli.artifacts import (
    Checkpoint,
    check_export,
    check_target,
    checkpoint_of,
    lock_output,
    made_by_this_command,
    read_any,
    read_checkpoint,
    write_bytes,
    write_checkpoint,
)
from fairdd_cli.artifacts.export import METADATA
from fairdd_cli.cli import main
from fairdd_cli.errors import Interrupted, UsageError, WorkError


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def locked(path: Path | str, name: str) -> None:
    """What a command does that writes the output `path` like the one called `name`."""
    with lock_output(str(path)):
        WRITERS[name](str(path))


# Links and streams


@pytest.mark.parametrize("name", WRITERS)
def test_a_link_is_followed_and_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    link = tmp_path / "here" / f"link{Path(name).suffix}"
    for target in ("there", "missing/folder"):
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / target / name)
        assert not check_target(str(link), force=False)
        locked(link, name)
        assert link.is_symlink()
        assert names(tmp_path / target) == {name}
        assert names(tmp_path / "here") == {link.name}
        if not link.is_dir():
            with pytest.raises(UsageError, match="exists already"):
                check_target(str(link), force=False)


def test_a_loop_of_links_and_a_name_too_long_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "loop", tmp_path / "loop" / "s.npz", tmp_path / ("a" * 256), tmp_path / "a\0b"):
        with pytest.raises(UsageError, match="cannot write"):
            check_target(str(path), force=False)
        with pytest.raises(UsageError, match="cannot write"):
            check_export(str(path), force=False)


@pytest.mark.parametrize("name", sorted(set(WRITERS) - {"data.h5", "export", "s.h5.checkpoint"}))
@pytest.mark.parametrize("force", [False, True])
def test_a_pipe_is_written_to_and_stays(tmp_path: Path, name: str, force: bool) -> None:
    WRITERS[name](str(tmp_path / "file"))
    pipe = tmp_path / f"pipe{Path(name).suffix}"
    os.mkfifo(pipe)
    assert not check_target(str(pipe), force)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    locked(pipe, name)
    reader.join()
    (tmp_path / f"copy{Path(name).suffix}").write_bytes(received[0])
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names(tmp_path) == {"file", pipe.name, f"copy{pipe.suffix}"}
    if pipe.suffix in (".h5", ".json"):
        read_any(str(tmp_path / f"copy{pipe.suffix}"))


def test_devices_are_written_to(tmp_path: Path) -> None:
    assert not check_target("/dev/null", force=True)
    locked("/dev/null", "synthetic.h5")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(WorkError, match="No space left"):
        locked(tmp_path / "full", "synthetic.h5")
    assert names(tmp_path) == {"full"}


def test_a_mount_point_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted, other = tmp_path / "a b.h5", tmp_path / "a.h5"
    for path in (mounted, other):
        path.write_bytes(b"there")
    (tmp_path / "link.h5").symlink_to(mounted)
    escaped = str(mounted).replace(" ", "\\040")
    (tmp_path / "mountinfo").write_text(
        f"43 1 254:0 / / rw - ext4 /dev/a rw\n63 43 254:0 /s.h5 {escaped} rw - ext4 /dev/a rw\n"
    )
    monkeypatch.setattr("fairdd_cli.artifacts._lock.MOUNTS", tmp_path / "mountinfo")
    for path in (mounted, tmp_path / "link.h5"):
        with pytest.raises(UsageError, match="is a mount point, and cannot be replaced; mount its folder"):
            check_target(str(path), force=True)
    check_target(str(other), force=True)
    monkeypatch.setattr("fairdd_cli.artifacts._lock.MOUNTS", tmp_path / "missing")
    check_target(str(mounted), force=True)

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(os, "rename", busy)
    monkeypatch.setattr(os, "replace", busy)
    with pytest.raises(WorkError, match=r"cannot write '.*': Device or resource busy") as failed:
        write_bytes(str(mounted), b"new")
    assert len(str(failed.value).splitlines()) == 1
    assert mounted.read_bytes() == b"there"
    assert not list(tmp_path.glob(".*"))


# Names


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


# Folders


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


# Killed commands


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


# The installed command

TINY_RUN = ("--method", "random", "--ipc", 1, "-o", "s.h5")


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


def test_a_limit_on_the_size_of_files_is_one_line(fairdd: Fairdd, tmp_path: Path) -> None:
    write_toy(tmp_path / "toy.h5", np.full((2, 2), 30))
    small = ("--iterations", 2, "--network", "mlp", "--ipc", 9)
    for words, output in (
        (("make-dataset", "c-fmnist-fg", "--embedded", "--limit", 60, "--test-per-cell", 1, "-o", "m.h5"), "m.h5"),
        (("distill", "toy.h5", "--method", "dm", *small, "-o", "s.h5"), "s.h5"),
        (("inspect", "s.h5", "--export", "s.npz"), "s.npz"),
        (("inspect", "s.h5", "--export", "pictures"), "pictures"),
    ):
        before = names(tmp_path)
        size = 100 if output == "pictures" else 8192
        limited = lambda size=size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # noqa: E731
        done = fairdd(*words, "--quiet", check=False, preexec_fn=limited)
        assert done.returncode == 1, done.stderr
        assert done.stderr.splitlines()[0].startswith("fairdd: cannot write '")
        assert "File too large; it needs" in done.stderr
        assert len(done.stderr.splitlines()) <= 3
        assert names(tmp_path) == before
        assert fairdd(*words, "--quiet").stdout == f"{output}\n"


def test_standard_output_by_another_name_gets_the_file_and_nothing_else(fairdd: Fairdd, tmp_path: Path) -> None:
    write_toy(tmp_path / "toy.h5", np.full((2, 2), 3))
    program = str(Path(sys.executable).with_name("fairdd"))
    for force in ((), ("--force",)):
        words = ("distill", "toy.h5", *map(str, TINY_RUN[:-1]), "/dev/stdout", "--quiet", *force)
        with (tmp_path / "out.h5").open("wb") as out:
            subprocess.run([program, *words], cwd=tmp_path, stdout=out, check=True)
        read_any(str(tmp_path / "out.h5"))
    done = fairdd("evaluate", "out.h5", "--data", "toy.h5", "--network", "mlp", "--epochs", 1, "-o", "/dev/stdout")
    assert json.loads(done.stdout)["format"] == "fairdd/evaluation"
    assert names(tmp_path) == {"toy.h5", "out.h5"}
