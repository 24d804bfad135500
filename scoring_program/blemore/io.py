"""Strict reading and writing of files. validate.py decides what a valid label is.

JSON is read as the standard defines it: UTF-8 (a byte-order mark is accepted), no repeated key in an
object, no NaN or Infinity. Python's own reader accepts all of these, and a score would then depend on
which of two entries happened to win.

Every problem is a `ValidationError` that says where; a file that cannot be opened is a `FileError`.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import math
import os
import uuid
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from blemore.errors import FileError, Problem, ValidationError, show, some

MAX_JSON_BYTES = 64 * 2**20
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")  # the second: an empty zip
# No honest submission reaches these limits: the JSON of 100,000 equal predictions, indented by 8, shrinks 105-fold.
MAX_ENTRIES = 10_000
MAX_EXTRACTED_BYTES = 2**30
MAX_RATIO = 300
COMMAND_FILES = ("metadata.yaml", "metadata")  # in the order in which the platform looks for them
MAX_NESTING = 2  # folders that may surround the JSON file in a zip


class Document(NamedTuple):
    """Parsed JSON and the name of the place it came from, for messages."""

    data: object
    where: str


# ------------------------------------------------------------------------------------ JSON


class _RepeatedKeys(dict[str, object]):
    """An object with repeated keys, marked so that `_flaws` can report where it is."""

    repeated: tuple[str, ...] = ()


def json_path(parts: Iterable[str | int]) -> str:
    """`$.predictions["test_0001.mov"][0].salience`"""
    text = "$"
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier() and part.isascii() and len(part) <= 40:
            text += f".{part}"
        else:
            text += f"[{show(part, 80)}]"
    return text


def parse_json(raw: bytes, where: str, max_bytes: int = MAX_JSON_BYTES) -> object:
    """Strict JSON, or a ValidationError that lists every repeated key and non-finite number."""
    if len(raw) > max_bytes:
        raise ValidationError(_too_large(where, len(raw), max_bytes))
    text = _json_text(raw, where)
    flaws: list[object] = []  # if there are any, `_flaws` looks for their places

    def build(pairs: list[tuple[str, object]]) -> dict[str, object]:
        mapping = dict(pairs)
        if len(mapping) == len(pairs):
            return mapping
        odd = _RepeatedKeys(mapping)
        odd.repeated = tuple(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        flaws.append(odd)
        return odd

    def constant(name: str) -> float:
        flaws.append(name)
        return float(name)

    def whole(digits: str) -> int | float:
        # Nobody means an integer of thousands of digits; as a float it stays cheap.
        return int(digits) if len(digits) < 20 else float(digits)

    try:
        data = json.loads(text, object_pairs_hook=build, parse_constant=constant, parse_int=whole)
    except json.JSONDecodeError as error:
        raise ValidationError(_not_json(text, error, where)) from None
    except RecursionError:
        message = "nested too deeply to be read"
        raise ValidationError(
            Problem("not-json", where, message, hint="A submission has four levels at most.")
        ) from None
    if flaws:
        problems = list(_flaws(data, where))
        if problems:
            raise ValidationError(problems)
    return data


def _json_text(raw: bytes, where: str) -> str:
    """The text of what should be JSON. ValidationError: it is not text, or not UTF-8."""
    utf16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
    if b"\0" in raw and not utf16:  # as in any archive or video
        message = f"not text: byte {raw.index(0):,} is 0x00; expected JSON, or a zip with one JSON file in it"
        raise ValidationError(
            Problem("not-json", where, message, hint="Is it a video, or an archive of another kind? Zip the JSON file.")
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        hint = "Save the file as UTF-8."
        if utf16:
            hint = "It looks like UTF-16, as some Windows tools write it: save the file as UTF-8."
        message = f"not UTF-8: byte {error.start:,} is 0x{raw[error.start]:02x}"
        raise ValidationError(Problem("not-utf8", where, message, hint=hint)) from None


def _not_json(text: str, error: json.JSONDecodeError, where: str) -> Problem:
    place = f"line {error.lineno}, column {error.colno}"
    rest = text[error.pos : error.pos + 20]
    message = f"not JSON at {place}: {error.msg.lower()}; found {show(rest) if rest else 'the end of the file'}"
    return Problem("not-json", where, message, hint=_json_hint(text, error.pos))


def _flaws(data: object, where: str) -> Iterable[Problem]:
    """Repeated keys and non-finite numbers with their places. Not recursive, since the user decides the depth."""
    todo: list[tuple[object, tuple[str | int, ...]]] = [(data, ())]
    while todo:
        node, path = todo.pop()
        place = f"{where}: {json_path(path)}"
        if isinstance(node, _RepeatedKeys):
            for key in node.repeated:
                yield Problem(
                    "duplicate-key",
                    place,
                    f"the key {show(key)} occurs more than once; expected once",
                    hint="Was the file merged from several, or a clip predicted twice? Keep one entry.",
                )
        elif isinstance(node, float) and not math.isfinite(node):
            number = json.dumps(node)  # NaN, Infinity or -Infinity
            yield Problem(
                "not-finite",
                place,
                f"found {number}; expected a finite number",
                hint="JSON has no NaN or Infinity. A division by zero or an empty softmax upstream is the usual cause.",
            )
        if isinstance(node, dict):
            todo += [(value, (*path, key)) for key, value in reversed(node.items())]
        elif isinstance(node, list):
            todo += [(value, (*path, index)) for index, value in reversed(list(enumerate(node)))]


def _json_hint(text: str, position: int) -> str:
    rest = text[position:].lstrip()
    if not text.strip():
        return "The file is empty. Was writing it interrupted?"
    if rest[:1] == "'" or rest[:4] in ("None", "True") or rest[:5] == "False":
        return "It looks like a printed Python dict: write it with json.dump."
    # The error points at the comma from Python 3.13 on, and behind it in earlier versions.
    if rest.lstrip(",").lstrip()[:1] in ("]", "}") or (rest[:1] == '"' and text[:position].rstrip()[-1:] == ","):
        return "Is there a comma too many?"
    if not rest:
        return "The file is cut short. Was writing or uploading it interrupted?"
    if rest[:1] == "<":
        return "It looks like a web page. Was an error page saved in place of the file?"
    if "filename" in text.partition("\n")[0].split(","):
        return "It looks like a CSV table: give its name the suffix .csv."
    return "Write the file with json.dump rather than by hand."


def _too_large(where: str, size: int, limit: int) -> Problem:
    message = f"{size / 2**20:,.1f} MiB; expected at most {limit / 2**20:,.0f} MiB"
    return Problem("too-large", where, message, hint="A submission of 594 clips takes about 0.05 MiB.")


# ---------------------------------------------------------------------------- files and zips


def read_bytes(path: Path | str, max_bytes: int | None = None) -> bytes:
    """A file's content. FileError: it cannot be opened; ValidationError: it is larger than `max_bytes`."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if max_bytes is not None and size > max_bytes:
                raise ValidationError(_too_large(str(path), size, max_bytes))
            raw = file.read(-1 if max_bytes is None else max_bytes + 1)  # a pipe does not know its size
    except ValidationError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(
            Problem("cannot-open", str(path), f"cannot be opened: {reason}", hint="Check the path.")
        ) from None
    if max_bytes is not None and len(raw) > max_bytes:
        raise ValidationError(_too_large(str(path), len(raw), max_bytes))
    return raw


