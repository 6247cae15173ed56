"""What newer files say beside the format's required parts, and how a reader takes files without it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import write_toy
from evaluations import synthetic
from evaluations import write as write_evaluated
from image_trees import made
from mutants import sealed

from fairdd_cli.artifacts import (
    ArrayChunks,
    BiasedDataset,
    Split,
    read_dataset,
    read_evaluation,
    read_synthetic,
    write_dataset,
    write_synthetic,
)
from fairdd_cli.datasets._source import Request
from fairdd_cli.errors import UsageError

ENVIRONMENT = {"device": "cpu", "precision": "fp32", "threads": 2, "deterministic": False, "torch": "2.5.1"}


def edited(path: Path, change: Callable[[h5py.File], object]) -> str:
    """The file at `path` after a `change`, with the digest of what it holds then."""
    with h5py.File(path, "r+") as file:
        change(file)
        sealed(file)
    return str(path)


def without_facts(name: str, options: dict[str, object]) -> Callable[[h5py.File], None]:
    """Turns a data set into one of version 0.1.0 with this name and these options."""

    def change(file: h5py.File) -> None:
        del file.attrs["mirror_keeps_class"], file.attrs["image_kind"]
        file.attrs["name"], file.attrs["options"] = name, json.dumps(options)

    return change


@pytest.mark.parametrize(("name", "mirrored"), [("c-fmnist-fg", True), ("c-mnist-bg", False)])
def test_a_data_set_says_what_its_images_are(tmp_path: Path, name: str, mirrored: bool) -> None:
    if name == "c-fmnist-fg":
        dataset = made(name, tmp_path / "data.h5", Request(embedded=True, test_per_cell=1))
    else:
        dataset = replace(write_toy(tmp_path / "toy.h5", np.full((2, 2), 3)), mirror_keeps_class=False)
        rewritten(dataset, tmp_path / "data.h5", image_kind="grey")
    found = read_dataset(str(tmp_path / "data.h5"))
    assert (found.mirror_keeps_class, found.image_kind) == (mirrored, "grey")
    assert "mirror" not in found.options


def rewritten(dataset: BiasedDataset, path: Path, **changes: object) -> BiasedDataset:
    """`dataset` with some `changes`, written to `path` and read again."""
    changed = replace(dataset, **changes)
    splits = {name: getattr(changed, name) for name in ("train", "test", "val") if getattr(changed, name)}
    chunks = {name: ArrayChunks(split.images.shape, "uint8", [split.images.all()]) for name, split in splits.items()}
    write_dataset(str(path), changed, chunks)
    return read_dataset(str(path))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("c-mnist-fg", {"mirror": False}, (False, "grey")),
        ("c-fmnist-bg", {"mirror": True}, (True, "grey")),
        ("cifar10-s", {}, (True, "natural")),
    ],
)
def test_the_facts_of_an_older_data_set_are_derived(
    tmp_path: Path, name: str, options: dict[str, object], expected: tuple[bool, str]
) -> None:
    write_toy(tmp_path / "toy.h5", np.full((2, 2), 3))
    found = read_dataset(edited(tmp_path / "toy.h5", without_facts(name, options)))
    assert (found.mirror_keeps_class, found.image_kind) == expected


def test_a_fact_of_another_type_is_refused(tmp_path: Path) -> None:
    write_toy(tmp_path / "toy.h5", np.full((2, 2), 3))
    for name, value, words in (
        ("image_kind", "drawings", "must be one of grey, natural"),
        ("mirror_keeps_class", 1, "should be bool, found int"),
        ("seed", True, "should be int, found bool"),
    ):
        path = edited(
            Path(write_toy(tmp_path / "toy.h5", np.full((2, 2), 3)).path),
            lambda file, name=name, value=value: file.attrs.__setitem__(name, value),
        )
        with pytest.raises(UsageError, match=words):
            read_dataset(path)


def test_a_held_out_split_is_read_as_it_was_written(toy: BiasedDataset, tmp_path: Path) -> None:
    assert toy.val is None
    held_out = Split(toy.test.images, toy.test.labels, toy.test.protected, toy.test.start, toy.test.count)
    found = rewritten(toy, tmp_path / "val.h5", val=held_out).val
    assert found is not None
    np.testing.assert_array_equal(found.images.all(), held_out.images.all())
    np.testing.assert_array_equal(found.count, held_out.count)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file.__delitem__("val/labels"), "the array 'val/labels' is missing"),
        (lambda file: file["val/labels"].write_direct(np.full(24, 7)), "'val/labels' must lie in 0"),
        (lambda file: file.create_dataset("val/more", data=np.arange(3)), "'val/more' does not belong"),
    ],
)
def test_half_a_held_out_split_is_refused(
    toy: BiasedDataset, tmp_path: Path, change: Callable[[h5py.File], object], words: str
) -> None:
    rewritten(toy, tmp_path / "val.h5", val=toy.test)
    with pytest.raises(UsageError, match=words):
        read_dataset(edited(tmp_path / "val.h5", change))


def test_a_synthetic_set_may_name_the_group_of_each_image(tmp_path: Path) -> None:
    path = str(tmp_path / "s.h5")
    groups = np.arange(36) % 2
    write_synthetic(path, replace(synthetic(), groups=groups, protected_names=("a", "b")))
    found = read_synthetic(path)
    assert found.groups is not None
    assert found.groups.tolist() == groups.tolist()
    assert found.protected_names == ("a", "b")
    write_synthetic(path, synthetic())
    assert read_synthetic(path).groups is None
    write_synthetic(path, replace(synthetic(), groups=groups * 5, protected_names=("a", "b")))
    with pytest.raises(UsageError, match="'groups' should be 36 numbers in 0…1"):
        read_synthetic(path)


@pytest.mark.parametrize("name", ["e.json", "e.h5"])
def test_the_environment_is_told_and_is_not_part_of_the_digest(tmp_path: Path, name: str) -> None:
    plain = read_evaluation(write_evaluated(tmp_path / f"plain-{name}"))
    told = read_evaluation(write_evaluated(tmp_path / name, environment=ENVIRONMENT))
    assert (plain.environment, told.environment) == ({}, ENVIRONMENT)
    assert plain.digest == told.digest


def test_the_environment_of_a_synthetic_set(tmp_path: Path) -> None:
    digests = set()
    for environment in ({}, ENVIRONMENT):
        digests.add(write_synthetic(str(tmp_path / "s.h5"), replace(synthetic(), environment=environment)))
        assert read_synthetic(str(tmp_path / "s.h5")).environment == environment
    assert len(digests) == 1


def test_an_environment_of_another_form_is_refused(tmp_path: Path) -> None:
    path = Path(write_evaluated(tmp_path / "e.json", environment=ENVIRONMENT))
    path.write_text(json.dumps({**json.loads(path.read_text()), "environment": [1]}))
    with pytest.raises(UsageError, match="'environment' is missing or not of the right type"):
        read_evaluation(str(path))
