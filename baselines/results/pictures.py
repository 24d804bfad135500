"""A figure as two files: PNG for pages, PDF for papers.

The signature, which identifies the data behind a figure, is in the metadata of both files, not in the picture itself.
"""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from blemore.io import write_atomic

SUFFIXES = (".png", ".pdf")


class Picture(NamedTuple):
    """The contents of one figure's files; the PDF is vector graphics with embedded fonts."""

    png: bytes
    pdf: bytes


def write_figure(folder: Path, name: str, picture: Picture, signature: str | None) -> list[Path]:
    """Writes `folder/<name>.png` and `.pdf`. Returns their paths.

    signature: for the metadata; None if the picture has one already

    Raises FileError: a file cannot be written.
    """
    contents = picture if signature is None else sign(picture, signature)
    paths = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    for path, content in zip(paths, contents):
        write_atomic(path, content)
    return paths


def sign(picture: Picture, signature: str) -> Picture:
    """The picture with a signature in its metadata: a text chunk `Signature` of the PNG, the keywords of the PDF.

    picture: as `plots.picture` draws it
    """
    return Picture(_sign_png(picture.png, signature), _sign_pdf(picture.pdf, signature))


def _sign_png(png: bytes, signature: str) -> bytes:
    """Inserts a chunk of international text (PNG specification, 11.3.4.5) after the header, which must come first."""
    content = b"iTXtSignature\0\0\0\0\0" + signature.encode()
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    header_end = 8 + 12 + 13  # PNG signature; length, type and checksum of a chunk; the header's content
    return png[:header_end] + chunk + png[header_end:]


def _sign_pdf(pdf: bytes, signature: str) -> bytes:
    """Adds a metadata dictionary by an incremental update (ISO 32000-1, 7.5.6); nothing else changes."""
    trailer = pdf[pdf.rindex(b"trailer") :]
    size, root, previous = (
        match[1]
        for pattern in (rb"/Size (\d+)", rb"/Root (\d+ \d+ R)", rb"startxref\s+(\d+)")
        for match in re.finditer(pattern, trailer)
    )
    number, place = int(size), len(pdf)
    entry = b"%d 0 obj\n<< /Keywords %s >>\nendobj\n" % (number, _pdf_string(signature))
    table = b"xref\n%d 1\n%010d 00000 n \n" % (number, place)
    end = b"trailer\n<< /Size %d /Root %s /Info %d 0 R /Prev %s >>\n" % (number + 1, root, number, previous)
    return pdf + entry + table + end + b"startxref\n%d\n%%%%EOF\n" % (place + len(entry))


def _pdf_string(text: str) -> bytes:
    """A PDF string, readable if the text is ASCII."""
    if text.isascii():
        return b"(" + re.sub(rb"([\\()])", rb"\\\1", text.encode()) + b")"
    return b"<FEFF" + text.encode("utf-16-be").hex().encode() + b">"
