"""Tables as other programs write them, images under other names than the table's, and trees without a table."""

import csv
import gzip
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from image_trees import flat, levels, made, table

from fairdd_cli.datasets._source import Request
from fairdd_cli.errors import UsageError

HEADER = ["image", "kind", "group"]
# Of each row the image's name, its class and its group: three images in each of four cells.
ROWS = [(f"img_{number:02d}", "ab"[number % 2], "uv"[number // 2 % 2]) for number in range(12)]


def draw(root: Path, names: Sequence[str]) -> Path:
    """An image of red 10 i under the i-th of the `names`."""
    for number, name in enumerate(names):
        flat(root / name, 10 * number, (8, 8))
    return root


def request(tmp_path: Path, rows: Sequence[Sequence[str]] = ROWS, **options: object) -> Request:
    """A request for the images in root/photos, described by the table of `rows`."""
    path = table(tmp_path / "labels.csv", [HEADER, *rows])
    chosen = {"root": tmp_path / "photos", "csv": (path,), "target": "kind", "protected": ("group",), "size": 8}
    return Request(**(chosen | options))  # type: ignore[arg-type]


def check(tmp_path: Path, asked: Request) -> list[str]:
    """Makes the data set, finds every image with its label and group, and returns what was said."""
    said: list[str] = []
    dataset = made("folder", tmp_path / "data.h5", replace(asked, say=said.append))
    for split in (dataset.train, dataset.test):
        reds = split.images.all()[:, 0, 4, 4].astype(int)
        numbers = np.round(reds / 10).astype(int)
        assert [dataset.class_names[label] for label in split.labels] == [ROWS[number][1] for number in numbers]
        assert [dataset.protected_names[group] for group in split.protected] == [ROWS[number][2] for number in numbers]
    assert len(dataset.train) + len(dataset.test) == len(ROWS)
    return said


# --- Names of images --------------------------------------------------------------------------------------------------


def spelled(on_disk: str, in_table: str) -> tuple[list[str], list[list[str]]]:
    """The files, and the rows that call them `in_table`; {} is a row's own name, {k} 0 or 1 in turn."""
    files = [on_disk.format(name, k=number % 2) for number, (name, *_) in enumerate(ROWS)]
    rows = [[in_table.format(name, k=number % 2), kind, group] for number, (name, kind, group) in enumerate(ROWS)]
    return files, rows


SPELLINGS = {
    "a suffix is added": ("{}.jpg", "{}"),
    "a suffix is removed": ("{}", "{}.jpg"),
    "a suffix is another": ("{}.png", "{}.jpg"),
    "a folder is added": ("images/{}.jpg", "{}.jpg"),
    "a folder and a suffix are added": ("images/{}.jpg", "{}"),
    "folders of parts": ("part_{k}/{}.jpg", "{}"),
    "the root's own name in front": ("train/{}.jpg", "photos/train/{}.jpg"),
    "an archive's name in front": ("train/{}.jpg", "CheXpert-v1.0-small/train/{}.jpg"),
    "an absolute path of another machine": ("train/{}.jpg", "/home/anna/data/train/{}.jpg"),
    "backslashes": ("train/a/{}.jpg", "train\\a\\{}.jpg"),
    "another case": ("Train/{}.JPG", "train/{}.jpg"),
    "decomposed on disk": (unicodedata.normalize("NFD", "é/{}.jpg"), unicodedata.normalize("NFC", "é/{}.jpg")),
    "composed on disk": (unicodedata.normalize("NFC", "é/{}.jpg"), unicodedata.normalize("NFD", "é/{}.jpg")),
    "a dot in the name": ("a.b/{}.c.jpg", "{}.c"),
    "all at once": ("Images/Train/{}.PNG", "set\\photos\\train\\{}"),
}


@pytest.mark.parametrize("case", SPELLINGS)
def test_names_that_are_spelled_differently(tmp_path: Path, case: str) -> None:
    files, rows = spelled(*SPELLINGS[case])
    draw(tmp_path / "photos", [name + ("" if "." in Path(name).name else ".png") for name in files])
    if case == "a suffix is removed":
        for name in files:
            (tmp_path / "photos" / f"{name}.png").rename(tmp_path / "photos" / name)
    (line,) = check(tmp_path, request(tmp_path, rows))
    assert line == f"'{rows[0][0]}' of the table is read as '{files[0]}', and the other rows likewise"


def test_names_that_stand_as_they_are_are_not_remarked(tmp_path: Path) -> None:
    files, rows = spelled("in/{}.jpg", "./in/{}.jpg")
    draw(tmp_path / "photos", files)
    assert check(tmp_path, request(tmp_path, rows)) == []


def test_files_that_nobody_means_are_passed_over(tmp_path: Path) -> None:
    files, rows = spelled("images/{}.jpg", "{}")
    draw(tmp_path / "photos", files)
    for name in ("._img_00.jpg", "__MACOSX/images/img_00.jpg", ".cache/img_00.jpg", "img_00.txt"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"litter")
    assert len(check(tmp_path, request(tmp_path, rows))) == 1


def test_one_missing_file_is_a_missing_file_however_the_others_are_spelled(tmp_path: Path) -> None:
    files, rows = spelled("images/{}.jpg", "{}")
    draw(tmp_path / "photos", files[:-1])
    with pytest.raises(
        UsageError, match=r"row 13: the file 'img_11' does not exist in '.*', where 'img_00' of the table"
    ):
        check(tmp_path, request(tmp_path, rows))


def test_two_files_that_a_name_may_mean(tmp_path: Path) -> None:
    files, rows = spelled("images/{}.jpg", "{}")
    draw(tmp_path / "photos", files)
    for name in files:
        flat(tmp_path / "photos" / name.replace("images", "masks"), 255, (8, 8))
    with pytest.raises(UsageError, match=r"'img_00' may be 'images/img_00.jpg' or 'masks/img_00.jpg' in .*; give"):
        check(tmp_path, request(tmp_path, rows))
    assert len(check(tmp_path, request(tmp_path, rows, root=tmp_path / "photos" / "images"))) == 1


def test_copies_of_a_file_are_one(tmp_path: Path) -> None:
    files, rows = spelled("images_{k}/{}.jpg", "{}")
    draw(tmp_path / "photos", files)
    draw(tmp_path / "photos", [name.replace("images", "IMAGES") for name in files])
    (line,) = check(tmp_path, request(tmp_path, rows))
    assert "'img_00' of the table is read as 'IMAGES_0/img_00.jpg'" in line


def test_two_columns_that_lead_to_files(tmp_path: Path) -> None:
    files, rows = spelled("{}.jpg", "{}.jpg")
    draw(tmp_path / "photos", files)
    rows = [[*row, f"mask_{row[0]}"] for row in rows]
    draw(tmp_path / "photos", [row[3] for row in rows])
    asked = request(tmp_path)
    table(tmp_path / "labels.csv", [[*HEADER, "mask"], *rows])
    with pytest.raises(UsageError, match=r"the columns 'image' and 'mask' lead to files .*, as in --path image"):
        check(tmp_path, asked)
    check(tmp_path, replace(asked, path="image"))
    with pytest.raises(UsageError, match=r"unknown column of .* 'maks': did you mean 'mask'"):
        check(tmp_path, replace(asked, path="maks"))


def test_long_texts_and_odd_ones_are_not_taken_for_paths(tmp_path: Path) -> None:
    files, rows = spelled("{}.jpg", "{}.jpg")
    draw(tmp_path / "photos", files)
    asked = request(tmp_path)
    odd = ["x" * 100_000, "a/" * 3000, "~", "\x1b[2J", "..", "\ud7ff", "/" * 50]
    table(tmp_path / "labels.csv", [["report", *HEADER], *([odd[k % len(odd)], *row] for k, row in enumerate(rows))])
    assert check(tmp_path, asked) == []


def test_a_name_of_odd_characters_goes_the_whole_way(tmp_path: Path) -> None:
    files, rows = spelled("a\u00a0b/{}\u3000\u200d👩\u200d🚀.png", "a\u00a0b/{}\u3000\u200d👩\u200d🚀.png")
    draw(tmp_path / "photos", files)
    assert check(tmp_path, request(tmp_path, rows)) == []


# --- Tables -----------------------------------------------------------------------------------------------------------


def text(delimiter: str = ",", first: str = "") -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter).writerows([HEADER, *((f"{name}.png", *rest) for name, *rest in ROWS)])
    return first + stream.getvalue()


def parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet

    columns = zip(*((f"{name}.png", *rest) for name, *rest in ROWS), strict=True)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(dict(zip(HEADER, map(list, columns), strict=True))), buffer)
    return buffer.getvalue()


FORMATS = {
    "semicolons": text(";").encode(),
    "tabs": text("\t").encode(),
    "pipes": text("|").encode(),
    "a declared delimiter": text("^", "sep=^\r\n").encode(),
    "a declared semicolon": text(";", "sep=;\r\n").encode(),
    "UTF-8 with a mark": text().encode("utf-8-sig"),
    "UTF-16": text("\t").encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + text("\t").encode("utf-16-be"),
    "UTF-16 without a mark": text("\t").encode("utf-16-le"),
    "gzipped": gzip.compress(text().encode()),
    "Parquet": parquet(),
    "long free text": text().replace("\r\n", f",{'word ' * 30_000}\r\n").encode(),
    "empty cells at the ends of rows": text().replace("\r\n", ",\r\n").replace("group,", "group").encode(),
}


@pytest.mark.parametrize("name", FORMATS)
def test_tables_of_other_programs(tmp_path: Path, name: str) -> None:
    draw(tmp_path / "photos", [f"{name}.png" for name, *_ in ROWS])
    asked = request(tmp_path)
    (tmp_path / "labels.csv").write_bytes(FORMATS[name])
    check(tmp_path, asked)


def test_typed_values_of_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    draw(tmp_path / "photos", [f"{name}.png" for name, *_ in ROWS])
    numbers = range(len(ROWS))
    columns = {
        "id": [name for name, *_ in ROWS],
        "age": [None if k == 0 else 10.0 * k for k in numbers],
        "tags": [["u", "v"] if k % 2 else ["u"] for k in numbers],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    asked = request(tmp_path, csv=(tmp_path / "t.parquet",), target='age<60,!=""', protected=("tags~v",), split="0.4")
    dataset = made("folder", tmp_path / "data.h5", asked)
    assert dataset.class_names == ("age<60", "age>=60")
    assert dataset.protected_names == ("no v", "v")
    assert dataset.options["left_out"] == {'age is ""': 1}


NOT_TABLES = {
    "a spreadsheet": (b"PK\x03\x04" + bytes(100), "is a spreadsheet or an archive; save the sheet as CSV"),
    "an old spreadsheet": (b"\xd0\xcf\x11\xe0" + bytes(100), "is an old spreadsheet; save it as CSV"),
    "a broken archive": (gzip.compress(text().encode())[:-9], "cannot be read"),
    "broken Parquet": (parquet()[:-20], "cannot be read"),
    "too many columns": (b"," * 20_000, "row 1: expected the columns' names, found"),
    "a million columns": (b"a," * 1_000_000, "row 1: expected the columns' names, found 1,000,001 columns"),
}


@pytest.mark.parametrize("name", NOT_TABLES)
def test_what_is_no_table(tmp_path: Path, name: str) -> None:
    content, message = NOT_TABLES[name]
    draw(tmp_path / "photos", ["a.png"])
    asked = request(tmp_path)
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        made("folder", tmp_path / "data.h5", asked)
    assert "\n" not in str(caught.value)


def test_several_tables(tmp_path: Path) -> None:
    draw(tmp_path / "photos", [f"{name}.png" for name, *_ in ROWS])
    first = table(tmp_path / "train.csv", [HEADER, *ROWS[:7]])
    second = table(tmp_path / "val.csv", [["group", "kind", "image"], *(row[::-1] for row in ROWS[7:])])
    check(tmp_path, request(tmp_path, csv=(first, second)))
    table(second, [["group", "kind", "image"], ["u", "", "img_07"]])
    with pytest.raises(UsageError, match=r"^'val.csv' row 2: column 'kind' is empty; leave such rows out: --target"):
        check(tmp_path, request(tmp_path, csv=(first, second)))


# --- A second table ---------------------------------------------------------------------------------------------------


def test_a_joined_table(tmp_path: Path) -> None:
    patients = [f"p{number}" for number in range(12)]
    draw(tmp_path / "photos", [f"{patient}/{name}.png" for patient, (name, *_) in zip(patients, ROWS, strict=True)])
    rows = [[f"{patient}/{name}.png", kind, "?"] for patient, (name, kind, _) in zip(patients, ROWS, strict=True)]
    asked = request(tmp_path, rows, protected=("race",), join=(f"{tmp_path / 'people.csv'}:PATIENT=path:1",))
    people = [
        ["PATIENT", "race"],
        *([patient, row[2]] for patient, row in zip(patients, ROWS, strict=True)),
        ["p99", "z"],
    ]
    table(tmp_path / "people.csv", people)
    check(tmp_path, asked)
    table(tmp_path / "people.csv", [*people, people[1]])
    check(tmp_path, asked)  # the same row twice
    table(tmp_path / "people.csv", people[:-2])
    with pytest.raises(UsageError, match=r"row 13: column 'race' is empty; leave such rows out: --protected"):
        check(tmp_path, asked)
    table(tmp_path / "people.csv", [*people, ["p0", "w"]])
    with pytest.raises(UsageError, match=r"people.csv' row 15: PATIENT 'p0' stands in an earlier row"):
        check(tmp_path, asked)
    table(tmp_path / "people.csv", [["PATIENT", "race"], ["p77", "u"]])
    with pytest.raises(UsageError, match="no PATIENT is a path:1 of the images: it has 'p77', they 'p0'"):
        check(tmp_path, asked)


@pytest.mark.parametrize(
    ("join", "message"),
    [
        ("people.csv", "should read FILE:KEY"),
        ("nowhere.csv:id", "nowhere.csv"),
        ("{}/people.csv:idd", "unknown column of .*people.csv' 'idd': did you mean 'id'"),
        ("{}/people.csv:id", "the table of the images has no column 'id'; say which .*people.csv:id=COLUMN or"),
        ("{}/people.csv:id=imag", "unknown column 'imag': did you mean 'image'"),
    ],
)
def test_joins_that_cannot_be(tmp_path: Path, join: str, message: str) -> None:
    draw(tmp_path / "photos", [f"{name}.png" for name, *_ in ROWS])
    table(tmp_path / "people.csv", [["id", "race"], ["img_00", "x"]])
    with pytest.raises(UsageError, match=message):
        check(tmp_path, request(tmp_path, join=(join.format(tmp_path),)))


# --- Trees without a table --------------------------------------------------------------------------------------------

TREES = {
    "MetaShift": (
        ["{split}/{kind}/{kind}({place})/{n}.jpg"],
        {"target": "path:2", "protected": ("path:3=indoor:*(indoor),outdoor:*(outdoor)",), "split": "path:1"},
        ("cat", "dog"),
        ("indoor", "outdoor"),
    ),
    "NICO++": (
        ["public_dg_0416/train/{place}/{kind}/{n}.jpg"],
        {"target": "path:4", "protected": ("path:3",)},
        ("cat", "dog"),
        ("indoor", "outdoor"),
    ),
    "UrbanCars": (
        ["bg-0.95_co_occur_obj-0.95/{split}/obj-{kind}_bg-{place}_co_occur_obj-{thing}/{n}.jpg"],
        {
            "target": "path:-1=cat:obj-cat_*,dog:obj-dog_*",
            "protected": ("path:-1=indoor:*_bg-indoor_*,outdoor:*_bg-outdoor_*", "path:-1=no:*-no,yes:*-yes"),
            "split": "path:2",
        },
        ("cat", "dog"),
        ("indoor & no", "indoor & yes", "outdoor & no", "outdoor & yes"),
    ),
    "ImageFolder with names that tell the group": (
        ["{split}/{kind}/{n}_{place}.jpg"],
        {"target": "path:-1", "protected": ("path:name=in:*_indoor*,out:*_outdoor*",), "split": "path:1=train,test:*"},
        ("cat", "dog"),
        ("in", "out"),
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_trees_without_a_table(tmp_path: Path, name: str) -> None:
    (pattern,), options, classes, groups = TREES[name]
    files, number = [], 0
    for kind in ("cat", "dog"):
        for place in ("indoor", "outdoor"):
            for thing in ("no", "yes"):
                for split in ("train", "test"):
                    for _ in range(2):
                        files.append(pattern.format(kind=kind, place=place, thing=thing, split=split, n=number))
                        number += 1
    for index, file in enumerate(files):
        flat(tmp_path / "tree" / file, 5 * index, (8, 8))
    (tmp_path / "tree" / "readme.txt").write_text("not an image")
    (tmp_path / "tree" / "._x.jpg").write_text("litter")
    asked = Request(root=tmp_path / "tree", size=8, **options)  # type: ignore[arg-type]
    dataset = made("folder", tmp_path / "data.h5", asked)
    assert dataset.name == "tree"
    assert dataset.class_names == classes
    assert dataset.protected_names == groups
    reds = np.round(levels(dataset) / 5).astype(int)
    assert np.array_equal(reds // 16, dataset.train.labels)
    assert np.array_equal(reds // 8 % 2, dataset.train.protected // (len(groups) // 2))
    if "split" in options:
        assert (reds // 2 % 2 == 0).all()


@pytest.mark.parametrize("test_folders", [True, False])
def test_one_percentage_of_a_tree_of_lff(tmp_path: Path, test_folders: bool) -> None:
    """cmnist and cifar10c: class and attribute in the file's name, the validation images inside each percentage."""
    root, number = tmp_path / "cmnist", 0
    for label in range(3):
        for attribute in range(3):
            kind = "align" if label == attribute else "conflict"
            name = f"{{}}_{label}_{attribute}.png"
            test = f"test/{label}/" if test_folders else "test/"
            places = [f"{per}/{part}/" for per in ("0.5pct", "1pct") for part in (f"{kind}/{label}", "valid")]
            for place in [*places, test] * 2:
                flat(root / f"{place}{name.format(number)}", 80 * label + 20 * attribute, (8, 8))
                number += 1
    (classes, groups) = (",".join(f"{n}:*_{n}{end}" for n in range(3)) for end in ("_?.png", ".png"))
    asked = Request(
        root=root,
        size=8,
        target=f"path:name={classes}",
        protected=(f"path:name={groups}",),
        split="path:all=train:0.5pct/align/*+0.5pct/conflict/*,val:0.5pct/valid/*,test:test/*",
        holdout="val",
    )
    dataset = made("folder", tmp_path / "data.h5", asked)
    assert (dataset.name, dataset.class_names, dataset.protected_names) == ("cmnist", ("0", "1", "2"), ("0", "1", "2"))
    assert {name: len(split) for name, split in dataset.splits().items()} == {"train": 18, "val": 18, "test": 18}
    for name in dataset.splits():
        split = getattr(dataset, name)
        reds = np.round(levels(dataset, name) / 20).astype(int)
        assert np.array_equal(reds // 4, split.labels)
        assert np.array_equal(reds % 4, split.protected)
    assert sum(dataset.options["left_out"].values()) == 36  # the other percentage


def test_a_tree_that_is_too_shallow(tmp_path: Path) -> None:
    draw(tmp_path / "tree", ["a/x/1.png", "b/y/2.png", "3.png"])
    asked = Request(root=tmp_path / "tree", target="path:1", protected=("path:2",))
    with pytest.raises(UsageError, match=r"tree' '3.png': the path '3.png' has no path:1"):
        made("folder", tmp_path / "data.h5", asked)
    with pytest.raises(UsageError, match="--path and --join are for tables"):
        made("folder", tmp_path / "data.h5", replace(asked, path="x"))


@pytest.mark.parametrize("name", ["HEIC", "DICOM"])
def test_images_that_are_not_read_are_named_and_not_passed_over(tmp_path: Path, name: str) -> None:
    suffix, content = {"HEIC": (".HEIC", b"\0\0\0\x18ftypheic"), "DICOM": (".dcm", bytes(128) + b"DICM")}[name]
    draw(tmp_path / "photos", [f"{kind}/{group}/{name}.png" for name, kind, group in ROWS])
    first = next((tmp_path / "photos" / "a" / "u").iterdir())
    first.rename(first.with_suffix(suffix)).write_bytes(content)
    asked = Request(root=tmp_path / "photos", size=8, target="path:1", protected=("path:2",))
    rows = [[f"{kind}/{group}/{name}", kind, group] for name, kind, group in ROWS]
    for each in (asked, request(tmp_path, rows)):  # a tree, and a table of ids without a suffix
        with pytest.raises(UsageError, match=rf"1 of 12 images cannot be read: .*{suffix}' \({name} is not read; conv"):
            made("folder", tmp_path / "data.h5", each)
        left = made("folder", tmp_path / "data.h5", replace(each, skip_unreadable=True))
        assert left.options["left_out"] == {"unreadable": 1}
    flat(first, 0, (8, 8))  # the same image, converted
    assert made("folder", tmp_path / "data.h5", asked).options["left_out"] == {}


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "scan.nii").write_bytes(b"")
    with pytest.raises(UsageError, match=r"holds no image; known suffixes are \.avif"):
        made("folder", tmp_path / "data.h5", Request(root=tmp_path, target="path:1", protected=("path:2",)))
