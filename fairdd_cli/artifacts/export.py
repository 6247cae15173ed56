"""Files in which others read training images: a folder of PNG, .npz, .safetensors, and the .pt of DD-Ranking.

| target | content |
|---|---|
| a folder (no suffix) | `LABEL-CLASS/NUMBER.png`, 8 bits a channel, no longer normalised; `fairdd.json`; `exact.npz` |
| `.npz` | `images` float32 [M, C, H, W] (normalised), `labels` int64 [M], `mean`, `std` float32 [C], `class_names` |
| `.safetensors` | the same four tensors; `class_names` and the origin as JSON in the metadata |
| `.pt` | the tuple (`images`, `labels`) of tensors, as `torch.save` writes it |

Where images stand for groups, all but the `.pt` hold `groups` int64 [M] and the `group_names` that they index; in
`fairdd.json`, `groups` has a list for each class's folder, in the order of its files.
`exact.npz` is what the `.npz` would be: PNG rounds to 8 bits and cuts off what is beyond black and white.
"""

import io
import json
import re
import shutil
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fairdd_cli.artifacts._input import STREAM
from fairdd_cli.artifacts._lock import check_replaceable, check_target
from fairdd_cli.artifacts._output import (
    cannot_write,
    flush_folder,
    followed,
    make_folder,
    new_part,
    replace_folder,
    write_bytes,
    write_file,
)
from fairdd_cli.errors import UsageError

METADATA = "fairdd.json"  # the file that tells an exported folder from any other
EXACT = "exact.npz"  # the images of a folder as they are, class after class, each in the order of its files
SLUG = 40  # letters of a class's name in that of its folder
ALIGNED = 8  # bytes to whose multiple the head of a .safetensors is filled up, so that tensors can be mapped


@dataclass(frozen=True)
class Export:
    """Training images float32 [M, C, H, W] in normalised units with their labels int64 [M], and what they mean.

    `groups` (int64 [M]) index `group_names`; they are None where images stand for none.
    `origin` says where they come from, for the formats that have a place for it.
    """

    images: np.ndarray
    labels: np.ndarray
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    origin: Mapping[str, object] = field(default_factory=dict)
    groups: np.ndarray | None = None
    group_names: tuple[str, ...] = ()

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """What labels and groups are called."""
        return {"class_names": self.class_names, **({} if self.groups is None else {"group_names": self.group_names})}

    def tensors(self) -> dict[str, np.ndarray]:
        """Everything that is numbers, by name."""
        mean, std = (np.array(values, np.float32) for values in (self.mean, self.std))
        groups = {} if self.groups is None else {"groups": self.groups}
        return {"images": self.images, "labels": self.labels, **groups, "mean": mean, "std": std}


