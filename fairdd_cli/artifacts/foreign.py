"""Synthetic sets in the files of other tools, read without running anything that they hold.

| source | layout |
|---|---|
| `.pt` of DC, DSA, DM and FairDD | a dict whose `data` lists [images, labels] for each repetition |
| `.pt` of DD-Ranking, IDC and `inspect --export` | images and labels, as a tuple or list |
| `.pt` of MTT and its successors | images alone; labels in `labels_NAME.pt` beside `images_NAME.pt`, if there are any |
| `.npz`, `.safetensors` | `images`, `labels` and, where known, `mean`, `std`, `class_names`, `groups`, `group_names` |
| a folder | a folder for each class with its images as PNG; `inspect --export` puts their exact values beside them |
"""

import io
import math
import pickle
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fairdd_cli.artifacts._input import open_input, read_bytes
from fairdd_cli.artifacts._json import strict_loads
from fairdd_cli.artifacts.export import EXACT, METADATA, pixels
from fairdd_cli.errors import UsageError, first_line

FILE_LIMIT = 2**30  # bytes of a file, and of the arrays that it holds
# What a file may grow to: more than images ever do, and little enough that a small one takes no gigabytes.
ROOM, EXPANSION = 2**26, 20  # bytes that any file may; its own size times so much
IMAGE_LIMIT = 100_000  # images in a folder
DESCRIPTION_LIMIT = 2**22  # bytes of what describes the arrays: a pickle, a head of JSON
NAMES = ("class_names", "group_names")
NUMBER = re.compile("[0-9]{1,9}")
IMAGE_KEYS = ("images", "image_syn", "images_train", "x")
LABEL_KEYS = ("labels", "label_syn", "labels_train", "y", "targets")
# What a damaged archive makes zipfile raise.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, EOFError, OSError)
SAFE_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "U8": "u1", "I64": "<i8", "I32": "<i4"}


@dataclass(frozen=True)
class ForeignSet:
    """Images [M, C, H, W] (or [M, H, W]) as a file holds them, and what it says of them.

    `labels` (int64 [M]) are None where the file has none, `mean` and `std` (of the normalisation) and `class_names`
    likewise; so are `groups` (int64 [M]) unless they are sound and have `group_names`. For a folder, `labels` index
    `folders`. `origin` is what a file of `inspect --export` says besides.
    """

    layout: str
    images: np.ndarray
    labels: np.ndarray | None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    class_names: tuple[str, ...] | None = None
    folders: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)
    groups: np.ndarray | None = None
    group_names: tuple[str, ...] = ()


def read_foreign(path: str, repetition: int = 1, labels: str | None = None) -> ForeignSet:
    """The synthetic set in the file or folder `path`; with several in it, the one that `repetition` counts from 1.

    `labels` names a .pt or .npy with the labels where those in the file, or beside it, are not the right ones. Raises
    UsageError where the file is not in a known layout, is too large, or holds what is not plain numbers.
    """
    if Path(path).is_dir():
        found = _read_folder(Path(path))
    elif reader := READERS.get(Path(path).suffix.lower()):
        found = reader(path, repetition)
    else:
        raise UsageError(f"'{path}' has none of the known suffixes ({', '.join(READERS)}) and is no folder")
    if labels is not None:
        found = replace(found, labels=_label_file(labels))
    if found.images.ndim == 3:
        found = replace(found, images=found.images[:, None])
    if found.images.ndim != 4 or 0 in found.images.shape:
        raise UsageError(f"'{path}': its images have shape {_shape(found.images)}; expected [images, C, H, W]")
    if found.images.dtype.kind not in "fiu":
        raise UsageError(f"'{path}': its images are {found.images.dtype}; expected numbers")
    if not np.isfinite(found.images).all():
        raise UsageError(f"'{path}': an image holds a value that is not finite")
    found = _with_sound_groups(found)
    if found.labels is None:
        return found
    if found.labels.ndim == 2 and found.labels.shape[1] > 1:
        raise UsageError(
            f"'{path}': its labels are soft ({_shape(found.labels)}): probabilities of each class, which fairdd does "
            "not train on",
            "Give hard labels with --labels FILE, one class number for each image.",
        )
    hard = found.labels.reshape(-1)
    if len(hard) != len(found.images) or hard.dtype.kind not in "fiu" or (hard != np.round(hard)).any():
        raise UsageError(f"'{path}' has {len(found.images)} images, but its labels are not as many class numbers")
    return replace(found, labels=hard.astype(np.int64))