def read_json(path: Path | str, max_bytes: int = MAX_JSON_BYTES) -> Document:
    """Read a strict JSON file, or the one JSON file in a zip. A zip is recognised by its content, not by its name."""
    raw = read_bytes(path, max_bytes)
    where = str(path)
    if raw.startswith(ZIP_MAGIC):
        raw, member = _unzip_one(raw, where, max_bytes)
        where = f"{where} › {member}"
    return Document(parse_json(raw, where, max_bytes), where)


def pick_json(names: Iterable[str], where: str) -> str:
    """The one JSON file, recognised by its suffix, among relative paths with `/`.

    Archivers and the platform add files. So these are ignored: anything under `__MACOSX`, names that
    start with a dot, and files with another suffix or none, such as the platform's `metadata`. The
    JSON file may be up to two folders deep.

    Raises ValidationError: there is none, or more than one.
    """
    candidates = []
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        ignored = any(part == "__MACOSX" or part.startswith(".") for part in parts)
        if not ignored and parts and parts[-1].lower().endswith(".json") and len(parts) <= MAX_NESTING + 1:
            candidates.append(name)
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise ValidationError(
            Problem(
                "no-json",
                where,
                "no JSON file in it; expected exactly one",
                hint=f"Put the predictions into one file ending in .json, at most {MAX_NESTING} folders deep.",
            )
        )
    raise ValidationError(
        Problem(
            "several-json",
            where,
            f"{len(candidates)} JSON files in it ({some(sorted(candidates))}); expected exactly one",
            hint="Keep only the one with the predictions.",
        )
    )


