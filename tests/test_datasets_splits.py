"""Splits: drawn without a leak, held out for validation, given in many words, and counterfactual."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_trees import flat, levels, made, table

import fairdd_cli
from fairdd_cli.datasets._source import Request
from fairdd_cli.datasets._splits import Cells, hold_out, per_cell_of
from fairdd_cli.errors import UsageError

CLASSES, GROUPS = ("a", "b"), ("u", "v")


def cells_of(numbers: list[int]) -> Cells:
    return Cells(np.array(numbers) // 2, np.array(numbers) % 2, CLASSES, GROUPS)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=30, max_size=90), st.integers(0, 99))
def test_nobody_is_in_two_parts(rows: list[tuple[int, int]], seed: int) -> None:
    cells, units = cells_of([cell for cell, _ in rows]), np.array([unit for _, unit in rows])
    if cells.sizes.min() < 2:
        return
    held, rest = hold_out(cells, units, 2, np.random.default_rng(seed))
    assert (cells.at(held).sizes == 2).all()
    assert not set(units[held]) & set(units[rest])
    again, _ = hold_out(cells, units, 2, np.random.default_rng(seed))
    assert np.array_equal(held, again)


@given(st.lists(st.integers(0, 3), min_size=30, max_size=90), st.integers(0, 99))
def test_without_units_every_image_is_used(numbers: list[int], seed: int) -> None:
    cells = cells_of(numbers)
    if not cells.sizes.min():
        return
    held, rest = hold_out(cells, None, 1, np.random.default_rng(seed))
    assert sorted([*held, *rest]) == list(range(len(numbers)))
    assert (cells.at(held).sizes == 1).all()


@pytest.mark.parametrize(
    ("text", "expected"), [("0.1", 5), ("10%", 5), ("0.001", 1), ("7", 7), ("1", 1), ("20.0", 20), ("0.5", 27)]
)
def test_shares_and_numbers(text: str, expected: int) -> None:
    assert per_cell_of(text, 55, "--holdout") == expected


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "100%", "many", "", "nan", "inf"])
def test_what_is_neither_a_share_nor_a_number(text: str) -> None:
    with pytest.raises(UsageError, match=f"--holdout '{text}' should be a share of the smallest cell"):
        per_cell_of(text, 55, "--holdout")


# --- A folder of photographs: 10 of each of four cells, two of each patient -----------------------------------------


def photographs(root: Path, **options: object) -> Request:
    rows = [[f"{n}.png", "ab"[n // 2 % 2], "uv"[n // 4 % 2], f"p{n // 2}", "012"[n // 2 % 3]] for n in range(40)]
    for number, row in enumerate(rows):
        flat(root / "photos" / row[0], 6 * number, (8, 8))
    csv = table(root / "labels.csv", [["file", "kind", "group", "patient", "split"], *rows])
    chosen = {"root": root / "photos", "csv": (csv,), "target": "kind", "protected": ("group",), "size": 8}
    return Request(**(chosen | options))  # type: ignore[arg-type]


def numbers(dataset: object, split: str) -> np.ndarray:
    """Of each image of a split, which photograph it is."""
    return np.round(levels(dataset, split) / 6).astype(int)  # type: ignore[arg-type]


def test_a_drawn_split_keeps_patients_apart(tmp_path: Path) -> None:
    dataset = made("folder", tmp_path / "data.h5", photographs(tmp_path, group_by="patient", holdout="1", split="0.3"))
    assert (dataset.test.count == 3).all()
    assert dataset.val is not None
    assert (dataset.val.count == 1).all()
    patients = {split: set(numbers(dataset, split) // 2) for split in ("train", "val", "test")}
    assert not patients["train"] & patients["test"]
    assert not patients["train"] & patients["val"]
    assert not patients["val"] & patients["test"]
    # Of each cell, 3 of the 4 images of two patients are for testing, and 1 of the 2 of another for validation.
    assert dataset.options["left_out"] == {"from the same patient as held-out images": 8}


def test_patients_that_are_written_differently_are_one(tmp_path: Path) -> None:
    request = photographs(tmp_path, group_by="patient", split="0.3")
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    odd = [line.replace(",p", ",P") if number % 2 else line for number, line in enumerate(lines)]
    (tmp_path / "labels.csv").write_text("\n".join(odd))
    dataset = made("folder", tmp_path / "data.h5", request)
    assert not set(numbers(dataset, "train") // 2) & set(numbers(dataset, "test") // 2)


def test_a_given_split_that_leaks_is_refused(tmp_path: Path) -> None:
    request = photographs(tmp_path, group_by="patient", split="split")
    made("folder", tmp_path / "data.h5", request)
    rows = (tmp_path / "labels.csv").read_text().replace("0.png,a,u,p0,0", "0.png,a,u,p0,2", 1)
    (tmp_path / "labels.csv").write_text(rows)
    with pytest.raises(UsageError, match="--group-by patient: 1 of them, 'p0' first, have images in training and in"):
        made("folder", tmp_path / "data.h5", request)


def test_a_row_without_a_patient_is_an_error(tmp_path: Path) -> None:
    request = photographs(tmp_path, group_by="patient")
    (tmp_path / "labels.csv").write_text((tmp_path / "labels.csv").read_text().replace(",p0,", ",,", 1))
    with pytest.raises(UsageError, match=r"labels.csv' row 2: column 'patient' is empty"):
        made("folder", tmp_path / "data.h5", request)
    with pytest.raises(UsageError, match="--group-by 'patient!=p1' should be a column alone"):
        made("folder", tmp_path / "data.h5", replace(request, group_by="patient!=p1"))


WORDS = {
    "codes": ("0", "1", "2", "split"),
    "codes of a spreadsheet": ("0.0", "1.0", "2.0", "split"),
    "words": ("Train", "valid", "TEST", "split"),
    "WILDS": ("train", "id_val", "test", "split"),
    "codes that are listed": ("0", "1", "2", "split=2,0,1"),
    "one's own words for one of them": ("fold1", "1", "2", "split=train:fold1,*"),
    "one's own words": ("fold1", "fold2", "fold3", "split=train:fold1,val:fold2,test:fold3"),
}


@pytest.mark.parametrize("case", WORDS)
@pytest.mark.parametrize("holdout", [None, "val"])
def test_words_for_splits(tmp_path: Path, case: str, holdout: str | None) -> None:
    train, val, test, option = WORDS[case]
    request = photographs(tmp_path, split=option, holdout=holdout)
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    words = {"0": train, "1": val, "2": test}
    changed = [line.rpartition(",")[0] + "," + words[line[-1]] for line in lines[1:]]
    (tmp_path / "labels.csv").write_text("\n".join([lines[0], *changed]))
    dataset = made("folder", tmp_path / "data.h5", request)
    assert set(numbers(dataset, "train") // 2 % 3) == {0}
    assert set(numbers(dataset, "test") // 2 % 3) == {2}
    if holdout:
        assert dataset.val is not None
        assert set(numbers(dataset, "val") // 2 % 3) == {1}
        assert len(np.unique(dataset.val.count)) == 1
    else:
        assert dataset.val is None
        assert dataset.options["left_out"]["validation"] == 14


@pytest.mark.parametrize(
    ("holdout", "message"),
    [
        ("8", r"--holdout 8 leaves nothing to train on in the cell \(a, u\), which has 8 training images"),
        ("0", "should be a share of the smallest cell"),
        ("val", "--holdout val: the source sets no validation images apart"),
    ],
)
def test_holdouts_that_cannot_be(tmp_path: Path, holdout: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        made("folder", tmp_path / "data.h5", photographs(tmp_path, holdout=holdout))


# --- Rendered groups ------------------------------------------------------------------------------------------------


def test_every_test_image_in_every_colour(tmp_path: Path) -> None:
    request = Request(embedded=True)
    paper = made("c-fmnist-fg", tmp_path / "paper.h5", request)
    every = made("c-fmnist-fg", tmp_path / "all.h5", replace(request, test_groups="all"))
    assert np.array_equal(every.train.images.all(), paper.train.images.all())
    assert (every.test.count == 10 * paper.test.count).all()
    images, start, count = every.test.images.all(), every.test.start, every.test.count
    for label in range(10):
        white = images[start[label, 9] : start[label, 9] + count[label, 9], 0]  # the colour (255, 255, 255)
        for group, colour in ((0, (1, 0, 0)), (4, (0, 1, 0)), (8, (1, 0, 1))):
            own = images[start[label, group] : start[label, group] + count[label, group]]
            assert np.array_equal(own, np.stack([white * channel for channel in colour], axis=1))


def test_a_holdout_of_any_data_set(tmp_path: Path) -> None:
    whole = made("c-fmnist-bg", tmp_path / "whole.h5", Request(embedded=True))
    dataset = made("c-fmnist-bg", tmp_path / "data.h5", Request(embedded=True, holdout="0.5"))
    assert dataset.val is not None
    per_cell = int(whole.train.count.min()) // 2
    assert (dataset.val.count == per_cell).all()
    assert np.array_equal(dataset.train.count + per_cell, whole.train.count)
    assert len(fairdd_cli.load(str(tmp_path / "data.h5"), split="val")) == 100 * per_cell
    with pytest.raises(UsageError, match="has no val split"):
        fairdd_cli.load(str(tmp_path / "whole.h5"), split="val")


# --- The commands ---------------------------------------------------------------------------------------------------


def test_the_whole_way_by_command(tmp_path: Path, fairdd: Callable[..., CompletedProcess[str]]) -> None:
    photographs(tmp_path)
    words = ["--root", "photos", "--csv", "labels.csv", "--target", "kind=b,a", "--protected", "group", "--size", "16"]
    done = fairdd("make-dataset", "folder", *words, "--group-by", "patient", "--holdout", "1", "--name", "my photos")
    assert done.stdout == "my photos.h5\n"
    assert "my photos: " in done.stderr
    assert "4 validation, " in done.stderr
    assert "Training images of each class and group" in done.stderr
    described = fairdd("inspect", "my photos.h5")
    assert "4 validation, " in described.stdout + described.stderr
    dataset = fairdd_cli.load(str(tmp_path / "my photos.h5"))
    assert dataset.classes == ("b", "a")
    made_by = ["--method", "random", "--ipc", "1", "--network", "mlp"]
    synthetic = fairdd("distill", "my photos.h5", *made_by).stdout.strip()
    once = ["--seeds", "1", "--epochs", "1"]
    assert fairdd("evaluate", synthetic, *once).stdout == "runs/my photos.random-vanilla-ipc1.json\n"
    by_val = fairdd("evaluate", synthetic, *once, "--split", "val").stdout
    assert by_val == "runs/my photos.random-vanilla-ipc1.val.json\n"
    report = fairdd("report", "--format", "csv", *sorted(str(path) for path in (tmp_path / "runs").iterdir()))
    assert len(report.stdout.strip().splitlines()) == 3  # two rows, kept apart
    fairdd("make-dataset", "folder", *words, "-o", "plain.h5")
    plain = fairdd("distill", "plain.h5", *made_by).stdout.strip()
    refused = fairdd("evaluate", plain, *once, "--split", "val", check=False)
    assert refused.returncode == 2
    assert "'plain.h5' has no validation split; make one with" in refused.stderr.replace(f"{tmp_path}/", "")
