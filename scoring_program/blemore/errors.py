"""Problems, errors and exit codes: what can be wrong, and how it is reported.

A `Problem` says where something is wrong, what was found and expected, and how to fix it. Functions
that check collect every problem before they raise. The commands print them all and exit with the
exception's `exit_code`:

    0 fine · 1 the submission or input is invalid in its content · 2 usage (click's own)
    3 a file cannot be opened · 4 the organiser's side is at fault (labels, bundle)

Packages that are not installed, a bug in the kit, an interrupt, and a reader of the output that went away have their
usual codes (sysexits.h; 128 + the signal's number).
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

NOT_INSTALLED, BUG, INTERRUPTED, BROKEN_PIPE = 69, 70, 130, 141


class Problem(NamedTuple):
    """One thing that is wrong.

    code:    its kind, a stable word such as `fraction` or `missing-clips`
    where:   the file, and inside it the JSON path, row or column
    message: what was found and what was expected
    clip:    the clip's id, if the problem concerns one clip
    hint:    the likely cause and the fix, if known
    """

    code: str
    where: str
    message: str
    clip: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        where, name = printable(self.where), show(self.clip, 80)[1:-1] if self.clip else ""
        # The path often names the clip already.
        clip = f" (clip {name})" if name not in where else ""
        hint = f"\n    {printable(self.hint)}" if self.hint else ""
        return f"{where}{clip}: {printable(self.message)}{hint}"


class BlemoreError(Exception):
    """A mistake that a user can fix. Carries every problem that was found."""

    exit_code = 1

    def __init__(self, problems: Problem | Sequence[Problem]):
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type, tuple[list[Problem]]]:  # lets it cross from one process to another
        return type(self), (self.problems,)


class ValidationError(BlemoreError, ValueError):
    """The content of a submission, a table or a feature file is invalid."""


class FileError(BlemoreError, OSError):
    """A file cannot be opened or written."""

    exit_code = 3

    def __str__(self) -> str:  # OSError's own would show the arguments
        return "\n".join(map(str, self.problems))


class ReferenceLabelsError(BlemoreError, ValueError):
    """The labels that a submission is scored against are themselves wrong."""

    exit_code = 4


def origin(error: BaseException) -> str:
    """Where an error was raised, `thresholds.py: line 12`: enough to find a bug without revealing data."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}: line {frames[-1].lineno}" if frames else "an unknown place"


def printable(text: str) -> str:
    r"""The text, with every character escaped that a terminal would act on or that cannot be encoded.

    >>> printable("café \x1b[31m")
    'café \\x1b[31m'
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def show(value: object, width: int = 60) -> str:
    """A user's value made safe to print: one line of printable characters, at most `width` long."""
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and abs(value) >= 10**width:  # too long to be turned into digits
        return f"an integer of {value.bit_length()} bits"
    text = repr(value) if not isinstance(value, str) else '"' + repr(value)[1:-1] + '"'  # repr escapes
    return text if len(text) <= width else text[: width - 1] + "…"


def some(names: Sequence[str], first: int = 5) -> str:
    """The first few of many names, and how many more there are.

    >>> some(["a", "b", "c"], first=2)
    'a, b and 1 more'
    """
    first_names = ", ".join(show(name)[1:-1] for name in names[:first])
    rest = len(names) - first
    return f"{first_names} and {rest:,} more" if rest > 0 else first_names
