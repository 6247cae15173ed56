"""CelebA, UTKFace and BFFHQ: small trees in their layouts, and the published counts from lists of the true sizes."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from image_trees import celeba, flat, levels, made

from fairdd_cli.artifacts import BiasedDataset
from fairdd_cli.datasets import DATASETS, bffhq, utkface
from fairdd_cli.datasets import celeba as celeba_set
from fairdd_cli.datasets._source import Request, Source
from fairdd_cli.datasets.images.files import ImageTable, file_source
from fairdd_cli.errors import UsageError
from fairdd_cli.reporting.cells import class_bias


def counts(source: Source, split: str) -> np.ndarray:
    """Cell table [classes, groups] of a source, without its images."""
    samples, groups = getattr(source, split), len(source.protected_names)
    cells = np.bincount(samples.labels * groups + samples.protected, minlength=len(source.class_names) * groups)
    return cells.reshape(-1, groups)


def undecoded(table: ImageTable, test_per_cell: int | None = None) -> Source:
    return file_source(Request(), table, None, None, test_per_cell)


# --- CelebA ---------------------------------------------------------------------------------------------------------

PEOPLE = [
    (part, {"Attractive": attractive, "Male": male, "Wearing_Necktie": tie, "Young": 1})
    for part in (0, 1, 2)
    for attractive, male, tie in product((0, 1), repeat=3)
    for _ in range(1 + attractive)
]


@pytest.mark.parametrize("form", ["txt", "csv"])
def test_celeba(tmp_path: Path, form: str) -> None:
    root = celeba(tmp_path / "celeba", PEOPLE, form)
    dataset = made("celeba", tmp_path / "data.h5", Request(root=tmp_path))
    assert root.name == "celeba"
    assert dataset.class_names == ("not attractive", "attractive")
    assert dataset.protected_names == ("female", "male")
    assert dataset.train.count.tolist() == [[2, 2], [4, 4]]
    assert dataset.test.count.tolist() == [[2, 2], [2, 2]]
    assert dataset.shape == (3, 64, 64)
    assert (dataset.mean, dataset.std) == (celeba_set.MEAN, celeba_set.STD)
    for split, part in (("train", 0), ("test", 2)):
        samples = getattr(dataset, split)
        for red, label, protected in zip(levels(dataset, split), samples.labels, samples.protected, strict=True):
            found_part, found = PEOPLE[round(red * len(PEOPLE) / 255) - 1]
            assert (found_part, found["Attractive"], found["Male"]) == (part, label, protected)


def test_celeba_combines_protected_attributes(tmp_path: Path) -> None:
    celeba(tmp_path, PEOPLE)
    dataset = made("celeba", tmp_path / "data.h5", Request(root=tmp_path, protected=("gender", "necktie"), size=32))
    assert dataset.protected_names == ("female & no necktie", "female & necktie", "male & no necktie", "male & necktie")
    assert dataset.train.count.tolist() == [[1] * 4, [2] * 4]
    assert dataset.options["protected"] == ["Male", "Wearing_Necktie"]
    assert dataset.shape == (3, 32, 32)


def test_celeba_has_validation_images(tmp_path: Path) -> None:
    celeba(tmp_path, PEOPLE)
    dataset = made("celeba", tmp_path / "data.h5", Request(root=tmp_path, holdout="val", size=32))
    assert dataset.val is not None
    assert dataset.val.count.tolist() == [[2, 2], [2, 2]]
    for red in levels(dataset, "val"):
        assert PEOPLE[round(red * len(PEOPLE) / 255) - 1][0] == 1


def test_celeba_swaps_target_and_protected(tmp_path: Path) -> None:
    celeba(tmp_path, PEOPLE)
    dataset = made("celeba", tmp_path / "data.h5", Request(root=tmp_path, target="male", protected=("attractive",)))
    assert (dataset.class_names, dataset.protected_names) == (("female", "male"), ("not attractive", "attractive"))


def test_celeba_counts_are_those_of_the_table(tmp_path: Path) -> None:
    train = {(0, 0): 30_000, (0, 1): 49_167, (1, 0): 64_500, (1, 1): 19_103}
    test = {(0, 0): 4_263, (0, 1): 5_801, (1, 0): 7_984, (1, 1): 1_914}
    people = [
        (part, {"Attractive": attractive, "Male": male})
        for part, cells in ((0, train), (1, {(0, 0): 19_867}), (2, test))
        for (attractive, male), count in cells.items()
        for _ in range(count)
    ]
    assert len(people) == 202_599
    celeba(tmp_path, people, images=False)
    lists = (tmp_path / f"list_{which}.txt" for which in ("attr_celeba", "eval_partition"))
    source = undecoded(celeba_set.image_table(tmp_path, *lists, None, ()))
    assert len(source.train.labels) == 162_770
    assert np.round(class_bias(counts(source, "train")), 2).tolist() == [0.62, 0.77]
    assert counts(source, "test").tolist() == [[1_914] * 2] * 2
    assert len(source.test.labels) == 7_656


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"target": "Atractive"}, "did you mean 'Attractive'"),
        ({"target": "Male"}, "can't be both"),
        ({"protected": ("Young",)}, "all images belong to one group, 'young'"),
        ({"csv": Path("x")}, "--csv does not apply to data set 'celeba', which takes --download"),
        ({"size": 4}, "--size 4 is out of range"),
        ({"workers": 0}, "--workers 0 is out of range"),
        (
            {"test_per_cell": 3},
            r"--test-per-cell 3 is out of range: the smallest cell, \(not attractive, female\), has 2",
        ),
    ],
)
def test_celeba_options_out_of_place(tmp_path: Path, options: dict[str, object], reason: str) -> None:
    celeba(tmp_path, PEOPLE)
    with pytest.raises(UsageError, match=reason):
        made("celeba", tmp_path / "data.h5", Request(root=tmp_path, **options))  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*data.h5*"))


def break_list(root: Path, name: str, old: str, new: str) -> None:
    (root / name).write_text((root / name).read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("list_attr_celeba.txt", "000002.jpg", "../002.jpg", "row 4: '../002.jpg' is not in"),
        ("list_attr_celeba.txt", "000002.jpg", "000001.jpg", "row 4: '000001.jpg' is not in .* or stands here twice"),
        ("list_attr_celeba.txt", "000001.jpg -1", "000001.jpg  7", "row 3: expected a file name and 4 values"),
        ("list_attr_celeba.txt", "36\n", "Attractive Male\n", "row 1: expected the number of images"),
        ("list_eval_partition.txt", "000002.jpg 0", "000002.jpg 5", "row 2: expected an image and 0, 1 or 2"),
        (
            "list_eval_partition.txt",
            "000002.jpg 0\n",
            "000002.jpg 0\n999999.jpg 0\n",
            "lacks 1 images of .*'999999.jpg'",
        ),
    ],
)
def test_celeba_lists_that_are_not_sound(tmp_path: Path, name: str, old: str, new: str, reason: str) -> None:
    celeba(tmp_path, PEOPLE)
    break_list(tmp_path, name, old, new)
    with pytest.raises(UsageError, match=reason):
        made("celeba", tmp_path / "data.h5", Request(root=tmp_path))


def test_celeba_images_that_are_missing_are_counted(tmp_path: Path) -> None:
    celeba(tmp_path, PEOPLE)
    (tmp_path / "img_align_celeba" / "000003.jpg").unlink()
    with pytest.raises(UsageError, match=r"1 of 36 images are not in .*'000003.jpg' first"):
        made("celeba", tmp_path / "data.h5", Request(root=tmp_path))


# --- UTKFace --------------------------------------------------------------------------------------------------------

AGES = (5, 19, 20, 39, 40, 101)


def test_utkface(tmp_path: Path) -> None:
    stamp = 20170109150557335
    for age, gender, race, copy in product(AGES, (0, 1), range(5), range(2)):
        flat(tmp_path / "UTKFace" / f"{age}_{gender}_{race}_{stamp + copy}.jpg.chip.jpg", age)
    for name in ("61_1_20170109142408075.jpg.chip.jpg", "x.jpg", "44_1_9_20170109142408075.jpg"):
        flat(tmp_path / "UTKFace" / name, 0)
    dataset = made("utkface", tmp_path / "data.h5", Request(root=tmp_path, test_per_cell=3))
    assert dataset.class_names == ("under 20", "20-39", "40 and over")
    assert dataset.protected_names == ("White", "Black", "Asian", "Indian")
    assert (dataset.test.count == 3).all()
    assert (dataset.train.count == 5).all()
    assert dataset.options["left_out"] == {"malformed name": 3, "race 4": 24}
    assert (dataset.mean, dataset.std) == (utkface.MEAN, utkface.STD)
    bounds = np.digitize(levels(dataset), (20 - 1, 40 - 1), right=True)
    assert np.array_equal(bounds, dataset.train.labels)
    by_gender = made("utkface", tmp_path / "g.h5", Request(root=tmp_path, test_per_cell=3, protected=("gender",)))
    assert by_gender.protected_names == ("male", "female")
    assert (by_gender.test.count == 3).all()


def test_utkface_counts_are_those_of_the_table() -> None:
    shares = {(10, 0): 2_335, (10, 1): 520, (10, 2): 1_020, (10, 3): 910}  # under 20: White 0.53 after the test split
    shares |= {(30, 0): 3_900, (30, 1): 2_700, (30, 2): 1_900, (30, 3): 2_200}
    shares |= {(50, 0): 3_843, (50, 1): 1_306, (50, 2): 514, (50, 3): 865, (25, 4): 1_692}
    names = [
        f"{age}_{index % 2}_{race}_{index:017d}.jpg.chip.jpg"
        for (age, race), count in shares.items()
        for index in range(count)
    ]
    names += ["39_1_20170116174525125.jpg.chip.jpg"] * 3
    assert len(names) == 23_708
    table = utkface.image_table(Path(), names)
    source = undecoded(table, utkface.TEST_PER_CELL)
    assert (len(source.train.labels), len(source.test.labels)) == (20_813, 1_200)
    assert (counts(source, "test") == 100).all()
    assert table.left_out == {"malformed name": 3, "race 4": 1_692}
    assert not set(source.train.pixels.names) & set(source.test.pixels.names)  # type: ignore[attr-defined]


def test_utkface_with_too_few_images_says_so(tmp_path: Path) -> None:
    for age, race in product((10, 30, 50), range(4)):
        flat(tmp_path / f"{age}_0_{race}_20170109150557335.jpg", 0)
    with pytest.raises(UsageError, match=r"--test-per-cell 100 .* \(under 20, White\), has 1 images"):
        made("utkface", tmp_path / "data.h5", Request(root=tmp_path))
    with pytest.raises(UsageError, match="unknown protected attribute of UTKFace 'rage': did you mean 'race'"):
        made("utkface", tmp_path / "data.h5", Request(root=tmp_path, protected=("rage",)))


# --- BFFHQ ----------------------------------------------------------------------------------------------------------


def bffhq_tree(root: Path, aligned: int, conflicting: int, test: int, **options: object) -> BiasedDataset:
    """BFFHQ of all four kinds; the one with P % of conflicting images has a red that is P higher."""
    for age, gender in product((0, 1), repeat=2):
        kind, count = ("align", aligned) if age == gender else ("conflict", conflicting)
        red = 100 * age + 50 * gender
        for number, percent in product(range(count), ("0.5", "1", "2", "5")):
            flat(root / f"{percent}pct" / kind / str(age) / f"{number}_{age}_{gender}.png", red + int(float(percent)))
        for number in range(test):
            flat(root / "test" / f"{number}_{age}_{gender}.png", red)
        flat(root / "valid" / f"1_{age}_{gender}.png", red)
    flat(root / "test" / "cover.png", 0)
    return made("bffhq", root / "data.h5", Request(root=root.parent, **options))  # type: ignore[arg-type]


def test_bffhq(tmp_path: Path) -> None:
    dataset = bffhq_tree(tmp_path / "bffhq", aligned=6, conflicting=1, test=3)
    assert (dataset.class_names, dataset.protected_names) == (("young", "old"), ("female", "male"))
    assert dataset.train.count.tolist() == [[6, 1], [1, 6]]
    assert (dataset.test.count == 3).all()
    assert dataset.options["left_out"] == {"malformed name": 1, "validation": 4}
    assert dataset.shape == (3, 64, 64)
    for split in ("train", "test"):
        part = getattr(dataset, split)
        assert np.array_equal(levels(dataset, split), 100 * part.labels + 50 * part.protected)


@pytest.mark.parametrize(("ratio", "percent"), [(0.995, 0), (0.99, 1), (0.98, 2), (0.95, 5)])
def test_bffhq_of_each_bias_ratio(tmp_path: Path, ratio: float, percent: int) -> None:
    dataset = bffhq_tree(tmp_path / "bffhq", aligned=3, conflicting=1, test=1, bias_ratio=ratio, holdout="val")
    assert dataset.train.count.tolist() == [[3, 1], [1, 3]]
    assert np.array_equal(levels(dataset), 100 * dataset.train.labels + 50 * dataset.train.protected + percent)
    assert dataset.options["bias_ratio"] == ratio
    assert dataset.val is not None
    assert (dataset.val.count == 1).all()
    with pytest.raises(UsageError, match=r"--bias-ratio 0\.9 is not one that BFFHQ was published with"):
        made("bffhq", tmp_path / "x.h5", Request(root=tmp_path, bias_ratio=0.9))


def test_bffhq_counts_are_those_of_the_table() -> None:
    names = [f"0.5pct/align/{age}/{number}_{age}_{age}.png" for age in (0, 1) for number in range(9_552)]
    names += [f"0.5pct/conflict/{age}/{number}_{age}_{1 - age}.png" for age in (0, 1) for number in range(48)]
    names += [f"test/{number}_{number % 2}_{number // 2 % 2}.png" for number in range(1_000)]
    source = undecoded(bffhq.image_table(Path(), names))
    assert (len(source.train.labels), len(source.test.labels)) == (19_200, 1_000)
    assert class_bias(counts(source, "train")).tolist() == [0.995, 0.995]


# --- All ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["celeba", "utkface", "bffhq"])
@pytest.mark.parametrize("download", [False, True])
def test_what_may_not_be_downloaded_is_explained(tmp_path: Path, name: str, download: bool) -> None:
    with pytest.raises(UsageError, match=r"https://[^\n]*\nExpected:\n.*missing") as caught:
        DATASETS.load(name).source(Request(root=tmp_path, download=download))
    assert ("--download cannot fetch it" in str(caught.value)) is download


def test_the_tree_says_what_was_found(tmp_path: Path) -> None:
    celeba(tmp_path, PEOPLE, images=False)
    with pytest.raises(UsageError, match=r"\*\.jpg +missing\n.*list_attr_celeba\.txt or \.csv +found\n"):
        made("celeba", tmp_path / "data.h5", Request(root=tmp_path))