def _with_sound_groups(found: ForeignSet) -> ForeignSet:
    """`found` without its groups where they are anything but a name for each image: files of others may mean another
    thing by the word."""
    groups, names = found.groups, found.group_names
    if groups is None:
        return found
    sound = groups.shape == found.images.shape[:1] and groups.dtype.kind in "iu" and bool(names)
    if not sound or groups.min() < 0 or groups.max() >= len(names):
        return replace(found, groups=None, group_names=())
    return replace(found, groups=groups.astype(np.int64))


def _shape(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape)) or "no shape"


def _checked_zip(path: str) -> bytes:
    """The content of the ZIP archive `path`; UsageError where what is in it is larger than what it says or allows."""
    content = read_bytes(path, FILE_LIMIT)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
    except ZIP_ERRORS as error:
        raise UsageError(f"'{path}' is truncated or damaged: {first_line(error)}") from error
    if len(members) > 10_000 or sum(member.file_size for member in members) > FILE_LIMIT:
        raise UsageError(f"'{path}' holds more than the {FILE_LIMIT:,} bytes that are read here")
    if sum(member.file_size for member in members) > max(ROOM, EXPANSION * len(content)):
        raise UsageError(
            f"'{path}' grows to more than {EXPANSION} times its size, which images do not; save it without compression"
        )
    if any(member.file_size > DESCRIPTION_LIMIT for member in members if member.filename.endswith(".pkl")):
        raise UsageError(f"'{path}' holds a pickle of more than {DESCRIPTION_LIMIT:,} bytes, which is not read")
    return content


