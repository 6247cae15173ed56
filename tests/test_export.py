"""A synthetic set in the formats of others, and as a Dataset: the same images, whoever reads them."""

import io
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import Fairdd, write_toy
from evaluations import synthetic
from evaluations import write as write_evaluated
from PIL import Image
from torchvision.datasets import ImageFolder

import fairdd_cli
from fairdd_cli.artifacts import BiasedDataset, check_export, write_export, write_synthetic
from fairdd_cli.artifacts.export import ENCODERS, EXACT, METADATA, class_folders
from fairdd_cli.decodings import cut_tiles
from fairdd_cli.errors import UsageError
from fairdd_cli.loading import as_export

HOSTILE = ("../../etc", "/", "", "..", "-rf", "a\\b", "Été à la mer", "衣", "CON", "x" * 300, "<b>&", "clean")


@pytest.fixture(params=[1, 2], ids=["plain", "multi-formation"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A synthetic set of noise, three classes of 12 stored images."""
    path = str(tmp_path / "made.h5")
    write_synthetic(path, replace(synthetic(), factor=request.param))
    return path


def expected(path: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What networks are trained on, from the file itself."""
    with h5py.File(path) as file:
        factor = int(file.attrs["factor"])
        labels = torch.from_numpy(file["labels"][:]).repeat_interleave(factor**2)
        return cut_tiles(torch.from_numpy(file["images"][:]), factor), labels


def test_npz_needs_no_unpickling(fairdd: Fairdd, made: str, tmp_path: Path) -> None:
    done = fairdd("inspect", made, "--export", "out.npz")
    assert done.stdout == "out.npz\n"
    images, labels = expected(made)
    assert f"wrote {len(labels)} training images of 3 classes, 3x8x8" in done.stderr
    assert ("decoded into 4" in done.stderr) == (len(labels) > 36)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as file:
        assert sorted(file) == ["class_names", "images", "labels", "mean", "std"]
        np.testing.assert_array_equal(file["images"], images)
        np.testing.assert_array_equal(file["labels"], labels)
        assert (file["images"].dtype, file["labels"].dtype) == (np.float32, np.int64)
        assert file["mean"].tolist() == [0.5] * 3
        assert file["std"].tolist() == [0.25] * 3
        assert file["class_names"].tolist() == ["class 0", "class 1", "class 2"]


def test_pt_is_the_tuple_that_dd_ranking_reads(fairdd: Fairdd, made: str, tmp_path: Path) -> None:
    fairdd("inspect", made, "--export", "out.pt")
    images, labels = torch.load(tmp_path / "out.pt", weights_only=True)
    torch.testing.assert_close(images, expected(made)[0], rtol=0, atol=0)
    assert images.is_contiguous()
    assert (labels.dtype, labels.tolist()) == (torch.int64, expected(made)[1].tolist())


def test_safetensors_as_its_own_library_reads_it(fairdd: Fairdd, made: str, tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors", reason="safetensors is not installed")
    fairdd("inspect", made, "--export", "out.safetensors")
    with library.safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert sorted(file.keys()) == ["images", "labels", "mean", "std"]
        torch.testing.assert_close(file.get_tensor("images"), expected(made)[0], rtol=0, atol=0)
        assert file.get_tensor("labels").tolist() == expected(made)[1].tolist()
        assert json.loads(file.metadata()["class_names"]) == ["class 0", "class 1", "class 2"]
        assert json.loads(file.metadata()["method"]) == "dm"


def test_safetensors_by_its_specification() -> None:
    content = ENCODERS[".safetensors"](as_export(synthetic()))
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    head, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    assert all(isinstance(value, str) for value in head.pop("__metadata__").values())
    spans = sorted(entry["data_offsets"] for entry in head.values())
    assert spans[0][0] == 0
    assert spans[-1][1] == len(data)
    assert all(one[1] == other[0] for one, other in pairwise(spans))
    start, end = head["images"]["data_offsets"]
    found = np.frombuffer(data[start:end], "<f4").reshape(head["images"]["shape"])
    np.testing.assert_array_equal(found, synthetic().images)


def test_a_folder_of_png_is_an_image_folder(fairdd: Fairdd, made: str, tmp_path: Path) -> None:
    assert fairdd("inspect", made, "--export", "out").stdout == "out\n"
    images, labels = expected(made)
    found = ImageFolder(tmp_path / "out")
    assert found.classes == ["0-class-0", "1-class-1", "2-class-2"]
    assert found.targets == labels.tolist()
    levels = (images * 0.25 + 0.5).clamp(0, 1) * 255
    assert (levels == 0).any()  # noise goes beyond black and white
    assert (levels == 255).any()
    for (picture, label), level in zip(found, levels, strict=True):
        assert np.abs(np.asarray(picture).transpose(2, 0, 1) - level.numpy()).max() <= 0.5 + 1e-3
        assert label in (0, 1, 2)
    assert json.loads((tmp_path / "out" / METADATA).read_text())["fairness"] == "vanilla"


def test_grey_images_stay_grey_and_others_have_no_png(tmp_path: Path) -> None:
    write_export(str(tmp_path / "grey"), as_export(synthetic(channels=1)))
    with Image.open(next((tmp_path / "grey").glob("*/*.png"))) as picture:
        assert picture.mode == "L"
    with pytest.raises(UsageError, match="1 or 3 channels, and these have 4"):
        write_export(str(tmp_path / "four"), as_export(synthetic(channels=4)))
    assert [path.name for path in tmp_path.iterdir()] == ["grey"]


def test_names_of_classes_are_never_paths(tmp_path: Path) -> None:
    names = class_folders(HOSTILE)
    assert sorted(names) == names
    assert len(set(names)) == len(HOSTILE)
    assert all(set(name) <= set("0123456789abcdefghijklmnopqrstuvwxyz-") and len(name) < 50 for name in names)
    assert names[6] == "06-ete-a-la-mer"
    inside = tmp_path / "a" / "b" / "c"
    write_export(str(inside), replace(as_export(synthetic(classes=len(HOSTILE), ipc=1)), class_names=HOSTILE))
    assert sorted(path.name for path in inside.iterdir()) == sorted([*names, EXACT, METADATA])
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert json.loads((inside / METADATA).read_text())["class_names"] == list(HOSTILE)


@pytest.mark.parametrize("target", ["out", *(f"out{suffix}" for suffix in ENCODERS)])
def test_exports_are_the_same_twice_and_replaced_only_when_forced(target: str, tmp_path: Path) -> None:
    path = tmp_path / target
    given = as_export(synthetic())

    def content() -> list[bytes]:
        files = sorted(path.rglob("*.*")) if path.is_dir() else [path]
        return [file.read_bytes() for file in files]

    write_export(str(path), given)
    first = content()
    with pytest.raises(UsageError, match="--force"):
        write_export(str(path), given)
    write_export(str(path), replace(given, images=given.images[:20], labels=given.labels[:20]), force=True)
    assert content() != first
    write_export(str(path), given, force=True)
    assert content() == first
    assert [entry.name for entry in tmp_path.iterdir()] == [target]


def test_no_folder_is_replaced_that_holds_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = as_export(synthetic())
    folder = tmp_path / "photos"
    (folder / "cat").mkdir(parents=True)
    (folder / "cat" / "1.png").write_bytes(b"mine")
    with pytest.raises(UsageError, match="other files"):
        write_export(str(folder), given, force=True)
    assert (folder / "cat" / "1.png").read_bytes() == b"mine"
    write_export(str(tmp_path / "out"), given)
    (tmp_path / "out" / "0-class-0" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="other files"):
        write_export(str(tmp_path / "out"), given, force=True)
    (tmp_path / "empty").mkdir()
    write_export(str(tmp_path / "empty"), given)
    assert (tmp_path / "empty" / METADATA).is_file()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UsageError, match="current folder"):
        check_export(".", force=True)


def test_what_cannot_be_exported_is_said_in_a_line(fairdd: Fairdd, toy: BiasedDataset, tmp_path: Path) -> None:
    write_synthetic(str(tmp_path / "s.h5"), synthetic())
    write_evaluated(tmp_path / "e.json")
    for words, said in (
        (("s.h5", "--export", "out.zip"), "unknown suffix '.zip' (known: .npz, .safetensors, .pt"),
        (("s.h5", "--export", "-"), "needs the name"),
        (("toy.h5", "--export", "out.npz"), "'toy.h5' is not one"),
        (("e.json", "--export", "out"), "'e.json' is not one"),
        (("e.json", "--embedding", "out.png"), "'e.json' is not one"),
        (("s.h5", "--embedding", "out.gif"), "figures are written as .png, .svg, .pdf"),
        (("s.h5", "--embedding", "out.png"), "needs its data set"),
        (("s.h5", "--embedding", "out.png", "--data", "toy.h5"), "was distilled from"),
        (("s.h5", "--embedding", "out.png", "--class", "class 9"), "did you mean 'class"),
        (("s.h5", "--data", "toy.h5"), "--embedding"),
    ):
        done = fairdd("inspect", *words, check=False)
        assert done.returncode == 2, words
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out*"))


def test_load_is_a_dataset(made: str) -> None:
    images, labels = expected(made)
    data = fairdd_cli.load(Path(made))
    assert isinstance(data, torch.utils.data.Dataset)
    assert len(data) == len(labels) == len(list(data))
    image, label = data[-1]
    assert (image.dtype, image.shape, type(label), label) == (torch.float32, (3, 8, 8), int, 2)
    torch.testing.assert_close(image, images[-1], rtol=0, atol=0)
    torch.testing.assert_close(data.images, images, rtol=0, atol=0)
    assert data.labels.tolist() == labels.tolist()
    assert (data.classes, data.mean, data.std) == (("class 0", "class 1", "class 2"), (0.5,) * 3, (0.25,) * 3)
    with pytest.raises(IndexError):
        data[len(data)]
    with pytest.raises(UsageError, match="no test split; its data set has"):
        fairdd_cli.load(made, split="test")


def test_load_gives_both_splits_of_a_data_set(toy: BiasedDataset) -> None:
    for name, split in (("train", toy.train), ("test", toy.test)):
        data = fairdd_cli.load(toy.path, split=name)
        levels = torch.from_numpy(split.images.all()).float() / 255
        torch.testing.assert_close(data.images, (levels - 0.5) / 0.25)
        assert data.labels.tolist() == split.labels.tolist()
        assert data.protected.tolist() == split.protected.tolist()
        assert data.groups == toy.protected_names
        batches = list(torch.utils.data.DataLoader(data, batch_size=4))
        torch.testing.assert_close(torch.cat([images for images, _ in batches]), data.images)
    with pytest.raises(UsageError, match="has no val split"):
        fairdd_cli.load(toy.path, split="val")


def test_load_refuses_what_has_no_images(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no images"):
        fairdd_cli.load(write_evaluated(tmp_path / "e.json"))
    with pytest.raises(UsageError, match="does not exist"):
        fairdd_cli.load(tmp_path / "nothing.h5")


def test_a_loaded_data_set_travels_to_worker_processes(toy: BiasedDataset) -> None:
    data = fairdd_cli.load(toy.path)
    buffer = io.BytesIO()
    pickle.dump(data, buffer)
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer)[5][0].double().sum().item())"
    done = subprocess.run([sys.executable, "-c", code], input=buffer.getvalue(), capture_output=True, check=True)
    assert float(done.stdout) == pytest.approx(data[5][0].double().sum().item())


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, fairdd_cli; assert callable(fairdd_cli.load); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, env=os.environ).returncode == 0


def test_the_picture_of_coverage(fairdd: Fairdd, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    write_toy(tmp_path / "data.h5", np.array([[30, 9, 0], [9, 30, 2]]), side=16)
    small = ("--ipc", 2, "--iterations", 1, "--network", "convnet:width=8", "--fair", "-o", "s.h5", "--quiet")
    fairdd("distill", "data.h5", "--method", "dm", *small)
    for words, name in (((), "all.png"), (("--class", "class 1", "--data", "data.h5"), "one.svg")):
        done = fairdd("inspect", "s.h5", "--embedding", name, *words)
        assert f"wrote {name}" in done.stderr
        assert "synthetic set" in done.stdout
    with Image.open(tmp_path / "all.png") as picture:
        assert picture.width > 600
    text = (tmp_path / "one.svg").read_text()
    assert "class 1" in text
    assert "class 0" not in text
