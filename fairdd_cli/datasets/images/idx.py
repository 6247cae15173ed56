"""MNIST and Fashion-MNIST: the IDX files, wherever they lie, and the sample inside the package."""

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fairdd_cli.datasets._layout import fetching
from fairdd_cli.errors import UsageError

FILES = {
    ("train", "images"): "train-images-idx3-ubyte",
    ("train", "labels"): "train-labels-idx1-ubyte",
    ("test", "images"): "t10k-images-idx3-ubyte",
    ("test", "labels"): "t10k-labels-idx1-ubyte",
}
SAMPLE = Path(__file__).parents[1] / "sample"
LIMIT = 2**28  # bytes of one unpacked file; the largest real one has 47 million


@dataclass(frozen=True)
class Grey:
    """Grey images uint8 [N, 28, 28] and their labels int64 [N]."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class GreyFamily:
    """One of the two data sets: its torchvision class, the folders it is looked for in, whether a sample is here."""

    name: str
    torchvision_class: str
    folders: tuple[str, ...]
    sample: bool


MNIST = GreyFamily("MNIST", "MNIST", (".", "raw", "MNIST/raw", "mnist"), sample=False)
FASHION = GreyFamily("Fashion-MNIST", "FashionMNIST", (".", "raw", "FashionMNIST/raw", "fashion-mnist"), sample=True)


def load_grey(family: GreyFamily, root: Path | None, download: bool, embedded: bool) -> dict[str, Grey]:
    """The splits `train` and `test`; raises UsageError naming every way to get the data where there is none."""
    if embedded:
        if root or download:
            raise UsageError("--embedded brings its own images; leave out --root and --download")
        if not family.sample:
            raise UsageError(f"no sample of {family.name} is embedded; use --root DIR or --download")
        return {split: _read_split(SAMPLE, split) for split in ("train", "test")}
    folder = _find(family, root or Path("data"))
    if folder is None and download:
        folder = _download(family, root or Path("data"))
    if folder is None:
        ways = ["--root DIR with the IDX files (plain or .gz)", "--download to fetch them"]
        ways += ["--embedded for the small sample inside fairdd"] if family.sample else []
        raise UsageError(
            f"no {family.name} under '{root or 'data'}': expected {FILES['train', 'images']}[.gz] and its three "
            "companions.",
            f"Give {', or '.join(ways)}.",
        )
    return {split: _read_split(folder, split) for split in ("train", "test")}


def _find(family: GreyFamily, root: Path) -> Path | None:
    """The folder under `root` that holds all four files."""
    for folder in (root / name for name in family.folders):
        if all(_locate(folder, name) for name in FILES.values()):
            return folder
    return None


def _locate(folder: Path, name: str) -> Path | None:
    """The file `name`, plain or gzipped, or with the dot that some copies have: train-images.idx3-ubyte."""
    spellings = (f"{each}{suffix}" for each in (name, name.replace("-idx", ".idx")) for suffix in ("", ".gz"))
    return next((folder / each for each in spellings if (folder / each).is_file()), None)


def _download(family: GreyFamily, root: Path) -> Path:
    import torchvision.datasets  # noqa: PLC0415  # slow to import and needed only here

    with fetching(family.name, root):
        getattr(torchvision.datasets, family.torchvision_class)(str(root), download=True)
    folder = _find(family, root)
    if folder is None:
        raise UsageError(f"--download: torchvision left no IDX files under '{root}'")
    return folder


def _read_split(folder: Path, split: str) -> Grey:
    images = read_idx(folder, FILES[split, "images"], dimensions=3)
    labels = read_idx(folder, FILES[split, "labels"], dimensions=1)
    if images.shape[1:] != (28, 28) or len(images) != len(labels):
        raise UsageError(
            f"'{folder}': expected 28x28 images and as many labels, found {images.shape} and {len(labels)} ({split})"
        )
    if labels.max(initial=0) > 9 or len(np.unique(labels)) != 10:
        raise UsageError(f"'{folder}': the {split} labels should be the ten digits 0…9")
    return Grey(images, labels.astype(np.int64))


def read_idx(folder: Path, name: str, dimensions: int) -> np.ndarray:
    """The uint8 array in the IDX file `name` of `folder`, plain or gzipped; UsageError where it is not one."""
    path = _locate(folder, name)
    if path is None:
        raise UsageError(f"'{folder / name}' does not exist (nor with .gz)")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(LIMIT)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"'{path}' cannot be read: {error}") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, 8, dimensions)):
        raise UsageError(f"'{path}' is not an IDX file of bytes with {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) - header != int(np.prod(shape, dtype=object)):
        raise UsageError(f"'{path}' is truncated: it declares {shape} and holds {len(content) - header:,} bytes")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