def pixels(images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """Normalised `images` [N, C, H, W] as uint8; what lies beyond black and white is cut off."""
    scale, shift = (np.array(values, np.float32)[:, None, None] for values in (std, mean))
    values: np.ndarray = np.rint(np.clip(images * scale + shift, 0, 1) * 255).astype(np.uint8)
    return values


def _npz(export: Export) -> bytes:
    buffer = io.BytesIO()
    # The names are no objects, which only unpickling would read.
    arrays: dict[str, Any] = dict(export.tensors())
    arrays |= {name: np.array(names, dtype=np.str_) for name, names in export.names.items()}
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _safetensors(export: Export) -> bytes:
    """Length of the head (8 bytes, little endian), head (JSON: where each tensor lies), tensors."""
    origin = {**export.names, **export.origin}
    head: dict[str, object] = {"__metadata__": {name: json.dumps(value) for name, value in origin.items()}}
    parts: list[bytes] = []
    end = 0
    for name, array in sorted(export.tensors().items(), key=lambda entry: -entry[1].itemsize):  # widest first
        dtype = {"i": "I", "f": "F"}[array.dtype.kind] + str(8 * array.itemsize)
        parts.append(array.astype(array.dtype.newbyteorder("<")).tobytes())
        start, end = end, end + len(parts[-1])
        head[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": (start, end)}
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % ALIGNED)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def _pt(export: Export) -> bytes:
    import torch  # noqa: PLC0415  # slow to import, and only this format needs it

    buffer = io.BytesIO()
    torch.save((torch.from_numpy(export.images), torch.from_numpy(export.labels)), buffer)
    return buffer.getvalue()


ENCODERS: Mapping[str, Callable[[Export], bytes]] = {".npz": _npz, ".safetensors": _safetensors, ".pt": _pt}


def is_folder(path: str) -> bool:
    """Whether `path` asks for a folder: there is one, or it has no suffix, or ends in a slash."""
    return path.endswith("/") or Path(path).is_dir() or not Path(path).suffix


def check_export(path: str, force: bool) -> None:
    """Raises UsageError where `write_export` could not write `path`: an unknown suffix, or something is there."""
    if path in ("", STREAM):
        raise UsageError("--export needs the name of a folder or of a file")
    try:
        if is_folder(path):
            _check_folder(path, force)
        else:
            _check_file(path, force)
    except (OSError, ValueError) as error:  # a name too long, a loop of links
        raise UsageError(f"cannot write '{path}': {getattr(error, 'strerror', None) or error}") from error


def _check_file(path: str, force: bool) -> None:
    if Path(path).suffix not in ENCODERS:
        raise UsageError(
            f"--export {path}: unknown suffix '{Path(path).suffix}' (known: {', '.join(ENCODERS)}; "
            "a name without a suffix, or one that ends in /, is a folder of PNG)"
        )
    check_target(path, force)


def _check_folder(path: str, force: bool) -> None:
    folder = followed(path)
    if not folder.is_dir():
        check_target(path.rstrip("/"), force=False)
        return
    check_replaceable(folder)
    if Path.cwd().is_relative_to(folder.resolve()):
        raise UsageError(f"--export {path}: it cannot replace the current folder; give the name of one inside it")
    if any(folder.iterdir()):
        if not _is_export(folder):
            raise UsageError(f"'{path}' holds other files than an export, and is left alone; give another name")
        if not force:
            raise UsageError(f"'{path}' holds an export already; give --force to replace it, or another name")


def _is_export(folder: Path) -> bool:
    """Whether `folder` holds what `write_export` puts there and nothing else, so that it may be replaced."""
    others = [entry for entry in folder.iterdir() if entry.name not in (METADATA, EXACT)]
    return (folder / METADATA).is_file() and all(
        entry.is_dir() and not entry.is_symlink() and all(file.suffix == ".png" for file in entry.iterdir())
        for entry in others
    )


def write_export(path: str, export: Export, force: bool = False) -> None:
    """Writes `export` to `path`, whole or not at all, in the format that its suffix names.

    Raises UsageError as `check_export`, and for a folder of images that PNG cannot hold; WorkError where the
    system cannot write.
    """
    check_export(path, force)
    if is_folder(path):
        _write_folder(followed(path).absolute(), _folder_files(export))
    else:
        write_bytes(path, ENCODERS[Path(path).suffix](export), force)


def _folder_files(export: Export) -> dict[str, bytes]:
    """The content of each file of a folder, by its path in there."""
    from PIL import Image  # noqa: PLC0415  # only this format needs it

    channels = export.images.shape[1]
    if channels not in (1, 3):
        raise UsageError(f"PNG holds images of 1 or 3 channels, and these have {channels}; export them as .npz")
    sheet = pixels(export.images, export.mean, export.std).transpose(0, 2, 3, 1)
    folders = class_folders(export.class_names)
    metadata = {**export.names, "mean": export.mean, "std": export.std, **export.origin}
    order = np.argsort(export.labels, kind="stable")
    sorted_by_class = replace(export, images=export.images[order], labels=export.labels[order])
    if export.groups is not None:
        sorted_by_class = replace(sorted_by_class, groups=export.groups[order])
        metadata["groups"] = {
            name: export.groups[export.labels == label].tolist() for label, name in enumerate(folders)
        }
    files = {METADATA: (json.dumps(metadata, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace")}
    files[EXACT] = _npz(sorted_by_class)
    for label, name in enumerate(folders):
        for number, image in enumerate(sheet[export.labels == label]):
            buffer = io.BytesIO()
            Image.fromarray(image[..., 0] if channels == 1 else image).save(buffer, "PNG")
            files[f"{name}/{number:05}.png"] = buffer.getvalue()
    return files


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes `files` to a folder beside `folder`, which then takes its place in one step where the system can."""
    needed = sum(map(len, files.values()))
    part: Path | None = None
    try:
        make_folder(folder.parent)
        part = new_part(folder)
        part.mkdir()
        folders = {(part / name).parent for name in files} - {part}
        for each in folders:
            each.mkdir()
        for name, content in files.items():
            write_file(part / name, content)
        for each in (*folders, part):
            flush_folder(each)
        replace_folder(part, folder)
    except OSError as error:
        raise cannot_write(folder, error, needed) from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


def class_folders(class_names: tuple[str, ...]) -> list[str]:
    """A folder's name for each class: its number, so that sorting keeps the labels, and a slug of its name.

    Class names come from files. Only ASCII letters, digits and hyphens are taken over, so that none of them is a
    path, an option or hidden.
    """
    width = len(str(len(class_names) - 1))
    plain = [unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower() for name in class_names]
    slugs = [re.sub("[^a-z0-9]+", "-", name)[:SLUG].strip("-") or "class" for name in plain]
    return [f"{label:0{width}}-{slug}" for label, slug in enumerate(slugs)]
