"""Which images the platform accepts as a logo, judged by their headers and compared with Pillow."""

import io
import random

import pytest

from blemore_codabench import images

Image = pytest.importorskip("PIL.Image", reason="comes with matplotlib, in the extra test")


def encoded(mode="RGB", size=(300, 200), kind="PNG", **options):
    buffer = io.BytesIO()
    picture = Image.new(mode, size)
    if mode in ("RGB", "L"):  # more than one colour, so there are data to cut off
        picture.frombytes(random.Random(1).randbytes(len(picture.tobytes())))
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(300, 200), (1, 1), (5, 1000), (100, 1)])
@pytest.mark.parametrize(
    "mode, kind, options",
    [
        ("RGB", "PNG", {}),
        ("P", "PNG", {}),
        ("1", "PNG", {}),
        ("LA", "PNG", {}),
        ("I;16", "PNG", {}),
        ("RGB", "JPEG", {}),
        ("L", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True}),
        ("P", "GIF", {}),
        ("RGB", "WEBP", {}),
        ("RGBA", "WEBP", {}),
        ("RGB", "WEBP", {"lossless": True}),
    ],
)
def test_images_that_the_platform_accepts(mode, kind, options, size):
    raw = encoded(mode, size, kind, **options)
    assert images.fault(raw) is None
    picture = next(read(raw) for magic, read in images.READERS.items() if raw.startswith(magic))
    assert (picture.width, picture.height) == Image.open(io.BytesIO(raw)).size


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_truncated_images_are_refused_at_any_length(kind):
    raw = encoded("P" if kind == "GIF" else "RGB", kind=kind)
    for length in [*range(12, 200), *range(200, len(raw) - 1, max(1, len(raw) // 50))]:
        assert images.fault(raw[:length]) is not None, length


def test_a_damaged_png_is_refused():
    raw = bytearray(encoded())
    raw[len(raw) // 2] ^= 1
    assert "damaged" in images.fault(bytes(raw))


@pytest.mark.parametrize(
    "raw, words",
    [
        (b"", "not a raster image"),
        (b"hello", "not a raster image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG"),
        (b"BM hello", "a BMP"),
        (b"\0\0\0\x1cftypavif" + b"\0" * 40, "an AVIF"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 100, "damaged"),
        (b"RIFF\0\0\0\0WAVEfmt " + b"\0" * 40, "damaged"),
    ],
)
def test_files_that_the_platform_refuses(raw, words):
    assert words in images.fault(raw) and "expected" in images.fault(raw)


@pytest.mark.parametrize(
    "mode, size, kind, words",
    [
        ("CMYK", (300, 200), "JPEG", "CMYK"),
        ("RGB", (300, 200), "TIFF", "a TIFF"),
        ("RGB", (64, 64), "ICO", "ICO"),
        ("RGB", (1000, 5), "PNG", "would have no height"),
        ("1", (20_000, 10_000), "PNG", "at most 178,956,970"),
    ],
)
def test_images_that_cannot_become_an_icon(mode, size, kind, words):
    assert words in images.fault(encoded(mode, size, kind))


@pytest.mark.parametrize(
    "name, is_refused",
    [("logo.png", False), ("logo", False), ("l" * 150 + ".png", False), ("a/" + "l" * 30 + "." + "e" * 20, False)]
    + [("logo." + "e" * 110, True), ("l" * 30 + "." + "e" * 50, True), ("." + "e" * 90, False)],
)
def test_names(name, is_refused):
    """The platform shortens long names before the suffix, which must leave room."""
    assert bool(images.name_fault(name)) == is_refused