def command_file(names: Iterable[str]) -> str | None:
    """The name at the root of a zip that makes the platform take a submission for a program; None if there is none.

    The platform then runs the command in that file, or fails if there is none, and never reads the JSON.
    """
    parts = ([part for part in PurePosixPath(name).parts if part not in ("/", "..")] for name in names)
    roots = {path[0] for path in parts if path}
    return next((name for name in COMMAND_FILES if name in roots), None)


def zip_names(path: Path) -> list[str]:
    """The names of a zip's entries; empty if the file is not a zip. FileError: it cannot be opened."""
    raw = read_bytes(path)
    if not raw.startswith(ZIP_MAGIC):
        return []
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return archive.namelist()


def _unzip_one(raw: bytes, where: str, max_bytes: int) -> tuple[bytes, str]:
    # Count entries by their first bytes: to read a list of a million takes seconds and gigabytes.
    if raw.count(b"PK\x01\x02") > MAX_ENTRIES:
        raise ValidationError(
            _odd_zip(where, f"more than {MAX_ENTRIES:,} files in it", "A submission's zip holds one file.")
        )
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
            member = pick_json([entry.filename for entry in entries], where)
            entry = next(entry for entry in entries if entry.filename == member)
            problem = _unfit(entry, sum(entry.file_size for entry in entries), where)
            if problem:
                raise ValidationError(problem)
            with archive.open(entry) as file:
                content = file.read(max_bytes + 1)  # the header may lie about the size
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        if isinstance(error, ValidationError):
            raise
        raise ValidationError(
            _odd_zip(where, f"not a readable zip: {error}", "Was its upload interrupted? Zip the JSON file again.")
        ) from None
    if len(content) > max_bytes:
        raise ValidationError(_too_large(f"{where} › {member}", max(entry.file_size, len(content)), max_bytes))
    if len(content) > max(2**20, MAX_RATIO * entry.compress_size):
        raise ValidationError(
            _odd_zip(
                where,
                f"{show(member)} is compressed more than {MAX_RATIO}-fold; predictions never are",
                "Is it filled with blanks?",
            )
        )
    return content, show(member, 200)[1:-1]


def _unfit(entry: zipfile.ZipInfo, extracted: int, where: str) -> Problem | None:
    """Why an entry of a zip must not be read, else None. extracted: the bytes that all entries claim to take."""
    name = show(entry.filename)
    if entry.filename.startswith(("/", "\\")) or entry.filename[1:2] == ":":
        return _odd_zip(where, f"{name} is an absolute path", "Zip the file from within its folder.")
    if entry.flag_bits & 1:
        return _odd_zip(where, f"{name} is encrypted", "Zip it without a password.")
    # The rarer methods raise other errors, and one of them can claim gigabytes of memory.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return _odd_zip(
            where,
            f"{name} is compressed by method {entry.compress_type}; expected the usual one, deflate",
            "Zip it with default settings.",
        )
    if extracted > MAX_EXTRACTED_BYTES:
        return _odd_zip(
            where,
            f"{extracted / 2**20:,.0f} MiB when extracted; expected at most {MAX_EXTRACTED_BYTES / 2**20:,.0f} MiB",
            "Keep only the JSON file in it.",
        )
    return None


