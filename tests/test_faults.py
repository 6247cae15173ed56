"""Faults of the machine: full disks, folders that go or cannot be written, files that change while they are used."""

import ctypes
import errno
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import write_toy
from faults import error_lines
from writers import WRITERS, Interposed, contents, failing

from fairdd_cli.artifacts import (
    BiasedDataset,
    check_target,
    lock_output,
    read_any,
    read_checkpoint,
    read_dataset,
    read_experts,
    write_bytes,
    write_experts,
)
from fairdd_cli.errors import UsageError, WorkError
from fairdd_cli.runtime import Checkpoints, State
from fairdd_cli.runtime import checkpoints as checkpoints_module

ROOT = Path(__file__).parents[1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB of its own, where the machine lets one be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_file_that_is_mounted_by_itself_is_refused_before_the_work(small_disk: Path, tmp_path: Path) -> None:
    given, mounted = small_disk / "given.h5", tmp_path / "s.h5"
    for path in (given, mounted):
        path.write_bytes(b"")
    subprocess.run(["mount", "--bind", str(given), str(mounted)], check=True)
    try:
        with pytest.raises(UsageError, match="is a mount point"):
            check_target(str(mounted), force=True)
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
    check_target(str(mounted), force=True)


def state_of(size: int) -> State:
    return State(size, 1.0, {"images": torch.ones(size)})


def test_a_full_disk_is_one_line_and_the_checkpoint_of_before_stays(small_disk: Path) -> None:
    output = str(small_disk / "s.h5")
    with pytest.raises(WorkError, match="No space left") as failed, Checkpoints(output, every=0) as checkpoints:
        checkpoints.update(state_of(1000))
        checkpoints.update(state_of(100_000))
    assert len(str(failed.value).splitlines()) == 1
    assert "after 1,000 steps is kept" in failed.value.__notes__[-1]
    assert {path.name for path in small_disk.iterdir()} == {"s.h5.checkpoint"}
    assert read_checkpoint(output + ".checkpoint").done == 1000


@pytest.mark.parametrize("size", [16, 32, 40, 48, 64])
def test_a_data_set_that_does_not_fit_leaves_nothing(small_disk: Path, size: int) -> None:
    (small_disk / "ballast").write_bytes(bytes(200_000))
    with pytest.raises(WorkError, match="No space left"):
        write_toy(small_disk / "toy.h5", np.full((2, 2), 60), side=size)
    assert {path.name for path in small_disk.iterdir()} == {"ballast"}


def test_a_folder_that_cannot_be_written_is_said_at_once(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(UsageError, match="is not writable"):
        check_target(str(small_disk / "s.h5"), force=False)
    with pytest.raises(WorkError, match="Read-only file system"), lock_output(str(small_disk / "s.h5")):
        pass
    with pytest.raises(WorkError, match="Read-only file system"):
        write_bytes(str(small_disk / "s.json"), b"{}")


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_each_call_that_fails_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # what it says is what counts here
    path = tmp_path / "new" / name
    for at in range(1, 200):
        if name == "experts.h5":  # which never replace others
            path.unlink(missing_ok=True)
        before = contents(tmp_path)
        with pytest.MonkeyPatch.context() as patch:
            interposed = Interposed(patch, failing(number), at)
            try:
                WRITERS[name](str(path))
            except WorkError as error:
                said = str(error)
            else:
                assert not interposed.acted  # else a failure passed unseen
                break
        assert said.startswith(f"cannot write '{path}': {os.strerror(number)}")
        assert ("it needs" in said) == (number == errno.ENOSPC)
        assert len(said.splitlines()) == 1
        if interposed.acted != "fsync":  # else it may have got its name, and not its folder's word for it
            assert contents(tmp_path) == before
        assert not list(tmp_path.rglob(".*"))
    assert at > 5


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_that_lacks_flushes_modes_locks_and_swaps_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    Interposed(monkeypatch, failing(number), missing=("fsync", "chmod", "fchmod"))

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)  # nor does it know how to swap two folders
    for _ in range(2):
        with lock_output(str(tmp_path / name)):
            (tmp_path / name).unlink(missing_ok=True) if not (tmp_path / name).is_dir() else None
            WRITERS[name](str(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    if name.endswith((".h5", ".json")):
        read_any(str(tmp_path / name))


def test_a_folder_that_goes_during_the_run_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "runs"

    def run() -> None:
        with lock_output(str(folder / "s.h5")), Checkpoints(str(folder / "s.h5"), every=0) as checkpoints:
            shutil.rmtree(folder)
            folder.write_text("in its place")
            checkpoints.update(state_of(3))

    with pytest.raises(WorkError, match="cannot write") as failed:
        run()
    assert len(str(failed.value).splitlines()) == 1


def test_a_failed_command_leaves_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="work"), lock_output(str(tmp_path / "a" / "b" / "s.h5")):
        raise ValueError("work")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    for name in (".s.h5.abcdefgh.part", ".s.h5.checkpoint.abcdefgh.part", ".s.h5.lock", ".s.h5x.abcdefgh.part"):
        (tmp_path / name).touch()
    with lock_output(str(tmp_path / "s.h5")):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".s.h5x.abcdefgh.part"]


def test_a_data_set_that_goes_during_the_run_is_still_read(toy: BiasedDataset) -> None:
    expected = h5py.File(toy.path)["train/images"][...]
    Path(toy.path).unlink()
    assert np.array_equal(toy.train.images.all(), expected)
    assert np.array_equal(toy.train.images.take(np.array([3, 1])), expected[[3, 1]])


def test_a_data_set_that_shrinks_during_the_run_is_one_line(toy: BiasedDataset) -> None:
    os.truncate(toy.path, 4000)
    with pytest.raises(WorkError, match="was changed while it was in use"):
        toy.test.images.all()
    with pytest.raises(WorkError, match="was changed while it was in use"):
        toy.test.images.take(np.array([len(toy.test) - 1]))


def test_experts_that_shrink_during_the_run_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "experts.h5"
    origin = {"dataset": "toy", "dataset_digest": "sha256:0", "network": "mlp"}
    write_experts(str(path), origin, 0, 1, (1, 2, 5), [np.ones((1, 2, 5), np.float32)])
    experts = read_experts(str(path))
    assert experts.parameters(0, 0, 1).tolist() == [1.0] * 5
    os.truncate(path, experts.offset + 30)
    with pytest.raises(WorkError, match="was changed while it was in use"):
        experts.parameters(0, 0, 1)


def test_a_clock_set_back_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 5.0, 90.0, 90.0])
    monkeypatch.setattr(checkpoints_module.time, "monotonic", lambda: next(times))
    monkeypatch.setattr("time.time", lambda: -1e9)
    checkpoints = Checkpoints(str(tmp_path / "s.h5"), every=60)
    checkpoints.update(state_of(3))
    assert not list(tmp_path.iterdir())
    checkpoints.update(state_of(4))
    assert read_checkpoint(str(tmp_path / "s.h5.checkpoint")).done == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class_names": ["a" * 10_000] * 3000}, "bytes besides its arrays"),
        ({"format_version": 2}, "newer than this fairdd reads"),
        ({"std": [1e-300] * 3}, "'std' must lie in"),
        ({"mean": [float("nan")] * 3}, "not a finite number"),
        ({"options": '{"a": 1, "a": 2}'}, "a key occurs twice"),
        ({"options": '{"a": NaN}'}, "NaN is not a number"),
        ({"options": "[" * 100 + "]" * 100}, "nested too deeply"),
        ({"options": "[1]"}, "not a JSON object"),
        ({"options": '{"a": 1' + "0" * 400 + "}"}, "not a finite number"),
        ({"seed": np.zeros((2, 2))}, "neither a value nor a list"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_an_attribute_may_not_be(tmp_path: Path, change: dict[str, object], words: str) -> None:
    from mutants import sealed

    write_toy(tmp_path / "toy.h5", np.full((2, 2), 3))
    with h5py.File(tmp_path / "toy.h5", "r+") as file:
        for name, value in change.items():
            file.attrs[name] = value
        sealed(file)
    with pytest.raises(UsageError, match=words):
        read_dataset(str(tmp_path / "toy.h5"))


@pytest.mark.parametrize("length", [0, 2**64 - 1, 2**64 - 16, 2**40])
def test_a_heap_that_the_library_would_read_forever_is_refused(tmp_path: Path, length: int) -> None:
    write_toy(tmp_path / "toy.h5", np.full((2, 2), 3))
    content = bytearray((tmp_path / "toy.h5").read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 16 : heap + 18] = bytes(2)  # its first entry is said to be free
    content[heap + 24 : heap + 32] = length.to_bytes(8, "little")
    (tmp_path / "toy.h5").write_bytes(content)
    with pytest.raises(UsageError, match="its texts are damaged"):
        read_dataset(str(tmp_path / "toy.h5"))


def test_a_block_before_the_file_is_refused(tmp_path: Path) -> None:
    write_toy(tmp_path / "toy.h5", np.full((2, 2), 3))
    with h5py.File(tmp_path / "block.h5", "w", userblock_size=512) as file, h5py.File(tmp_path / "toy.h5") as toy:
        for name in toy:
            toy.copy(name, file)
        file.attrs.update(toy.attrs)
    with pytest.raises(UsageError, match="is not an HDF5 file"):
        read_dataset(str(tmp_path / "block.h5"))


def test_markup_in_a_name_is_shown_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mutants import sealed

    from fairdd_cli.cli import terminal
    from fairdd_cli.cli.inspect import inspect
    from fairdd_cli.config import InspectConfig

    write_toy(tmp_path / "toy.h5", np.full((2, 2), 3))
    with h5py.File(tmp_path / "toy.h5", "r+") as file:
        file.attrs["class_names"] = ["[red]a[/red]", "b"]
        sealed(file)
    inspect(InspectConfig(file=str(tmp_path / "toy.h5")))
    assert "[red]a[/red]" in capsys.readouterr().out
    terminal.error("a name \x1b[31m[red]with[/red] \x07 controls")
    assert "a name \\x1b[31m[red]with[/red] \\x07 controls" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--count", "500", "--readers"], ["--count", "15"]], ids=" ".join)
def test_damaged_files_are_refused_or_read_and_nothing_else(tmp_path: Path, words: list[str]) -> None:
    command = [
        sys.executable,
        str(ROOT / "tests" / "campaigns" / "fuzz.py"),
        "--keep",
        str(tmp_path / "findings"),
        *words,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 findings" in done.stdout


def test_the_campaign_counts_the_lines_of_an_error_and_not_those_of_the_work() -> None:
    work = "mtt fairdd: 2 images of toy\n4 experts: about 5 s on this machine\nmtt fairdd, 12 iterations: about 38 s\n"
    error = "fairdd: cannot write 'a\nb.h5.checkpoint': No space left on device\nThe state is kept in 'a\nb.h5'.\n"
    assert len(error_lines(work + error, "a\nb")) == 2
    assert len(error_lines(f"{work}{error}another line\n", "a\nb")) == 3
    assert len(error_lines("a\nTraceback\nb\nc\n", "x")) == 4


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_faults_of_the_machine_lose_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tests" / "campaigns" / "faults.py"), "--count", "8", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 findings" in done.stdout
