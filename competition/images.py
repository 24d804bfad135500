"""Reads the headers of an image file to see whether the platform accepts it as a logo.

The platform reads PNG, JPEG, GIF and WebP, makes an icon 100 pixels wide, and saves it as PNG.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

ICON_WIDTH = 100  # pixels
MOST_PIXELS = 178_956_970  # Pillow treats a larger image as an attack
LONGEST_SUFFIX = 50  # characters, if the whole name is longer than LONGEST_NAME
LONGEST_NAME = 59  # 100 characters, less 41 for the platform's own folders
KINDS = "PNG, JPEG, GIF or WebP"
OTHERS = {  # by their first bytes
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"\0\0\1\0": "an icon (ICO)",
    b"8BPS": "a Photoshop file",
    b"%PDF": "a PDF",
}


class Picture(NamedTuple):
    """An image's size in pixels. whole: it is not cut short. cmyk: it has printing inks, not screen colours."""

    kind: str
    width: int
    height: int
    whole: bool
    cmyk: bool = False


def fault(raw: bytes) -> str | None:
    """Why the platform refuses an image; None if it accepts it."""
    kind = next((reader for magic, reader in READERS.items() if raw.startswith(magic)), None)
    if kind is None:
        return f"{_other_kind(raw)}; expected a {KINDS}"
    try:
        picture = kind(raw)
    except (struct.error, IndexError):
        picture = None
    if picture is None or not picture.whole or not picture.width or not picture.height:
        return "cut short or damaged; expected a whole image"
    width, height = picture.width, picture.height
    if picture.cmyk:
        return "a JPEG for print (CMYK), which the platform cannot turn into an icon; expected RGB"
    if width * height > MOST_PIXELS:
        return f"{width:,} × {height:,} pixels; expected at most {MOST_PIXELS:,} in all"
    if height * ICON_WIDTH < width:
        return f"{width:,} × {height:,} pixels, so an icon would have no height; expected a taller image"
    return None


def name_fault(name: str) -> str | None:
    """Why the platform cannot store an image by this name, else None. It shortens long names, but not suffixes."""
    base = name.rpartition("/")[2]
    dot = base.rfind(".")
    suffix = base[dot:] if dot > 0 else ""
    if len(base) > LONGEST_NAME and len(suffix) > LONGEST_SUFFIX:
        return f"a suffix of {len(suffix)} characters; expected at most {LONGEST_SUFFIX}"
    return None


def _other_kind(raw: bytes) -> str:
    if b"<svg" in raw[:1000]:
        return "an SVG"
    if raw[4:8] == b"ftyp":
        return "an AVIF or HEIF"
    return next((name for magic, name in OTHERS.items() if raw.startswith(magic)), "not a raster image")


# ------------------------------------------------------------------------------- by kind


def _png(raw: bytes) -> Picture | None:
    width = height = 0
    pixels, at_end = zlib.decompressobj(), False
    for kind, content in _chunks(raw):
        if kind == b"IHDR":
            width, height = struct.unpack(">II", content[:8])
        elif kind == b"IDAT" and not _decompress(pixels, content):
            return None
        at_end = kind == b"IEND"
    return Picture("PNG", width, height, at_end and pixels.eof)


def _chunks(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """A PNG's chunks, up to the first that is damaged or cut short."""
    place = 8
    while place + 12 <= len(raw):
        (size,) = struct.unpack(">I", raw[place : place + 4])
        body, check = raw[place + 4 : place + 8 + size], raw[place + 8 + size : place + 12 + size]
        if check != struct.pack(">I", zlib.crc32(body)):
            return
        yield body[:4], body[4:]
        if body[:4] == b"IEND":
            return
        place += 12 + size


def _decompress(stream, content: bytes) -> bool:
    """Decompress a stream, one mebibyte at a time, and discard the output. False: it is damaged."""
    try:
        while content and not stream.eof:
            stream.decompress(content, 2**20)
            content = stream.unconsumed_tail
    except zlib.error:
        return False
    return True


def _jpeg(raw: bytes) -> Picture | None:
    place = 2
    frame = None
    while raw[place] == 0xFF:
        marker = raw[place + 1]
        if marker == 0xFF:  # padding
            place += 1
            continue
        (size,) = struct.unpack(">H", raw[place + 2 : place + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = struct.unpack(">HHB", raw[place + 5 : place + 10])
        if marker == 0xDA:  # the pixels
            break
        place += 2 + size
    if frame is None:
        return None
    height, width, channels = frame
    return Picture("JPEG", width, height, b"\xff\xd9" in raw[place:], channels == 4)


def _gif(raw: bytes) -> Picture | None:
    width, height, flags = struct.unpack("<HHB", raw[6:11])
    place, images = 13 + _colours(flags), 0
    while raw[place] != 0x3B:
        if raw[place] == 0x2C:
            place, images = place + 11 + _colours(raw[place + 9]), images + 1
        elif raw[place] == 0x21:
            place += 2
        else:
            return None
        while raw[place]:  # blocks of up to 255 bytes; an empty one is the last
            place += 1 + raw[place]
        place += 1
    return Picture("GIF", width, height, images > 0)


def _colours(flags: int) -> int:
    """The size of a colour table in bytes."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _webp(raw: bytes) -> Picture | None:
    whole = len(raw) >= struct.unpack("<I", raw[4:8])[0] + 8
    kind, body = raw[12:16], raw[20:]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(body[start : start + 3], "little") for start in (4, 7))
    elif kind == b"VP8L":
        sizes = int.from_bytes(body[1:5], "little")
        width, height = 1 + (sizes & 0x3FFF), 1 + (sizes >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width, height = (size & 0x3FFF for size in struct.unpack("<HH", body[6:10]))
    else:
        return None
    return Picture("WebP", width, height, whole and raw[8:12] == b"WEBP")


READERS = {b"\x89PNG\r\n\x1a\n": _png, b"\xff\xd8\xff": _jpeg, b"GIF87a": _gif, b"GIF89a": _gif, b"RIFF": _webp}
