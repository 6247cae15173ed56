"""One image file to a square uint8 RGB array, whatever its format and mode.

The decoding processes import this module and nothing heavier, so that they start quickly and stay small.
"""

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from fairdd_cli.datasets.images.parallel import exclusive

# Formats that Pillow decodes by itself. Others (EPS among them) would start programs that are not made for
# files of unknown origin.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
SUFFIXES = frozenset(
    [".avif", ".bmp", ".gif", ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".j2k", ".png", ".ppm", ".pgm", ".pbm", ".pnm"]
    + [".tga", ".tif", ".tiff", ".webp"]
)
PIXEL_LIMIT = 10**8  # a 100-megapixel photograph passes; what declares more is taken for a decompression bomb
LARGE = 2**24  # pixels; one process at a time decodes such an image, since it takes up to half a gigabyte
REDUCING_GAP = 3.0  # a photograph is first reduced, cheaply, to no less than three times the size wanted
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {  # what turns an image of that orientation upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BITS_PER_SAMPLE = 258  # the TIFF tag
FEWER_BITS = 2**12  # 16-bit values that all lie below are those of fewer bits
# Formats that are not decoded, by where their mark stands in the file.
NOT_DECODED = {
    (4, b"ftyphei"): "HEIC is not read; convert it to JPEG or PNG",
    (4, b"ftyphev"): "HEIC is not read; convert it to JPEG or PNG",
    (4, b"ftypmif1"): "HEIF is not read; convert it to JPEG or PNG",
    (128, b"DICM"): "DICOM is not read; convert it to 8-bit PNG with the window that is to be seen",
    (0, b"%PDF"): "PDF is not read; convert it to PNG",
    (0, b"8BPS"): "Photoshop's PSD is not read; convert it to PNG",
}
SUFFIXES_NOT_DECODED = frozenset([".heic", ".heif", ".dcm", ".dicom"])  # looked for to be named, not passed over
PAPER = (255, 255, 255, 255)  # shows where an image is transparent


class UnreadableError(Exception):
    """An image file that cannot be decoded; the text is the reason."""


@dataclass(frozen=True)
class Geometry:
    """Images become `size` x `size`: their largest central square if `crop`, else all of it, squeezed."""

    size: int
    crop: bool = True


def decode(path: str, geometry: Geometry) -> np.ndarray:
    """The image at `path` as uint8 [3, size, size]; raises UnreadableError with the reason where it is none.

    Of an animation it is the first frame, turned as EXIF says; 16-bit greys keep their upper byte, and are refused
    where they use fewer bits; transparent pixels lie on white.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities of a file that decodes nevertheless
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                if width * height > PIXEL_LIMIT:
                    raise UnreadableError(
                        f"{width:,} x {height:,} pixels, above the {PIXEL_LIMIT // 10**6} million decoded here"
                    )
                with exclusive() if width * height > LARGE else nullcontext():
                    return _squared(image, geometry)
    except UnreadableError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableError(_unidentified(path)) from error
    except Exception as error:  # a hostile file makes a decoder raise anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableError(reason.splitlines()[0][:80]) from error


def decode_all(paths: Sequence[str], images: np.ndarray, geometry: Geometry) -> dict[int, str]:
    """Puts the image at each of the `paths` into `images`, uint8 [N or more, 3, size, size].

    Returns the reason, by position, for each that cannot be decoded; it stays black.
    """
    faults = {}
    for position, path in enumerate(paths):
        try:
            images[position] = decode(path, geometry)
        except UnreadableError as error:
            images[position] = 0
            faults[position] = str(error)
    return faults


def _squared(image: Image.Image, geometry: Geometry) -> np.ndarray:
    raw = str(getattr(image, "tile", ""))  # before the EXIF entries, which may load the image
    orientation = _orientation(image)
    # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size for a fraction of the time and memory.
    least = int(geometry.size * REDUCING_GAP)
    image.draft(None, (least, least))
    rgb = _rgb(image, raw)
    if orientation in UPRIGHT:
        rgb = rgb.transpose(UPRIGHT[orientation])
    if geometry.crop:
        width, height = rgb.size
        side = min(width, height)
        left, top = round((width - side) / 2), round((height - side) / 2)
        rgb = rgb.crop((left, top, left + side, top + side))
    size = (geometry.size, geometry.size)
    small = rgb.resize(size, Image.Resampling.BILINEAR, reducing_gap=REDUCING_GAP)
    return np.asarray(small).transpose(2, 0, 1)


def _unidentified(path: str) -> str:
    """Why the file at `path` is no image that Pillow knows."""
    with Path(path).open("rb") as stream:
        head = stream.read(132)
    for (start, mark), reason in NOT_DECODED.items():
        if head.startswith(mark, start):
            return reason
    return "not an image of a known format" if head else "an empty file"


def _orientation(image: Image.Image) -> int:
    """How EXIF says that the image lies; upright where it says nothing that can be read."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # whatever else is odd in the entries, the image is not
        return 1


def _rgb(image: Image.Image, raw: str) -> Image.Image:
    """The image in RGB; `raw` tells how the file stores its values."""
    deep = ";16" in raw
    if image.mode == "F" or ";32" in raw:
        raise UnreadableError("32-bit or floating-point grey values, an unknown value range; save it as 8 bits")
    if image.mode.startswith("I"):  # 16 bits, which Pillow's own conversion would clip to 8
        grey = np.asarray(image)
        bits = 12 if image.format == "TIFF" and image.tag_v2.get(BITS_PER_SAMPLE) == (12,) else 16  # type: ignore[attr-defined]
        if grey.min() < 0 or grey.max() > 0xFFFF:
            raise UnreadableError("grey values beyond 16 bits, an unknown value range; save it as 8 bits")
        if bits == 16:
            _check_depth(int(grey.max()))
        return Image.fromarray((grey >> (bits - 8)).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        colours = clear.getextrema()[:3]
        rgb = Image.alpha_composite(Image.new("RGBA", clear.size, PAPER), clear).convert("RGB")
    else:
        rgb = image if image.mode == "RGB" else image.convert("RGB")  # which would copy it
        colours = rgb.getextrema() if deep else ()
    if deep:  # Pillow has kept the upper bytes
        _check_depth(max(high for _, high in colours) * 256 + 255)  # type: ignore[misc]
    return rgb


def _check_depth(largest: int) -> None:
    """Raises UnreadableError where the `largest` of 16-bit values shows that fewer bits are used: it would be black."""
    if 0 < largest < FEWER_BITS:
        raise UnreadableError(f"16-bit values of at most {largest:,}: its number of bits is unknown; save it as 8 bits")
