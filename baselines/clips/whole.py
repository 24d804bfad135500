"""Checks that a media file is as long as it declares: decoders read less of a truncated file, some of them silently.

Each container format declares its length in its own way. Some files do not declare it, so their truncation goes
unnoticed: a live Matroska recording without sizes, or a fragmented MPEG-4 file that was cut between two fragments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

MP3_RATES = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # kbit/s, of MPEG 1
MP3_RATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # of MPEG 2 and 2.5
MP3_HERTZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
OGG_PAGE = 27 + 255 + 255 * 255  # bytes at most


def shortfall(path: Path) -> str | None:
    """What is missing from a file, in words; None if it is as long as it declares, or declares nothing."""
    length = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(16)
        for begins, expected in _KINDS:
            if begins(head):
                needed = expected(file, length)
                if needed > length:
                    return f"{length:,} bytes; expected at least {needed:,}"
                break
        if head.startswith(b"OggS") and not _ogg_has_ended(file, length):
            return f"{length:,} bytes that do not end with a last page; expected one"
    return None


def _mp4(file: BinaryIO, length: int) -> int:
    """Boxes, each of which starts with its size (4 bytes; if that is 1, 8 bytes after the name) and its name."""
    at = needed = 0
    while at + 8 <= length:
        file.seek(at)
        head = file.read(16)
        size, name = int.from_bytes(head[:4], "big"), head[4:8]
        size = int.from_bytes(head[8:16], "big") if size == 1 else size
        if name in (b"mdat", b"moov", b"moof"):
            needed = at + size
        if size < 8 or not name.isalnum():  # the last box, or not an MPEG-4 file
            break
        at += size
    return needed


def _matroska(file: BinaryIO, length: int) -> int:
    """Elements: an identifier, a size, and that many bytes. A size whose bits are all 1 is unknown."""
    needed = 0
    for identifier, start, size in _elements(file, 0, length):
        if identifier == b"\x18\x53\x80\x67":  # the segment, which holds everything but the header
            ends = [begin + n for _, begin, n in _elements(file, start, length) if n is not None]
            needed = max(ends, default=0) if size is None else start + size
    return needed


def _elements(file: BinaryIO, at: int, length: int) -> Iterator[tuple[bytes, int, int | None]]:
    """Each element's identifier, start of content, and size, up to the first element of unknown size."""
    while at < length:
        file.seek(at)
        head = file.read(12)
        width = _width(head)
        bits = head[width : width + 8]
        digits = _width(bits)
        if not 0 < width <= 4 or not 0 < digits <= 8 or len(bits) < digits:
            return
        mask = (1 << 7 * digits) - 1
        value = int.from_bytes(bits[:digits], "big") & mask
        size = None if value == mask else value
        yield head[:width], at + width + digits, size
        if size is None:
            return
        at += width + digits + size


def _width(data: bytes) -> int:
    """The length in bytes of a number, from its leading zero bits; 0: not a number."""
    return 9 - data[0].bit_length() if data and data[0] else 0


def _avi(file: BinaryIO, length: int) -> int:
    """Chunks: a name, a size, that many bytes, and one more if the size is odd. Live recordings leave the size open."""
    at = needed = 0
    while at + 8 <= length:
        file.seek(at)
        head = file.read(8)
        size = int.from_bytes(head[4:], "little")
        if not head[:4].isalnum() or size in (0, 2**32 - 1):
            break
        needed = at + 8 + size
        at = needed + size % 2
    return needed


def _ogg_has_ended(file: BinaryIO, length: int) -> bool:
    """Whether the last page is complete, and marked as the last of its stream."""
    start = max(0, length - 2 * OGG_PAGE)
    file.seek(start)
    data = file.read()
    page = data[data.rfind(b"OggS") :]
    if len(page) < 27 or not page[5] & 4:
        return False
    segments = page[27 : 27 + page[26]]
    return len(page) >= 27 + len(segments) + sum(segments)


def _mp3(file: BinaryIO, length: int) -> int:
    """Frames whose headers give their lengths; the first frame can give the total length in bytes."""
    file.seek(0)
    head = file.read(10)
    start = 0
    if head.startswith(b"ID3"):
        start = 10 + sum((byte & 127) << 7 * place for place, byte in enumerate(reversed(head[6:10])))
    file.seek(start)
    first = file.read(200)
    size = _mp3_frame(first)
    if not size:
        return 0
    for name in (b"Xing", b"Info"):
        place = first.find(name)
        if 0 < place < 40 and first[place + 7] & 2:
            has_frames = first[place + 7] & 1
            counter = place + 8 + 4 * has_frames
            return start + int.from_bytes(first[counter : counter + 4], "big")
    at = start
    while size and at < length:
        at += size
        file.seek(at)
        head = file.read(4)
        size = 4 if head in (b"\xff", first[:2], first[:3]) else _mp3_frame(head)  # 4: a truncated header
    return at


def _mp3_frame(head: bytes) -> int:
    """The length in bytes of a layer III frame; 0: not such a frame."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return 0
    version, rate, hertz = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or rate in (0, 15) or hertz == 3:
        return 0
    kilobits, factor = (MP3_RATES, 144_000) if version == 3 else (MP3_RATES_2, 72_000)
    return factor * kilobits[rate] // MP3_HERTZ[version][hertz] + (head[2] >> 1 & 1)


_KINDS: list[tuple[Callable[[bytes], bool], Callable[[BinaryIO, int], int]]] = [
    (lambda head: head.startswith(b"\x1a\x45\xdf\xa3"), _matroska),
    (lambda head: head.startswith(b"RIFF") and head[8:12] == b"AVI ", _avi),
    (lambda head: head.startswith(b"ID3") or _mp3_frame(head) > 0, _mp3),
    (lambda head: len(head) >= 8 and head[4:8].isalnum(), _mp4),
]
