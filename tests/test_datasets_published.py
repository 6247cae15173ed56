"""Published data sets with tables: trees in their exact layouts, read with labels, groups, splits and counts."""

import gzip
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from image_trees import flat, levels, made, table

from fairdd_cli.artifacts import BiasedDataset
from fairdd_cli.cli.entries import describe, titles
from fairdd_cli.datasets import DATASETS
from fairdd_cli.datasets._source import Request
from fairdd_cli.errors import UsageError

PUBLISHED = ("waterbirds", "fairface", "ham10000", "chexpert", "metashift")
STEP = 3  # of red between one image and the next


def image(path: Path, number: int) -> None:
    """The image of red STEP * number."""
    flat(path, STEP * number, (8, 8))


def seen(dataset: BiasedDataset, split: str) -> dict[int, tuple[str, str]]:
    """The class and group of each image of a split, by its number."""
    part = getattr(dataset, split)
    numbers = (levels(dataset, split) + STEP // 2) // STEP
    return {
        int(number): (dataset.class_names[label], dataset.protected_names[group])
        for number, label, group in zip(numbers, part.labels, part.protected, strict=True)
    }


def check(dataset: BiasedDataset, expected: Sequence[tuple[str, str, str]]) -> None:
    """Every image that the data set holds has the (class, group, split) that is `expected` of its number."""
    for split in ("train", "val", "test"):
        if getattr(dataset, split) is not None:
            for number, (label, group) in seen(dataset, split).items():
                assert expected[number] == (label, group, split)


# --- Waterbirds -------------------------------------------------------------------------------------------------------

BIRDS = ("001.Black_footed_Albatross", "012.Yellow_headed_Blackbird")
# (y, place) of the images of each split, 0 train, 1 val, 2 test: training is biased, the others are balanced in place.
WATERBIRDS = [
    *((y, place, 0) for y, place in product((0, 1), repeat=2) for _ in range(6 if y == place else 2)),
    *((y, place, split) for split in (1, 2) for y, place in product((0, 1), repeat=2) for _ in range(4 - y)),
]


def waterbirds(root: Path) -> Path:
    rows = []
    for number, (y, place, split) in enumerate(WATERBIRDS):
        name = f"{BIRDS[1 - y]}/{BIRDS[1 - y][4:]}_{number:04d}_{1000 + number}.jpg"
        rows.append([number + 1, name, y, split, place, f"/{'bo'[place]}/place/{number:08d}.jpg"])
        image(root / name, number)
    header = ["img_id", "img_filename", "y", "split", "place", "place_filename"]
    table(root / "metadata.csv", [header, *rows])
    return root


@pytest.mark.parametrize("base", ["waterbird_complete95_forest2water2", "waterbirds_v1.0", "."])
def test_waterbirds(tmp_path: Path, base: str) -> None:
    root = waterbirds(tmp_path / "tree" / base)
    (root / "RELEASE_v1.0.txt").write_text("")
    dataset = made("waterbirds", tmp_path / "data.h5", Request(root=tmp_path / "tree", size=8, holdout="val"))
    assert (dataset.name, dataset.class_names) == ("waterbirds", ("landbird", "waterbird"))
    assert dataset.protected_names == ("land", "water")
    assert dataset.train.count.tolist() == [[6, 2], [2, 6]]
    assert dataset.test.count.tolist() == [[3, 3], [3, 3]]
    assert dataset.val is not None
    assert dataset.val.count.tolist() == [[3, 3], [3, 3]]
    words = (("landbird", "waterbird"), ("land", "water"), ("train", "val", "test"))
    check(dataset, [tuple(names[value] for names, value in zip(words, row, strict=True)) for row in WATERBIRDS])  # type: ignore[misc]
    pooled = Request(root=tmp_path / "tree", size=8, split="split=train:0+1,test:2")
    assert made("waterbirds", tmp_path / "p.h5", pooled).train.count.tolist() == [[10, 6], [5, 9]]
    swapped = made(
        "waterbirds", tmp_path / "b.h5", Request(root=tmp_path / "tree", target="place", protected=("y",), size=8)
    )
    assert (swapped.class_names, swapped.protected_names) == (("land", "water"), ("landbird", "waterbird"))
    assert swapped.options["left_out"]["validation"] == 14


def test_a_split_that_waterbirds_has_not(tmp_path: Path) -> None:
    root = waterbirds(tmp_path)
    (root / "metadata.csv").write_text((root / "metadata.csv").read_text().replace(",0,0,0,", ",0,3,0,", 1))
    with pytest.raises(UsageError, match=r"metadata.csv' row 2: the split '3' is none of train, val, test; say what"):
        made("waterbirds", tmp_path / "data.h5", Request(root=tmp_path))


def test_a_missing_bird_is_named_with_its_row(tmp_path: Path) -> None:
    root = waterbirds(tmp_path)
    next(root.glob("001*/*0015*.jpg")).unlink()
    with pytest.raises(UsageError, match=r"metadata.csv' row 17: the file '001.Black.*0015_1015.jpg' does not exist"):
        made("waterbirds", tmp_path / "data.h5", Request(root=tmp_path))


# --- FairFace ---------------------------------------------------------------------------------------------------------

AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
RACES = ("White", "Black")
FACES = [
    (age, gender, race, part)
    for part, copies in (("train", 2), ("val", 1))
    for age, gender, race in product(AGES[:7], ("Male", "Female"), RACES)
    for _ in range(copies)
]


def fairface(root: Path, damaged: str, folder: str) -> Path:
    """FairFace with its images below `folder`; a spreadsheet has turned ages of the parts `damaged` into dates."""
    dates = {"3-9": "03-Sep", "10-19": "Oct-19"}
    numbers, rows = (
        Counter[str](),
        {part: [["file", "age", "gender", "race", "service_test"]] for part in ("train", "val")},
    )
    for number, (age, gender, race, part) in enumerate(FACES):
        numbers[part] += 1
        name = f"{part}/{numbers[part]}.jpg"
        image(root / folder / name, number)
        rows[part].append([name, dates.get(age, age) if part in damaged else age, gender, race, "FALSE"])
    for part, content in rows.items():
        table(root / f"fairface_label_{part}.csv", content)
    return root


@pytest.mark.parametrize(
    ("damaged", "folder"), [("", "."), ("train val", "fairface-img-margin025-trainval"), ("train", "fair_face")]
)
def test_fairface(tmp_path: Path, damaged: str, folder: str) -> None:
    root = fairface(tmp_path / "tree", damaged, folder)
    request = Request(root=root, size=8, workers=1)
    dataset = made("fairface", tmp_path / "data.h5", request)
    assert dataset.class_names == ("Female", "Male")
    assert dataset.protected_names == ("Black", "White")
    assert (dataset.train.count == 14).all()
    assert (dataset.test.count == 7).all()
    parts = {"train": "train", "val": "test"}
    check(dataset, [(gender, race, parts[part]) for _, gender, race, part in FACES])
    dataset = made("fairface", tmp_path / "a.h5", replace(request, target="age", protected=("race", "gender")))
    assert dataset.class_names == AGES[:7]
    assert (dataset.test.count == 1).all()
    check(dataset, [(age, f"{race} & {gender}", parts[part]) for age, gender, race, part in FACES])
    dataset = made("fairface", tmp_path / "c.h5", replace(request, target="race", protected=("gender",)))
    assert dataset.train.count.tolist() == [[14, 14], [14, 14]]


def test_an_attribute_that_fairface_lacks(tmp_path: Path) -> None:
    root = fairface(tmp_path / "tree", "", ".")
    with pytest.raises(UsageError, match=r"unknown column in --target 'gendr': did you mean 'gender'"):
        made("fairface", tmp_path / "data.h5", Request(root=root, target="gendr"))
    with pytest.raises(UsageError, match="--csv does not apply to data set 'fairface', which takes --download"):
        made("fairface", tmp_path / "data.h5", Request(root=root, csv=(tmp_path / "x.csv",)))


# --- HAM10000 ---------------------------------------------------------------------------------------------------------

DIAGNOSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
# Of each diagnosis and sex, three lesions with two images each, and one more of unknown sex and age.
LESIONS = [(dx, sex, number) for dx, sex in product(DIAGNOSES[:3], ("female", "male")) for number in range(3)]
LESIONS += [("bkl", "unknown", 0)]


def ham10000(root: Path, form: str = "csv") -> Path:
    rows, number = [], 0
    for lesion, (dx, sex, copy) in enumerate(LESIONS):
        for _ in range(2):
            part = "HAM10000_images_part_1" if number % 3 else "HAM10000_images_part_2"
            image(root / part / f"ISIC_{24306 + number:07d}.jpg", number)
            age = "" if sex == "unknown" else 50.0 + 10 * copy
            rows.append([f"HAM_{lesion:07d}", f"ISIC_{24306 + number:07d}", dx, "histo", age, sex, "scalp"])
            number += 1
    header = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
    table(root / f"HAM10000_metadata.{form}", [header, *rows], "\t" if form == "tab" else ",")
    return root


@pytest.mark.parametrize("form", ["csv", "tab"])
def test_ham10000(tmp_path: Path, form: str) -> None:
    root = ham10000(tmp_path / "HAM10000", form)
    dataset = made("ham10000", tmp_path / "data.h5", Request(root=tmp_path, size=8))
    assert dataset.class_names == DIAGNOSES[:3]
    assert dataset.protected_names == ("female", "male")
    assert (dataset.test.count == 1).all()
    assert (dataset.train.count == 4).all()  # of the lesion that is tested, the other image is in neither split
    assert dataset.options["left_out"] == {"sex is unknown": 2, "from the same lesion_id as held-out images": 6}
    for number, words in {**seen(dataset, "train"), **seen(dataset, "test")}.items():
        assert words == LESIONS[number // 2][:2]
    assert not {number // 2 for number in seen(dataset, "train")} & {number // 2 for number in seen(dataset, "test")}
    request = Request(root=root, size=8, protected=("age",))
    by_age = made("ham10000", tmp_path / "a.h5", request)
    assert by_age.protected_names == ("age<60", "age>=60")
    assert by_age.options["left_out"]['age is ""'] == 2
    assert sum(len(seen(by_age, split)) for split in ("train", "test")) == 36 - 6
    text = (root / f"HAM10000_metadata.{form}").read_text()
    (root / f"HAM10000_metadata.{form}").write_text(text.replace("HAM_0000003", "", 1))
    with pytest.raises(UsageError, match=rf"metadata.{form}' row 8: column 'lesion_id' is empty"):
        made("ham10000", tmp_path / "m.h5", request)


def test_lesions_are_benign_or_malignant(tmp_path: Path) -> None:
    ham10000(tmp_path)
    rows = (tmp_path / "HAM10000_metadata.csv").read_text().splitlines()
    rows = [row.replace("akiec", DIAGNOSES[number % 7]) for number, row in enumerate(rows)]
    (tmp_path / "HAM10000_metadata.csv").write_text("\n".join(rows))
    dataset = made("ham10000", tmp_path / "data.h5", Request(root=tmp_path, size=8, target="malignant"))
    assert dataset.class_names == ("benign", "malignant")
    for split in ("train", "test"):
        for number, (label, _) in seen(dataset, split).items():
            kind = rows[number + 1].split(",")[2]
            assert label == ("malignant" if kind in ("mel", "bcc", "akiec") else "benign")


# --- CheXpert ---------------------------------------------------------------------------------------------------------

FINDING_COLUMNS = ("No Finding", "Cardiomegaly", "Edema")
# Of each patient: No Finding, Edema, sex, race as the demographic data have it. Two images of each.
PATIENTS = [
    ("1.0" if none else "", edema, sex, race)
    for none, edema, sex, race in product(
        (0, 1), ("1.0", "0.0"), ("Female", "Male"), ("White, non-Hispanic", "Black or African American", "Asian")
    )
]
PATIENTS += [("", "-1.0", "Unknown", "White")]


def chexpert(root: Path) -> Path:
    rows, people = {part: [["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDING_COLUMNS]] for part in PARTS}, []
    number = 0
    for patient, (none, edema, sex, race) in enumerate(PATIENTS):
        part = PARTS[patient % 5 == 4]
        for view in ("view1_frontal", "view2_lateral"):
            name = f"{part}/patient{patient + 1:05d}/study1/{view}.jpg"
            image(root / name, number)
            finding = none or ("0.0" if part == "valid" else "")
            cells = [sex, 60, view[6:].capitalize(), "AP" if "frontal" in view else "", finding, "", edema]
            rows[part].append([f"CheXpert-v1.0-small/{name}", *cells])
            number += 1
        people.append([f"patient{patient + 1:05d}", sex, 60, race, "Non-Hispanic"])
    for part in PARTS:
        table(root / f"{part}.csv", rows[part])
    table(root / "people.csv", [["PATIENT", "GENDER", "AGE_AT_CXR", "PRIMARY_RACE", "ETHNICITY"], *people])
    return root


PARTS = ("train", "valid")


def test_chexpert(tmp_path: Path) -> None:
    root = chexpert(tmp_path / "CheXpert-v1.0-small")
    dataset = made("chexpert", tmp_path / "data.h5", Request(root=tmp_path, size=8))
    assert dataset.class_names == ("finding", "no finding")
    assert dataset.protected_names == ("Female", "Male")
    assert dataset.options["left_out"]["Sex is Unknown"] == 2
    found = {**seen(dataset, "train"), **seen(dataset, "test")}
    for number, words in found.items():
        none, _, sex, _ = PATIENTS[number // 2]
        assert words == ("no finding" if none else "finding", sex)
    assert len(set(dataset.test.count.ravel().tolist())) == 1
    assert not {number // 2 for number in seen(dataset, "train")} & {number // 2 for number in seen(dataset, "test")}
    edema = Request(root=root, size=8, target="Edema=no:0,yes:1")
    other = made("chexpert", tmp_path / "e.h5", edema)
    assert other.class_names == ("no", "yes")
    assert other.options["left_out"]["Edema is -1.0"] == 2


def test_chexpert_by_sex_and_race(tmp_path: Path) -> None:
    root = chexpert(tmp_path)
    request = Request(root=root, size=8, protected=("sex", "race"))
    with pytest.raises(UsageError, match=r"'.*CHEXPERT DEMO.csv', which is not there; save the sheet"):
        made("chexpert", tmp_path / "data.h5", request)
    (root / "people.csv").rename(root / "CHEXPERT DEMO.csv")
    dataset = made("chexpert", tmp_path / "data.h5", request)
    races = {"W": "White", "B": "Black", "A": "other race"}
    assert dataset.groups == 6
    for split in ("train", "test"):
        for number, (_, group) in seen(dataset, split).items():
            _, _, sex, race = PATIENTS[number // 2]
            assert group == f"{sex} & {races[race[0]]}"


# --- MetaShift --------------------------------------------------------------------------------------------------------

FOLDERS = ("train/cat/cat(indoor)", "train/dog/dog(outdoor)", "test/cat/cat(outdoor)", "test/dog/dog(indoor)")


@pytest.mark.parametrize(
    "base", [".", "MetaShift-Cat-Dog-indoor-outdoor", "metashift/MetaShift-Cat-Dog-indoor-outdoor"]
)
def test_metashift(tmp_path: Path, base: str) -> None:
    root = tmp_path / "tree" / base
    for number in range(40):
        image(root / FOLDERS[number % 4] / f"{2_400_000 + number}.jpg", number)
    image(root / FOLDERS[3] / "2400000.jpg", 40)  # a cat and a dog on one photograph
    (root / "imageID_to_group.pkl").write_bytes(b"")
    dataset = made("metashift", tmp_path / "data.h5", Request(root=tmp_path / "tree", size=8))
    assert dataset.class_names == ("cat", "dog")
    assert dataset.protected_names == ("indoor", "outdoor")
    assert (dataset.test.count == 2).all()
    words = [(folder.split("/")[1], folder.split("(")[1][:-1]) for folder in FOLDERS]
    trained, tested = seen(dataset, "train"), seen(dataset, "test")
    for number, found in {**trained, **tested}.items():
        assert found == words[3 if number == 40 else number % 4]
    assert not ({0, 40} & set(trained) and {0, 40} & set(tested))


# --- All --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_they_are_listed_and_say_what_is_missing(tmp_path: Path, name: str) -> None:
    assert titles("datasets")[name]
    assert "--protected" in describe("datasets", name)["options"]
    with pytest.raises(UsageError, match=r"https://[^\n]*\nExpected:\n.*missing"):
        DATASETS.load(name).source(Request(root=tmp_path))


# --- Tables of the field that `folder` reads as they are --------------------------------------------------------------


def from_folder(tmp_path: Path, **options: object) -> BiasedDataset:
    """What `folder` makes of the tree below tmp_path / "tree", its tables named relative to that."""
    root = tmp_path / "tree"
    csv = tuple(root / name for name in options.pop("csv"))  # type: ignore[attr-defined]
    join = tuple(f"{root}/{text}" for text in options.pop("join", ()))  # type: ignore[attr-defined]
    request = Request(root=root, csv=csv, join=join, size=8, **options)  # type: ignore[arg-type]
    return made("folder", tmp_path / "data.h5", request)


def test_fairface_from_its_own_tables(tmp_path: Path) -> None:
    fairface(tmp_path / "tree", "train val", "fair_face")
    ages = "age=0-9:0-2+03-Sep,10-19:Oct-19,20-29,30-39,40 and over:40-49+50-59"
    options = {"csv": [f"fairface_label_{part}.csv" for part in ("train", "val")], "split": "path:-1=train,test:val"}
    dataset = from_folder(tmp_path, target=ages, protected=("race",), **options)
    assert dataset.class_names == ("0-9", "10-19", "20-29", "30-39", "40 and over")
    merged = {"0-2": "0-9", "3-9": "0-9", "40-49": "40 and over", "50-59": "40 and over"}
    parts = {"train": "train", "val": "test"}
    check(dataset, [(merged.get(age, age), race, parts[part]) for age, _, race, part in FACES])
    assert (dataset.test.count == 2).all()
    assert dataset.options["left_out"] == {"of the test split, for cells of one size": 8}


def test_ham10000_from_its_own_table(tmp_path: Path) -> None:
    ham10000(tmp_path / "tree")
    dataset = from_folder(
        tmp_path, csv=["HAM10000_metadata.csv"], target="dx", protected=("sex!=unknown",), group_by="lesion_id"
    )
    assert dataset.name == "HAM10000_metadata"
    assert dataset.options["left_out"] == {"sex is unknown": 2, "from the same lesion_id as held-out images": 6}
    for number, words in {**seen(dataset, "train"), **seen(dataset, "test")}.items():
        assert words == LESIONS[number // 2][:2]


def test_nih_chest_radiographs(tmp_path: Path) -> None:
    header = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender"]
    rows, root = [], tmp_path / "tree"
    for number in range(48):
        patient, follow_up = number // 2 + 1, number % 2
        name = f"{patient:08d}_{follow_up:03d}.png"
        image(root / f"images_{1 + number % 3:03d}" / "images" / name, number)
        finding = ("No Finding", "Effusion|Mass", "Mass", "Effusion")[patient % 4]
        rows.append([name, finding, follow_up, patient, 60, "FM"[patient // 4 % 2]])
    table(root / "Data_Entry_2017.csv", [header, *rows])
    options = {"target": "Finding Labels~Effusion", "protected": ("Patient Gender",), "group_by": "Patient ID"}
    dataset = from_folder(tmp_path, csv=["Data_Entry_2017.csv"], **options)
    assert dataset.class_names == ("no Effusion", "Effusion")
    trained, tested = seen(dataset, "train"), seen(dataset, "test")
    for number, words in {**trained, **tested}.items():
        assert words == (("Effusion" if "Effusion" in rows[number][1] else "no Effusion"), rows[number][5])
    assert not {number // 2 for number in trained} & {number // 2 for number in tested}


def test_fitzpatrick17k(tmp_path: Path) -> None:
    header = ["md5hash", "fitzpatrick_scale", "fitzpatrick_centaur", "label", "three_partition_label", "url"]
    rows, root = [], tmp_path / "tree"
    for number in range(42):
        name = f"{number:02d}ab34cd56ef78ab90cd12ef34ab56cd78"[:32]
        image(root / "images" / f"{name}.jpg", number)
        scale = (1, 2, 3, 4, 5, 6, -1)[number % 7]
        kind = ("benign", "malignant", "non-neoplastic")[number // 7 % 3]
        rows.append([name, scale, scale, "x", kind, f"https://example.org/{number}.jpg"])
    table(root / "fitzpatrick17k.csv", [header, *rows])
    skin = "fitzpatrick_scale=light:1+2,medium:3+4,dark:5+6"
    dataset = from_folder(tmp_path, csv=["fitzpatrick17k.csv"], target="three_partition_label", protected=(skin,))
    assert dataset.options["left_out"] == {"fitzpatrick_scale is -1": 6}
    for number, words in {**seen(dataset, "train"), **seen(dataset, "test")}.items():
        assert words == (rows[number][4], ("light", "medium", "dark")[number % 7 // 2])


def test_mimic_cxr_from_three_tables(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    pictures, findings, people = [["dicom_id", "subject_id", "study_id"]], [], []
    for number in range(32):
        subject, study = 10_000_000 + number // 2, 50_000_000 + number
        name = f"{number:08x}-0cf91dc1-64c9fc3c-4c4ea7ba"
        image(root / "files" / "p10" / f"p{subject}" / f"s{study}" / f"{name}.jpg", number)
        pictures.append([name, subject, study])
        findings.append([subject, study, "1.0" if number // 2 % 2 else ""])
        people += [[subject, "FM"[number // 4 % 2], 60]] * (number % 2)
    for name, rows in (
        ("mimic-cxr-2.0.0-metadata", pictures),
        ("mimic-cxr-2.0.0-negbio", [["subject_id", "study_id", "No Finding"], *findings]),
        ("patients", [["subject_id", "gender", "anchor_age"], *people]),
    ):
        text = table(root / name, rows).read_bytes()
        (root / name).unlink()
        (root / f"{name}.csv.gz").write_bytes(gzip.compress(text))
    dataset = from_folder(
        tmp_path,
        csv=["mimic-cxr-2.0.0-metadata.csv.gz"],
        join=["mimic-cxr-2.0.0-negbio.csv.gz:study_id", "patients.csv.gz:subject_id"],
        target='No Finding=finding:"",none:1.0',
        protected=("gender",),
        group_by="subject_id",  # the key of a joined table, too
    )
    for number, words in {**seen(dataset, "train"), **seen(dataset, "test")}.items():
        assert words == (("finding", "none")[number // 2 % 2], "FM"[number // 4 % 2])
    assert dataset.test.count.sum() > 0


def test_a_data_set_tells_the_defaults_of_its_options() -> None:
    assert describe("datasets", "celeba")["defaults"] == {
        "--protected": "Male",
        "--size": "64",
        "--target": "Attractive",
    }
    assert describe("datasets", "utkface")["defaults"]["--test-per-cell"] == "100"
    assert [describe("datasets", name)["defaults"]["--bias-ratio"] for name in ("bffhq", "c-mnist-fg")] == [
        "0.995",
        "0.9",
    ]
