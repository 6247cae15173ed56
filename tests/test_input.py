"""How files are opened: what was checked is what is read, and each reason why a file cannot be read is told."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import write_toy
from evaluations import confusion, write

from fairdd_cli.artifacts import (
    BiasedDataset,
    kind_of,
    read_any,
    read_dataset,
    read_evaluation,
    read_experts,
    write_experts,
)
from fairdd_cli.errors import UsageError, WorkError

CELLS = np.full((2, 2), 3)


@pytest.fixture
def other(toy: BiasedDataset, tmp_path: Path) -> Path:
    """A data set like `toy` with other images."""
    return Path(write_toy(tmp_path / "other.h5", toy.train.count, seed=1).path)


def test_a_data_set_that_is_replaced_lends_its_digest_to_no_other(toy: BiasedDataset, other: Path) -> None:
    expected = read_dataset(toy.path).train.images.all()
    other.replace(toy.path)
    assert not np.array_equal(read_dataset(toy.path).train.images.all(), expected)
    assert np.array_equal(toy.train.images.all(), expected)
    assert np.array_equal(toy.train.images.take(np.array([2])), expected[[2]])


def test_a_data_set_that_is_replaced_while_it_is_checked(
    toy: BiasedDataset, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fairdd_cli.artifacts import _container

    before, taken = toy.train.images.all(), _container.content_digest

    def swap(*arguments: object) -> str:
        if other.exists():
            other.replace(toy.path)
        return taken(*arguments)

    monkeypatch.setattr(_container, "content_digest", swap)
    found = read_dataset(toy.path)
    assert not other.exists()
    assert found.digest == toy.digest
    assert np.array_equal(found.train.images.all(), before)


def test_another_process_reads_the_same_file_or_none(toy: BiasedDataset, other: Path) -> None:
    program = "import pickle, sys; print(pickle.load(sys.stdin.buffer).all().sum())"

    def elsewhere() -> subprocess.CompletedProcess[bytes]:
        content = pickle.dumps(toy.train.images)
        return subprocess.run([sys.executable, "-c", program], input=content, capture_output=True, check=False)

    assert int(elsewhere().stdout) == toy.train.images.all().sum()
    other.replace(toy.path)
    assert b"was replaced or changed while it was in use" in elsewhere().stderr


def test_experts_that_are_replaced_lend_their_digest_to_no_others(tmp_path: Path) -> None:
    for name, value in (("experts.h5", 1.0), ("other.h5", 2.0)):
        made_from = {"dataset": "toy", "dataset_digest": "sha256:0", "network": "mlp"}
        parts = [np.full((1, 2, 5), value, np.float32)]
        write_experts(str(tmp_path / name), made_from, 0, 1, (1, 2, 5), parts)
    experts = read_experts(str(tmp_path / "experts.h5"))
    (tmp_path / "other.h5").replace(tmp_path / "experts.h5")
    assert experts.parameters(0, 0, 1).tolist() == [1.0] * 5


def test_a_file_that_is_open_and_locked_elsewhere_is_read(toy: BiasedDataset) -> None:
    with h5py.File(toy.path, "r+"):
        assert read_dataset(toy.path).digest == toy.digest


def test_no_file_stays_open(toy: BiasedDataset, tmp_path: Path) -> None:
    write(tmp_path / "e.json")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in (toy.path, str(tmp_path / "e.json")):
        for _ in range(3):
            read_any(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def loop(path: Path) -> None:
    path.with_name("back").symlink_to(path)
    path.symlink_to(path.with_name("back"))


def unreadable(path: Path) -> None:
    path.write_bytes(b"x")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")


def cut(path: Path) -> None:
    write_toy(path, CELLS)
    os.truncate(path, 5000)


def newer(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["format"] = "fairdd/dataset"


def other_version(path: Path) -> None:
    write_toy(path, CELLS)
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 2


REASONS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "does not exist"),
    "dangling link": (lambda path: path.symlink_to("gone.h5"), "is a link to 'gone.h5', which does not exist"),
    "loop of links": (loop, "Too many levels of symbolic links"),
    "folder": (Path.mkdir, "is a folder, not a file"),
    "permission": (unreadable, "permission denied"),
    "pipe": (os.mkfifo, "is not a regular file"),
    "empty": (Path.touch, "is not an HDF5 file, but empty"),
    "json": (lambda path: path.write_text(' {"a": 1}'), "is not an HDF5 file, but JSON"),
    "zip": (lambda path: path.write_bytes(b"PK\3\4"), "ZIP archive"),
    "lfs": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "text": (lambda path: path.write_text("hello"), "is not an HDF5 file; a fairdd/dataset file is needed"),
    "truncated": (cut, r"it is truncated: 5,000 of [\d,]+ bytes are there"),
    "layout": (newer, "layout .* is not the one that fairdd writes"),
    "version": (other_version, "format version 2 is newer than this fairdd reads"),
}


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_is_told(tmp_path: Path, reason: str) -> None:
    make, words = REASONS[reason]
    make(tmp_path / "data.h5")
    with pytest.raises(UsageError, match=words) as failed:
        read_dataset(str(tmp_path / "data.h5"))
    assert len(str(failed.value).splitlines()) == 1


def test_a_name_that_no_file_can_have_is_told() -> None:
    for name in ("x" * 300, "a\0b"):
        with pytest.raises(UsageError, match=r"File name too long|null byte"):
            kind_of(name)


def test_a_broken_disk_is_told(toy: BiasedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> int:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(WorkError, match="Input/output error"):
        read_dataset(toy.path)


def test_a_data_set_from_a_pipe_is_that_of_its_file(toy: BiasedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(toy.path).open() as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        piped = read_dataset("-")
    assert piped.digest == toy.digest
    np.testing.assert_array_equal(piped.train.images.all(), toy.train.images.all())


def reformatted(path: Path, change: Callable[[dict[str, object]], str | bytes]) -> str:
    """The JSON file at `path` as another tool writes it."""
    text = change(json.loads(path.read_text()))
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def spelled(value: object, number: Callable[[float], object]) -> object:
    """`value` with each number in it spelled anew."""
    if isinstance(value, dict):
        return {key: spelled(member, number) for key, member in value.items()}
    if isinstance(value, list):
        return [spelled(member, number) for member in value]
    return number(value) if type(value) in (int, float) else value


def shortest(value: float) -> object:
    return int(value) if float(value).is_integer() else value


@pytest.mark.parametrize(
    "change",
    [
        lambda content: json.dumps(spelled(content, shortest)),
        lambda content: json.dumps(spelled(content, float)),
        lambda content: "\ufeff" + json.dumps(content),
        lambda content: json.dumps(content).encode("utf-16"),
        lambda content: json.dumps(content, indent=4, sort_keys=True, ensure_ascii=False),
        lambda content: json.dumps(dict(reversed(content.items())), separators=(",", " :\n")),
    ],
    ids=["1.0 to 1", "1 to 1.0", "byte-order mark", "UTF-16", "indented and sorted", "reversed"],
)
def test_other_tools_may_reformat_an_evaluation(
    tmp_path: Path, change: Callable[[dict[str, object]], str | bytes]
) -> None:
    path = Path(write(tmp_path / "e.json", protocol={"epochs": 300, "cutmix": 1.0, "learning_rate": 0.01}))
    expected = read_evaluation(str(path))
    found = read_evaluation(reformatted(path, change))
    assert found.digest == expected.digest
    assert found.protocol == expected.protocol
    np.testing.assert_array_equal(found.confusion["convnet"], expected.confusion["convnet"])


def test_json_and_hdf5_have_the_same_digest(tmp_path: Path) -> None:
    given = {"protocol": {"cutmix": 1.0}, "options": {"factor": 2.0, "deep": [{"a": 3.0}]}}
    digests = {read_evaluation(write(tmp_path / name, **given)).digest for name in ("e.json", "e.h5")}
    assert len(digests) == 1


def test_changed_values_are_still_found(tmp_path: Path) -> None:
    for old, new in (('"epochs": 300', '"epochs": 301'), ('"ipc": 10', '"ipc": 10.5'), ('"dm"', '"gm"')):
        path = Path(write(tmp_path / "e.json"))
        path.write_text(path.read_text().replace(old, new))
        with pytest.raises(UsageError, match=r"does not have the digest|not of the right type"):
            read_evaluation(str(path))


@pytest.mark.parametrize(
    "table", [[[[[1.5]]]], [[[[True]]]], [[[[1], [1, 2]]]], [[[[2**70]]]], [[[1]]], [], None], ids=str
)
def test_what_a_table_may_not_be(tmp_path: Path, table: object) -> None:
    path = Path(write(tmp_path / "e.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "confusion": {"convnet": table}}))
    with pytest.raises(UsageError, match="should hold integers in four dimensions"):
        read_evaluation(str(path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": True}, "'seed' is missing or not of the right type"),
        ({"options": []}, "'options' is missing or not of the right type"),
        ({"confusion": [1]}, "'confusion' is missing or not of the right type"),
        ({"format_version": 2}, "format version 2 is not one"),
    ],
    ids=str,
)
def test_what_a_member_may_not_be(tmp_path: Path, change: dict[str, object], words: str) -> None:
    path = Path(write(tmp_path / "e.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UsageError, match=words):
        read_evaluation(str(path))


@pytest.mark.parametrize("name", ["e.json", "e.h5"])
@pytest.mark.parametrize(
    ("networks", "words"),
    [
        (["n" * 201], "the name of a network has 201 letters"),
        ([str(i) for i in range(201)], "it holds 201 confusion tables"),
    ],
)
def test_names_and_networks_are_limited(tmp_path: Path, name: str, networks: list[str], words: str) -> None:
    tables = dict.fromkeys(networks, confusion(np.full((3, 2), 0.7), seeds=1))
    with pytest.raises(UsageError, match=words):
        read_evaluation(write(tmp_path / name, confusion=tables))
