"""Images of every mode and every kind of damage."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fairdd_cli.datasets.images import decode as decode_module
from fairdd_cli.datasets.images.decode import Geometry, UnreadableError, decode, decode_all

SQUARE = Geometry(16)
RED, GREY, WHITE = (200, 20, 20), (120, 120, 120), (255, 255, 255)


def saved(path: Path, image: Image.Image, **options: object) -> str:
    image.save(path, **options)
    return str(path)


def animated(path: Path, kind: str) -> str:
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, (0, 0, 255), (0, 255, 0))]
    return saved(path, frames[0], format=kind, save_all=True, append_images=frames[1:], **LOSSLESS.get(kind, {}))


LOSSLESS = {"WEBP": {"lossless": True}, "MPO": {"quality": 100}}
SOLID: dict[str, tuple[Callable[[Path], str], tuple[int, int, int]]] = {
    "rgb.png": (lambda path: saved(path, Image.new("RGB", (20, 20), RED)), RED),
    "rgb.bmp": (lambda path: saved(path, Image.new("RGB", (20, 20), RED)), RED),
    "rgb.webp": (lambda path: saved(path, Image.new("RGB", (20, 20), RED), lossless=True), RED),
    "grey.png": (lambda path: saved(path, Image.new("L", (20, 20), 120)), GREY),
    "grey.jpg": (lambda path: saved(path, Image.new("L", (20, 20), 120)), GREY),
    "grey-alpha.png": (lambda path: saved(path, Image.new("LA", (20, 20), (120, 255))), GREY),
    "bits.png": (lambda path: saved(path, Image.new("1", (20, 20), 1)), WHITE),
    "palette.png": (lambda path: saved(path, Image.new("RGB", (20, 20), RED).quantize()), RED),
    "palette.gif": (lambda path: saved(path, Image.new("RGB", (20, 20), RED)), RED),
    "palette-clear.png": (lambda path: saved(path, Image.new("P", (20, 20), 0), transparency=0), WHITE),
    "cmyk.jpg": (lambda path: saved(path, Image.new("CMYK", (20, 20), (0, 0, 0, 135)), quality=100), GREY),
    "cmyk.tif": (lambda path: saved(path, Image.new("CMYK", (20, 20), (0, 0, 0, 135))), GREY),
    "clear.png": (lambda path: saved(path, Image.new("RGBA", (20, 20), (*RED, 0))), WHITE),
    "opaque.png": (lambda path: saved(path, Image.new("RGBA", (20, 20), (*RED, 255))), RED),
    "16-bit.png": (lambda path: saved(path, Image.fromarray(np.full((20, 20), 120 * 257, np.uint16))), GREY),
    "16-bit.tif": (lambda path: saved(path, Image.fromarray(np.full((20, 20), 120 * 257, np.uint16))), GREY),
    "animated.gif": (lambda path: animated(path, "GIF"), RED),
    "animated.png": (lambda path: animated(path, "PNG"), RED),
    "animated.webp": (lambda path: animated(path, "WEBP"), RED),
    "two.mpo": (lambda path: animated(path, "MPO"), RED),
    "pages.tif": (lambda path: animated(path, "TIFF"), RED),
    "wrong-suffix.png": (lambda path: saved(path, Image.new("RGB", (20, 20), RED), format="BMP"), RED),
}


@pytest.mark.parametrize("name", SOLID)
def test_readable_images_are_converted(tmp_path: Path, name: str) -> None:
    make, colour = SOLID[name]
    image = decode(make(tmp_path / name), SQUARE)
    assert image.dtype == np.uint8
    assert image.shape == (3, 16, 16)
    assert np.abs(image.astype(int) - np.array(colour)[:, None, None]).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))
    undo = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    lying = upright
    for step in undo.get(orientation, []):
        lying = lying.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "photo.png", lying, exif=exif)
    assert np.array_equal(decode(path, SQUARE), np.asarray(upright).transpose(2, 0, 1))


def test_an_odd_exif_orientation_is_no_reason_to_fail(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    path = saved(tmp_path / "photo.jpg", Image.new("RGB", (20, 20), RED), exif=exif)
    assert decode(path, SQUARE).shape == (3, 16, 16)


def test_the_centre_is_cropped_or_the_whole_squeezed(tmp_path: Path) -> None:
    pixels = np.zeros((16, 48, 3), np.uint8)
    pixels[:, 16:32] = 255
    path = saved(tmp_path / "wide.png", Image.fromarray(pixels))
    assert (decode(path, SQUARE) == 255).all()
    squeezed = decode(path, Geometry(16, crop=False))
    assert squeezed[:, :, 8].min() > 250
    assert squeezed[:, :, 0].max() < 5


def test_celeba_geometry_is_that_of_a_crop_of_178_and_a_resize(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (218, 178, 3), np.uint8))
    path = saved(tmp_path / "face.jpg", noise, quality=95)
    with Image.open(path) as image:
        expected = image.crop((0, 20, 178, 198)).resize((64, 64), Image.Resampling.BILINEAR)
    assert np.abs(decode(path, Geometry(64)) - np.asarray(expected).astype(int).transpose(2, 0, 1)).max() <= 1


def test_a_large_photograph_is_close_to_its_full_decoding(tmp_path: Path) -> None:
    smooth = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)).resize((1200, 900))
    path = saved(tmp_path / "photo.jpg", smooth, quality=95)
    with Image.open(path) as image:
        expected = image.crop((150, 0, 1050, 900)).resize((64, 64), Image.Resampling.BILINEAR)
    assert (
        np.abs(decode(path, Geometry(64)) - np.asarray(expected).astype(int).transpose(2, 0, 1)).mean() < 2
    )  # half a reduced pixel of shift


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def whole(kind: str, size: int = 200) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


DAMAGED = {
    "empty": (b"", "an empty file"),
    "text": (b"not an image at all", "not an image"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image"),
    "no pixels": (png(0, 0), "."),
    "bomb": (png(10**5, 10**5), "exceeds limit"),
    "small bomb": (png(12_000, 10_000), "12,000 x 10,000 pixels, above the 100 million"),
    "too few pixels": (png(64, 64), "."),
    "cut jpeg": (whole("JPEG")[:-2000], "truncated"),
    "cut png": (whole("PNG")[:-2000], "truncated"),
    "cut webp": (whole("WEBP")[:-2000], "."),
    "cut gif": (whole("GIF")[:-2000], "truncated"),
    "cut tiff": (whole("TIFF")[:-2000], "."),
    "header only": (whole("JPEG")[:300], "."),
    "wrong chunk": (whole("PNG").replace(b"IDAT", b"IDAX"), "."),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_unreadable_images_give_a_reason(tmp_path: Path, name: str) -> None:
    content, reason = DAMAGED[name]
    path = tmp_path / "image"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=reason) as caught:
        decode(str(path), SQUARE)
    assert 0 < len(str(caught.value)) < 120
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [np.full((9, 9), 0.5, np.float32), np.full((9, 9), 70_000, np.int32)])
def test_values_without_a_range_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    with pytest.raises(UnreadableError, match="unknown value range"):
        decode(saved(tmp_path / "values.tif", Image.fromarray(values)), SQUARE)


def test_greys_of_fewer_bits_are_refused_rather_than_black(tmp_path: Path) -> None:
    for values in (np.full((9, 9), 4_000, np.uint16), np.full((9, 9), 255, np.uint16)):
        for suffix in ("png", "tif"):
            with pytest.raises(UnreadableError, match=r"16-bit values of at most .* save it as 8 bits"):
                decode(saved(tmp_path / f"values.{suffix}", Image.fromarray(values)), SQUARE)
    assert (decode(saved(tmp_path / "black.png", Image.fromarray(np.zeros((9, 9), np.uint16))), SQUARE) == 0).all()


def test_colours_of_fewer_bits_are_refused_rather_than_black(tmp_path: Path) -> None:
    for level, readable in ((4_000, False), (200, False), (40_000, True)):
        row = b"\0" + struct.pack(">27H", *[level] * 27)
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 16, 2, 0, 0, 0))
        content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(row * 9)) + chunk(b"IEND", b"")
        (tmp_path / "deep.png").write_bytes(content)
        if readable:
            assert (decode(str(tmp_path / "deep.png"), SQUARE) == level >> 8).all()
        else:
            with pytest.raises(UnreadableError, match="16-bit values"):
                decode(str(tmp_path / "deep.png"), SQUARE)


@pytest.mark.parametrize("largest", [255, 4_095, 65_535])
def test_a_declared_number_of_levels_is_taken_for_what_it_is(tmp_path: Path, largest: int) -> None:
    kind, half = ("u1", largest // 2) if largest < 256 else (">u2", largest // 2)
    (tmp_path / "grey.pgm").write_bytes(b"P5 9 9 %d " % largest + np.full((9, 9), half, kind).tobytes())
    assert np.abs(decode(str(tmp_path / "grey.pgm"), SQUARE).astype(int) - 127).max() <= 1


def test_a_turned_photograph_with_an_odd_entry(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    content = exif.tobytes()
    order = "<" if b"II" in content[:10] else ">"
    # Another entry, PhotometricInterpretation, whose value is too large for its type when it is written again.
    entry = struct.pack(order + "HHII", 0x0106, 4, 1, 70_000)
    start = content.index(b"II" if order == "<" else b"MM") + 8
    entries = content[start + 2 : start + 14] + entry
    odd = content[:start] + struct.pack(order + "H", 2) + entries + content[start + 14 :]
    path = saved(tmp_path / "photo.png", Image.fromarray(pixels), exif=odd)
    turned = decode(path, SQUARE)
    assert turned[0, :, 12].min() > 200
    assert turned[0, :, 3].max() < 50


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(200), "HEIC is not read; convert it"),
        (bytes(128) + b"DICM" + bytes(200), "DICOM is not read; convert it"),
        (b"%PDF-1.7" + bytes(200), "PDF is not read; convert it"),
    ],
)
def test_formats_that_are_not_decoded_are_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "image").write_bytes(content)
    with pytest.raises(UnreadableError, match=reason):
        decode(str(tmp_path / "image"), SQUARE)


def test_damage_never_escapes(tmp_path: Path) -> None:
    rng, path, images = np.random.default_rng(0), tmp_path / "image", np.empty((1, 3, 16, 16), np.uint8)
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "TGA", "JPEG2000", "AVIF"):
        content = np.frombuffer(whole(kind, 40), np.uint8)
        for _ in range(25):
            broken = content.copy()
            broken[rng.integers(0, min(400, len(broken)), 6)] = rng.integers(0, 256, 6)
            path.write_bytes(broken.tobytes())
            assert set(decode_all([str(path)], images, SQUARE)) <= {0}


def test_faults_keep_their_places(tmp_path: Path) -> None:
    good = saved(tmp_path / "a.png", Image.new("RGB", (20, 20), RED))
    images = np.full((4, 3, 16, 16), 99, np.uint8)
    faults = decode_all([good, str(tmp_path / "missing.png"), good], images, SQUARE)
    assert faults == {1: "No such file or directory"}
    assert images[:, 0, 0, 0].tolist() == [200, 0, 200, 99]


def test_workers_do_not_load_torch() -> None:
    modules = (
        f"import sys, {decode_module.__name__}, fairdd_cli.datasets.images.parallel; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", modules], check=False).returncode == 0