def _load_pt(path: str) -> Any:
    """What `torch.save` put into `path`: tensors and plain values; UsageError for anything else."""
    import torch  # noqa: PLC0415  # slow to import, and only this format needs it

    file = open_input(path)
    if file.read(0, min(4, file.size)) != b"PK\3\4":
        raise UsageError(f"'{path}' was not saved by torch 1.6 or later; load it there and save it again")
    content = io.BytesIO(_checked_zip(path))
    # The accuracies in the files of DC are numbers of NumPy, whose constructors run nothing.
    scalar = np.float64(0).__reduce__()[0]
    safe: list[Any] = [np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType]
    safe += [(scalar, f"{module}.multiarray.scalar") for module in ("numpy.core", "numpy._core")]
    try:
        with torch.serialization.safe_globals(safe):
            return torch.load(content, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = "it holds more than tensors and plain values, and is not unpickled"
        raise UsageError(f"'{path}' cannot be read: {reason}") from error
    except (
        RuntimeError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        EOFError,
        OverflowError,
    ) as error:
        raise UsageError(f"'{path}' is truncated or damaged: {first_line(error)}") from error


def _array(value: Any, path: str) -> np.ndarray:
    """The tensor or list of numbers `value` as an array; UsageError for anything else."""
    import torch  # noqa: PLC0415

    if isinstance(value, list) and value and all(isinstance(entry, int) for entry in value):
        return np.array(value)
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_quantized:
        raise UsageError(f"'{path}': expected a tensor, found {type(value).__name__}")
    # A tensor of a few bytes may repeat them without end.
    if value.numel() * value.itemsize > min(FILE_LIMIT, max(ROOM, value.untyped_storage().nbytes())):
        raise UsageError(f"'{path}': a tensor of {value.numel():,} numbers is more than is read here")
    value = value.detach()
    return np.asarray((value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).contiguous().numpy())


def _read_pt(path: str, repetition: int) -> ForeignSet:
    import torch  # noqa: PLC0415

    value = _load_pt(path)
    if isinstance(value, dict) and isinstance(value.get("data"), list | tuple):
        return _pair(_repetition(value["data"], repetition, path), "DC, DSA, DM (res_….pt)", path)
    if isinstance(value, dict):
        names = [next((key for key in keys if key in value), None) for keys in (IMAGE_KEYS, LABEL_KEYS)]
        if names[0] is None:
            raise UsageError(f"'{path}' holds a dict without images; its keys are {', '.join(map(str, value))[:120]}")
        return _pair([value[name] for name in names if name is not None], "a dict of tensors", path)
    if isinstance(value, list | tuple):
        return _pair(value, "images and labels (DD-Ranking, IDC)", path)
    if not isinstance(value, torch.Tensor):
        raise UsageError(f"'{path}' holds no images, but {type(value).__name__}")
    beside = Path(path).with_name(Path(path).name.replace("images", "labels", 1))
    labels = _label_file(str(beside)) if beside != Path(path) and beside.is_file() else None
    return ForeignSet("images alone (MTT, DD-Ranking)", _array(value, path), labels)


def _repetition(sets: Any, number: int, path: str) -> Any:
    """The set that `number` counts from 1 in what DC's code saves: each of its repetitions."""
    if not 1 <= number <= len(sets):
        raise UsageError(f"'{path}' holds {len(sets)} repetitions; --repetition {number} is none of them")
    return sets[number - 1]


def _pair(value: Any, layout: str, path: str) -> ForeignSet:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= 2:
        raise UsageError(f"'{path}': expected images and labels, found {type(value).__name__} of another length")
    images, *labels = (_array(entry, path) for entry in value)
    return ForeignSet(layout, images, labels[0] if labels else None)


def _label_file(path: str) -> np.ndarray:
    """The labels in a .pt or .npy of their own."""
    if Path(path).suffix.lower() == ".npy":
        return _npy(read_bytes(path, FILE_LIMIT), path)
    return _array(_load_pt(path), path)


def _npy(content: bytes, path: str) -> np.ndarray:
    """The array in `content`, whose head is compared with its length first; UsageError for objects."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(stream)
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
            raise ValueError("its head does not describe what follows")
        stream.seek(0)
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
    except (ValueError, TypeError, SyntaxError, OverflowError, EOFError, MemoryError) as error:
        raise UsageError(f"'{path}' holds an array that is damaged or not of numbers: {first_line(error)}") from error


def _read_npz(path: str, repetition: int) -> ForeignSet:
    content = _checked_zip(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            arrays = {name.removesuffix(".npy"): _npy(archive.read(name), path) for name in archive.namelist()}
    except ZIP_ERRORS as error:
        raise UsageError(f"'{path}' is truncated or damaged: {first_line(error)}") from error
    names = {key: arrays[key].tolist() for key in NAMES if key in arrays and arrays[key].ndim == 1}
    return _from_arrays(path, arrays, names, {})


def _from_arrays(
    path: str, arrays: dict[str, np.ndarray], names: Mapping[str, Any], origin: Mapping[str, Any]
) -> ForeignSet:
    images, labels = (next((arrays[key] for key in keys if key in arrays), None) for keys in (IMAGE_KEYS, LABEL_KEYS))
    if images is None:
        raise UsageError(f"'{path}' has no array named 'images'; it holds {', '.join(arrays)[:120] or 'nothing'}")
    mean, std = (
        tuple(map(float, arrays[key])) if key in arrays and arrays[key].ndim == 1 else None for key in ("mean", "std")
    )
    class_names, group_names = (
        tuple(map(str, names[key])) if isinstance(names.get(key), list) else None for key in NAMES
    )
    groups = arrays.get("groups")
    return ForeignSet(
        "named arrays",
        images,
        labels,
        mean,
        std,
        class_names,
        origin=origin,
        groups=groups,
        group_names=group_names or (),
    )


def _read_safetensors(path: str, repetition: int) -> ForeignSet:
    content = read_bytes(path, FILE_LIMIT)
    length = int.from_bytes(content[:8], "little")
    try:
        if not 2 <= length <= min(DESCRIPTION_LIMIT, len(content) - 8):
            raise ValueError("its head is cut off or too long")
        head = strict_loads(content[8 : 8 + length].decode())
        described = head.pop("__metadata__", {})
        arrays = {name: _tensor(entry, memoryview(content)[8 + length :]) for name, entry in head.items()}
        origin = {name: strict_loads(text) for name, text in described.items()} if "class_names" in described else {}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"'{path}' is not a sound .safetensors: {first_line(error)}") from error
    return _from_arrays(path, arrays, origin, origin)


def _tensor(entry: Mapping[str, Any], data: memoryview) -> np.ndarray:
    """The tensor that an `entry` in the head of a .safetensors places in its `data`."""
    dtype, shape = np.dtype(SAFE_DTYPES[entry["dtype"]]), entry["shape"]
    start, end = entry["data_offsets"]
    if not all(type(size) is int and size >= 0 for size in (*shape, start, end)) or end > len(data):
        raise ValueError("a tensor lies beyond the end")
    if end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError("a tensor is not as long as its shape says")
    return np.frombuffer(data[start:end], dtype).reshape(shape)


def _read_folder(folder: Path) -> ForeignSet:
    """The images in the folders of `folder`, a class each, in the order of their names."""
    from PIL import Image  # noqa: PLC0415  # only this format needs it

    folders = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    files = [
        (label, file)
        for label, entry in enumerate(folders)
        for file in sorted(entry.iterdir())
        if file.suffix.lower() == ".png" and not file.name.startswith(".")
    ]
    if not files or len(files) > IMAGE_LIMIT:
        raise UsageError(f"'{folder}' has {len(files):,} PNG in folders of their class; expected 1 to {IMAGE_LIMIT:,}")
    most = min(FILE_LIMIT, max(ROOM, EXPANSION * sum(file.stat().st_size for _, file in files)))
    images: list[np.ndarray] = []
    size: tuple[object, ...] = ()
    for _, file in files:
        try:
            with Image.open(file, formats=("PNG",)) as picture:
                if picture.mode not in ("L", "RGB"):
                    raise ValueError(f"its mode is {picture.mode}; expected grey or RGB, 8 bits a channel")
                size = size or (picture.size, picture.mode)
                if math.prod(picture.size) * len(files) * 3 > most:
                    raise ValueError(f"{len(files):,} images of its size, {picture.size}, are more than is read here")
                if (picture.size, picture.mode) != size:
                    raise ValueError(f"its size is {picture.size}, mode {picture.mode}; the first has another")
                image = np.asarray(picture)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UsageError(f"'{file}' cannot be read: {str(error)[:120]}") from error
        images.append(image[None] if image.ndim == 2 else image.transpose(2, 0, 1))
    labels = np.array([label for label, _ in files])
    names, origin = _metadata(folder / METADATA)
    group_names = origin.get("group_names")
    found = ForeignSet(
        "a folder of PNG",
        np.stack(images),
        labels,
        class_names=names,
        folders=tuple(entry.name for entry in folders),
        origin=origin,
        groups=_groups_of_files([file for _, file in files], origin.get("groups")),
        group_names=tuple(map(str, group_names)) if isinstance(group_names, list) else (),
    )
    return _with_exact_values(found, folder / EXACT) if (folder / EXACT).is_file() else found


def _groups_of_files(files: Sequence[Path], said: object) -> np.ndarray | None:
    """The group of each of the `files` by what an exported folder has `said`: a list for each folder, by number."""
    lists = said if isinstance(said, dict) else {}
    found = []
    for file in files:
        groups, number = lists.get(file.parent.name), file.stem
        if not isinstance(groups, list) or not NUMBER.fullmatch(number) or int(number) >= len(groups):
            return None
        found.append(groups[int(number)])
    return np.array(found) if all(type(group) is int and 0 <= group < 2**31 for group in found) else None


def _with_exact_values(found: ForeignSet, path: Path) -> ForeignSet:
    """`found` with the values in `path` that its PNG were rounded from; as it is where they are of other images."""
    exact = _read_npz(str(path), 1)
    same_form = exact.images.shape == found.images.shape and exact.images.dtype == np.float32
    mean, std = (
        numbers if len(numbers or ()) == found.images.shape[1] else None for numbers in (exact.mean, exact.std)
    )
    if same_form and mean and std and np.array_equal(pixels(exact.images, mean, std), found.images):
        layout = f"{found.layout}, its exact values from {EXACT}"
        return replace(found, layout=layout, images=exact.images, mean=mean, std=std)
    return replace(found, layout=f"{found.layout} (not those of its {EXACT}, which is left out)")


def _metadata(path: Path) -> tuple[tuple[str, ...] | None, Mapping[str, Any]]:
    """The class names and all else that an exported folder says of itself, or nothing."""
    if not path.is_file():
        return None, {}
    try:
        said = strict_loads(read_bytes(str(path), DESCRIPTION_LIMIT).decode())
        return tuple(map(str, said["class_names"])), said
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"'{path}' is not sound JSON as an export has it: {first_line(error)}") from error


READERS: Mapping[str, Callable[[str, int], ForeignSet]] = {
    ".pt": _read_pt,
    ".pth": _read_pt,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
}
