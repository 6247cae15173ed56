"""Where outputs go: links, streams, devices, mount points and standard output."""

import errno
import json
import os
import resource
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import Fairdd, write_toy
from writers import WRITERS, locked, names

from fairdd_cli.artifacts import (
    check_export,
    check_target,
    read_any,
    write_bytes,
)
from fairdd_cli.errors import UsageError, WorkError


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


TINY_RUN = ("--method", "random", "--ipc", 1, "-o", "s.h5")


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
