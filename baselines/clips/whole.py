"""Whether a media file is as long as it says: decoders make less of a file that was cut short, and some without a word.

Each kind of container says it in its own way. What a file does not say cannot be missed: a live recording in Matroska
without sizes, say, or an MPEG-4 file of fragments that was cut between two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

MP3_RATES = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # kbit/s, of MPEG 1
MP3_RATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # of MPEG 2 and 2.5
MP3_HERTZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
OGG_PAGE = 27 + 255 + 255 * 255  # bytes, at most


def shortfall(path: Path) -> str | None:
    """What lacks of a file, in words; None: nothing, as far as the file says."""
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
            return f"{length:,} bytes, which do not end with a last page; expected one"
    return None


def _mp4(file: BinaryIO, length: int) -> int:
    """A row of parts, each beginning with its size (4 bytes, or 8 more where that says 1) and its name."""
    at = needed = 0
    while at + 8 <= length:
        file.seek(at)
        head = file.read(16)
        size, name = int.from_bytes(head[:4], "big"), head[4:8]
        size = int.from_bytes(head[8:16], "big") if size == 1 else size
        if name in (b"mdat", b"moov", b"moof"):
            needed = at + size
        if size < 8 or not name.isalnum():  # the last part, or not such a file at all
            break
        at += size
    return needed


def _matroska(file: BinaryIO, length: int) -> int:
    """Elements: an identifier, a size, and what the size says. A size whose bits are all 1 is not known."""
    needed = 0
    for identifier, start, size in _elements(file, 0, length):
        if identifier == b"\x18\x53\x80\x67":  # the segment, which holds all but the header
            ends = [begin + n for _, begin, n in _elements(file, start, length) if n is not None]
            needed = max(ends, default=0) if size is None else start + size
    return needed


def _elements(file: BinaryIO, at: int, length: int) -> Iterator[tuple[bytes, int, int | None]]:
    """Each element's identifier, the start of its content, and its size; up to the first whose size is not known."""
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
    """How many bytes a number has, from the zeros that it begins with; 0: none."""
    return 9 - data[0].bit_length() if data and data[0] else 0


def _avi(file: BinaryIO, length: int) -> int:
    """Chunks: a name, a size, and so many bytes, then one more where that is odd. Live recordings leave it open."""
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
    """Whether the last page is whole, and marked as its stream's last."""
    start = max(0, length - 2 * OGG_PAGE)
    file.seek(start)
    data = file.read()
    page = data[data.rfind(b"OggS") :]
    if len(page) < 27 or not page[5] & 4:
        return False
    segments = page[27 : 27 + page[26]]
    return len(page) >= 27 + len(segments) + sum(segments)


def _mp3(file: BinaryIO, length: int) -> int:
    """Frames, whose headers say how long they are; the first one can say how many bytes there are in all."""
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
        size = 4 if head in (b"\xff", first[:2], first[:3]) else _mp3_frame(head)  # 4: of a header that is cut short
    return at


def _mp3_frame(head: bytes) -> int:
    """The length in bytes of a frame of layer III; 0: it is none."""
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
