"""One's own images: what a CSV may say, and every fault of it in a line with its row."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from image_trees import flat, levels, made, table

from fairdd_cli.datasets._source import Request
from fairdd_cli.datasets._splits import BALANCING
from fairdd_cli.datasets.folder import default_name
from fairdd_cli.errors import UsageError

HEADER = ["id", "file", "smile", "gender", "necktie", "split"]
CELLS = list(product(("no", "yes"), ("female", "male"), (0, 1)))


def rows_of(copies: int, split: str = "") -> list[list[object]]:
    """`copies` rows for each cell; the image of row i has red i."""
    cells = [cell for cell in CELLS for _ in range(copies)]
    return [[number, f"in/{number}.png", *cell, split] for number, cell in enumerate(cells)]


def tree(root: Path, rows: list[list[object]], header: list[str] = HEADER) -> Path:
    """The images of `rows` under root/photos, and the table root/labels.csv."""
    for row in rows:
        flat(root / "photos" / str(row[1]), int(str(row[0])))
    return table(root / "labels.csv", [header, *rows])


def asked(root: Path, **options: object) -> Request:
    chosen = {"target": "smile", "protected": ("gender",), **options}
    return Request(root=root / "photos", csv=(root / "labels.csv",), **chosen)  # type: ignore[arg-type]


def test_a_test_split_is_drawn(tmp_path: Path) -> None:
    tree(tmp_path, rows_of(10))
    dataset = made("folder", tmp_path / "data.h5", asked(tmp_path))
    assert dataset.class_names == ("smile=no", "smile=yes")
    assert dataset.protected_names == ("female", "male")
    assert (dataset.test.count == 4).all()
    assert (dataset.train.count == 16).all()
    assert dataset.shape == (3, 64, 64)
    reds = np.concatenate([levels(dataset, "train"), levels(dataset, "test")])
    assert np.array_equal(np.sort(reds), np.arange(80))
    for split in (dataset.train, dataset.test):
        reds = split.images.all()[:, 0, 0, 0].astype(int)
        assert np.array_equal(reds // 40, split.labels)
        assert np.array_equal(reds // 20 % 2, split.protected)
    again = made("folder", tmp_path / "again.h5", asked(tmp_path))
    other = made("folder", tmp_path / "other.h5", asked(tmp_path, seed=1))
    assert dataset.digest == again.digest != other.digest


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("labels.csv", "labels"),
        ("labels_v0.1.csv", "labels_v0.1"),
        ("labels_v0.2.CSV.gz", "labels_v0.2"),
        ("a.b.parquet", "a.b"),
        ("labels", "labels"),
    ],
)
def test_a_data_set_is_called_as_its_table(table: str, name: str) -> None:
    assert default_name(Request(root=Path("photos"), csv=(Path("there.d", table),))) == name


def test_normalisation_is_that_of_the_training_images(tmp_path: Path) -> None:
    tree(tmp_path, rows_of(10))
    dataset = made("folder", tmp_path / "data.h5", asked(tmp_path, size=16))
    pixels = dataset.train.images.all() / 255
    assert dataset.mean == pytest.approx(pixels.mean(axis=(0, 2, 3)))
    assert dataset.std == pytest.approx(np.maximum(pixels.std(axis=(0, 2, 3)), 1 / 255))


def test_several_protected_attributes(tmp_path: Path) -> None:
    rows = [[*row[:4], "necktie" if row[4] else "no necktie", ""] for row in rows_of(5)]
    tree(tmp_path, rows)
    dataset = made("folder", tmp_path / "data.h5", asked(tmp_path, protected=("gender", "necktie"), test_per_cell=2))
    assert dataset.protected_names == ("female & necktie", "female & no necktie", "male & necktie", "male & no necktie")
    assert (dataset.train.count == 3).all()
    assert (dataset.test.count == 2).all()


def test_a_given_split_is_cut_to_its_smallest_cell(tmp_path: Path) -> None:
    rows = [[*row[:5], split] for row, split in zip(rows_of(9), ["train", "Test", "test", "val"] * 18, strict=True)]
    rows[0][5] = "test"
    tree(tmp_path, rows)
    dataset = made("folder", tmp_path / "data.h5", asked(tmp_path, split="split"))
    test = [row for row in rows if str(row[5]).lower() == "test"]
    cells = [sum(row[2:4] == list(cell) for row in test) for cell in product(("no", "yes"), ("female", "male"))]
    assert (dataset.test.count == min(cells)).all()
    assert set(levels(dataset, "train")) == {row[0] for row in rows if row[5] == "train"}
    assert set(levels(dataset, "test")) <= {row[0] for row in test}
    assert dataset.options["left_out"] == {"validation": 18, BALANCING: len(test) - 4 * min(cells)}
    assert len(test) > 4 * min(cells)
    fewer = made("folder", tmp_path / "fewer.h5", asked(tmp_path, split="split", test_per_cell=1))
    assert fewer.options["left_out"] == {"validation": 18, BALANCING: len(test) - 4}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_of_spreadsheets(tmp_path: Path, delimiter: str) -> None:
    rows = [[number, f" in/{number}.png ", *row[2:]] for number, row in enumerate(rows_of(2))]
    for row in rows:
        flat(tmp_path / "photos" / str(row[1]).strip(), 9)
    path = table(tmp_path / "labels.csv", [HEADER, *rows, []], delimiter)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(made("folder", tmp_path / "data.h5", asked(tmp_path)).train) == 12


def test_numbers_are_sorted_as_numbers_and_named_with_their_column(tmp_path: Path) -> None:
    rows = [[number, f"{number}.png", 9 + number % 2, "ab"[number // 2 % 2], 0, ""] for number in range(16)]
    tree(tmp_path, rows)
    dataset = made("folder", tmp_path / "data.h5", asked(tmp_path))
    assert dataset.class_names == ("smile=9", "smile=10")
    assert dataset.protected_names == ("a", "b")


FAULTS = {
    "a file that is missing": (1, "in/none.png", "row 5: the file 'in/none.png' does not exist"),
    "a path upwards": (1, "../secret.png", "row 5: the path '../secret.png' leads out of"),
    "an absolute path": (1, "/etc/hostname", "row 5: the path '/etc/hostname' leads out of"),
    "a link outwards": (1, "link.png", "row 5: the path 'link.png' leads out of"),
    "a folder outwards": (1, "door/secret.png", "row 5: the path 'door/secret.png' leads out of"),
    "a folder": (1, "in", "row 5: the file 'in' does not exist"),
    "an empty path": (1, "", "row 5: the path is empty"),
    "an image twice": (1, "in/../in/0.png", "row 5: the file 'in/../in/0.png' stands in row 2 already"),
    "an empty target": (2, " ", "row 5: column 'smile' is empty"),
    "an empty protected": (3, "", "row 5: column 'gender' is empty"),
    "a value of two lines": (3, "fe\nmale", "row 5: column 'gender' holds a line break"),
    "a split of another name": (5, "trian", "row 5: the split 'trian' is none of train, val, test; say what it is"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_has_its_row(tmp_path: Path, fault: str) -> None:
    column, value, message = FAULTS[fault]
    rows = rows_of(4, "train")
    tree(tmp_path, rows)
    flat(tmp_path / "secret.png", 1)
    (tmp_path / "photos" / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "photos" / "door").symlink_to(tmp_path)
    rows[3][column] = value
    table(tmp_path / "labels.csv", [HEADER, *rows])
    with pytest.raises(UsageError) as caught:
        made("folder", tmp_path / "data.h5", asked(tmp_path, split="split"))
    assert str(caught.value).startswith(f"'{tmp_path}/labels.csv' {message}")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*data.h5*"))


def test_many_faults_are_counted(tmp_path: Path) -> None:
    rows = rows_of(4)
    tree(tmp_path, rows)
    for row in rows[:8]:
        row[2] = ""
    rows[20] = rows[20][:3]
    table(tmp_path / "labels.csv", [HEADER, *rows])
    with pytest.raises(UsageError, match=r": 9 errors:\n  row 22: .*\n(  row .*\n){4}  and 4 more\nLeave"):
        made("folder", tmp_path / "data.h5", asked(tmp_path))


def test_links_within_the_folder_are_fine(tmp_path: Path) -> None:
    rows = rows_of(2)
    tree(tmp_path, rows)
    (tmp_path / "photos" / "link.png").symlink_to(tmp_path / "photos" / "in" / "3.png")
    rows[3][1] = "link.png"
    table(tmp_path / "labels.csv", [HEADER, *rows])
    assert len(made("folder", tmp_path / "data.h5", asked(tmp_path)).train) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": None}, "needs --root DIR"),
        ({"protected": ()}, "needs --root DIR"),
        ({"target": "smlie"}, "unknown column in --target 'smlie': did you mean 'smile'"),
        ({"protected": ("smile",)}, "column 'smile' is given twice"),
        ({"target": "split"}, "column 'split' should have 2 to 1,000 categories, but it has no value"),
        ({"target": "id"}, r"--test-per-cell|has no test image"),
        ({"csv": (Path("labels.csv"),)}, r"--csv 'labels.csv' does not exist; did you mean '.*photos/labels.csv'"),
        ({"root": Path("nowhere")}, "--root 'nowhere' is not a folder"),
        ({"bias_ratio": 0.5}, "--bias-ratio does not apply to data set 'folder'"),
        ({"download": True}, "--download does not apply to data set 'folder'"),
        ({"test_per_cell": 9}, r"--test-per-cell 9 .* the smallest cell, \(smile=no, female\), has 8 images"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, object], message: str) -> None:
    tree(tmp_path, rows_of(4))
    table(tmp_path / "photos" / "labels.csv", [HEADER])
    chosen = {
        "root": tmp_path / "photos",
        "csv": (tmp_path / "labels.csv",),
        "target": "smile",
        "protected": ("gender",),
    }
    with pytest.raises(UsageError, match=message):
        made("folder", tmp_path / "data.h5", Request(**(chosen | options)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row[:2] + ["yes"] + row[3:], "column 'smile' should have 2 to 1,000 categories, but it has one"),
        (lambda row: row[:3] + ["x"] + row[4:], "column 'gender' should have .* one value only, 'x'"),
        (lambda row: row[:3] + ["x" if row[2] == "yes" else "y"] + row[4:], r"the cell \(smile=no, x\) .*has no test"),
        (lambda row: row[:2] + [f"v{row[0]}"] + row[3:], r"the cell \(v0, male\) \(and 31 more\) has no test"),
    ],
)
def test_targets_and_groups_that_cannot_be_compared(tmp_path: Path, change: object, message: str) -> None:
    tree(tmp_path, [change(row) for row in rows_of(4)])  # type: ignore[operator]
    with pytest.raises(UsageError, match=message):
        made("folder", tmp_path / "data.h5", asked(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "row 1: expected the columns' names"),
        (b"a,smile,smile,gender\n", "row 1: two columns are called 'smile'"),
        (b"file,smile,gender\n", "no column leads to files in .*its first row has nothing"),
        (b"file,smile,gender\nx,yes,male\n", "no column leads to files in .*file='x'"),
        ("file,smile,gender\nin/0.png,é,male\n".encode("latin1"), "not UTF-8 text"),
        (b"file,smile,gender\n" + b"x" * 200_000 + b",yes,male\n", r"no column leads to files in .*file='x{40}'"),
        (b'file,smile,gender\n"' + b"x" * (2**24 + 1), "cannot be read after row 1: field larger"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, content: bytes, message: str) -> None:
    tree(tmp_path, rows_of(1))
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        made("folder", tmp_path / "data.h5", asked(tmp_path))