def _odd_zip(where: str, message: str, hint: str) -> Problem:
    return Problem("bad-zip", where, message, hint=hint)


NOT_A_TABLE = (
    "Is it a CSV file as the dataset ships it, separated by commas? Was it cut short, or saved in another form by a"
    " spreadsheet?"
)
SAVE_WITH_COMMAS = "Save it as CSV with commas, and with decimal points in numbers."


def other_separator(header: Sequence[str]) -> str | None:
    """The message for a CSV header whose columns are separated by something other than commas, else None."""
    for name, sign in (("semicolons", ";"), ("tabs", "\t")):
        if len(header) == 1 and sign in header[0]:
            return f"its columns are separated by {name}; expected commas"
    return None


def read_table(path: Path | str) -> list[dict[str, str]]:
    """The rows of a CSV file with a header, as dicts of stripped text. The key `""` holds a row's line number.

    Raises ValidationError: not UTF-8, no header, a column twice, rows longer or shorter than the header.
    """
    where = str(path)
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValidationError(
            Problem("not-utf8", where, f"not UTF-8 at byte {error.start:,}", hint="Save the file as UTF-8.")
        ) from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    problems, rows = [], []
    try:
        header = [name.strip() for name in next(reader, [])]
        separated = other_separator(header)
        if separated:
            raise ValidationError(Problem("bad-table", f"{where}: line 1", separated, hint=SAVE_WITH_COMMAS))
        duplicates = [name for name, count in Counter(header).items() if count > 1]
        if not header or duplicates:
            fault = f"the columns {some(duplicates)} twice" if duplicates else "an empty file"
            raise ValidationError(
                Problem(
                    "bad-table",
                    f"{where}: line 1",
                    f"found {fault}; expected a header that names each column once",
                    hint=NOT_A_TABLE,
                )
            )
        for cells in reader:
            if len(cells) == len(header):
                rows.append({**{name: cell.strip() for name, cell in zip(header, cells)}, "": str(reader.line_num)})
            elif cells:
                message = f"{len(cells)} cells; expected {len(header)}, as in the header"
                problems.append(Problem("bad-table", f"{where}: line {reader.line_num}", message, hint=NOT_A_TABLE))
    except csv.Error as error:
        problems.append(Problem("bad-table", f"{where}: line {reader.line_num}", f"not CSV: {error}", hint=NOT_A_TABLE))
    if problems:
        raise ValidationError(problems)
    return rows


# ---------------------------------------------------------------------------------- writing


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a whole file or nothing: a reader, or a killed run, never sees half of it.

    A symbolic link stays, and its target is written. A device or a pipe is written to directly.
    """
    path = Path(path)
    raw = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    temporary = None
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(raw)
            return
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name[:80]}.{uuid.uuid4().hex}.tmp")
        with open(temporary, "xb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:  # an interrupt must not leave anything behind either
        if temporary:
            with contextlib.suppress(OSError):  # it may not exist
                temporary.unlink()
        if not isinstance(error, OSError):
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "Make room on that disk, or write to another one." if full else "Choose a place where you may write."
        raise FileError(
            Problem("cannot-write", str(path), f"cannot be written: {error.strerror or error}", hint=hint)
        ) from None


def to_json(data: object) -> str:
    """JSON for any strict reader and any terminal: ASCII, no NaN or Infinity, a newline at the end."""
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV, quoted where necessary."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def zip_bytes(name: str, content: bytes | str) -> bytes:
    """A zip with one file at its root. The same content gives the same bytes, without a time stamp."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
