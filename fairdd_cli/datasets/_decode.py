"""One image file to a square uint8 RGB array, whatever its format and mode.

The decoding processes import this module and nothing heavier, so that they start quickly and stay small.
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Formats that Pillow decodes by itself. Others (EPS among them) would start programs that are not made for
# files of unknown origin.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
SUFFIXES = frozenset(
    [".avif", ".bmp", ".gif", ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".j2k", ".png", ".ppm", ".pgm", ".pbm", ".pnm"]
    + [".tga", ".tif", ".tiff", ".webp"]
)
PIXEL_LIMIT = 10**8  # a 100-megapixel photograph passes; what declares more is taken for a decompression bomb
REDUCING_GAP = 3.0  # a photograph is first reduced, cheaply, to no less than three times the size wanted
ORIENTATION = 0x0112  # the EXIF tag
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

    Of an animation it is the first frame, turned as EXIF says; 16-bit greys keep their upper byte; transparent
    pixels lie on white.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities of a file that decodes nevertheless
            with Image.open(path, formats=FORMATS) as image:
                return _squared(image, geometry)
    except UnreadableError:
        raise
    except UnidentifiedImageError as error:
        empty = os.path.getsize(path) == 0  # noqa: PTH202  # strings all the way: a Path per image costs time
        raise UnreadableError("an empty file" if empty else "not an image of a known format") from error
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
    width, height = image.size
    if width * height > PIXEL_LIMIT:
        raise UnreadableError(f"{width:,} x {height:,} pixels, above the {PIXEL_LIMIT // 10**6} million decoded here")
    orientation = image.getexif().get(ORIENTATION, 1)
    # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size for a fraction of the time and memory.
    least = int(geometry.size * REDUCING_GAP)
    image.draft(None, (least, least))
    rgb = _rgb(image)
    if orientation != 1:
        rgb.getexif()[ORIENTATION] = orientation
        rgb = ImageOps.exif_transpose(rgb)
    if geometry.crop:
        width, height = rgb.size
        side = min(width, height)
        left, top = round((width - side) / 2), round((height - side) / 2)
        rgb = rgb.crop((left, top, left + side, top + side))
    size = (geometry.size, geometry.size)
    small = rgb.resize(size, Image.Resampling.BILINEAR, reducing_gap=REDUCING_GAP)
    return np.asarray(small).transpose(2, 0, 1)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, which Pillow's own conversion would clip to 8
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 0xFFFF:
            raise UnreadableError("32-bit grey values, whose range is anybody's guess")
        return Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise UnreadableError("floating-point grey values, whose range is anybody's guess")
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, PAPER), clear).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it
