"""Draws logo.png: two overlapping discs, the larger one for the dominant emotion. Run: `python logo.py`"""

import struct
import zlib
from pathlib import Path

SIZE, FINER = 512, 4  # pixels; samples per pixel and axis, for smooth edges
PAPER, WARM, COOL, BOTH = (250, 248, 244), (232, 120, 62), (44, 104, 168), (120, 52, 92)
DISCS = ((0.40, 0.46, 0.30), (0.68, 0.60, 0.21))  # centre x, y and radius, in widths


def colour(x: float, y: float) -> tuple:
    first, second = ((x - cx) ** 2 + (y - cy) ** 2 < radius * radius for cx, cy, radius in DISCS)
    if first:
        return BOTH if second else WARM
    return COOL if second else PAPER


def pixel(column: int, row: int) -> bytes:
    step = 1 / (SIZE * FINER)
    samples = [
        colour((column * FINER + i + 0.5) * step, (row * FINER + j + 0.5) * step)
        for i in range(FINER)
        for j in range(FINER)
    ]
    return bytes(sum(channel) // len(samples) for channel in zip(*samples))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png() -> bytes:
    rows = b"".join(b"\0" + b"".join(pixel(column, row) for column in range(SIZE)) for row in range(SIZE))
    header = struct.pack(">IIBBBBB", SIZE, SIZE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


if __name__ == "__main__":
    Path(__file__).with_name("logo.png").write_bytes(png())
