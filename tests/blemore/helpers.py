"""Short forms for the data of tests.

`entry("ang 70 hap 30")` is the list of parts; `mapping({"a": "sad 100"})` the bare mapping of clips.
"""

import io
import json
import zipfile

from blemore.errors import ValidationError
from blemore.io import parse_json
from blemore.validate import validate


def entry(text):
    """`ang 70 hap 30` → [{"emotion": "ang", "salience": 70}, {"emotion": "hap", "salience": 30}]"""
    words = text.split()
    return [
        {"emotion": emotion, "salience": json.loads(salience)} for emotion, salience in zip(words[::2], words[1::2])
    ]


def mapping(clips):
    return {clip: entry(text) for clip, text in clips.items()}


def zipped(files, method=zipfile.ZIP_DEFLATED):
    """The bytes of a zip that holds `files`, pairs of name and content (the same name may occur twice)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return buffer.getvalue()


def problems_of(function, *arguments, **options):
    """The problems for which a call is refused; empty if it succeeds."""
    try:
        function(*arguments, **options)
    except ValidationError as error:
        assert error.problems, "refused without a problem"
        return error.problems
    return []


def read(raw, ids=None):
    """Bytes → predictions, as the command reads a file's content; places in messages start with `s`."""
    return validate(parse_json(raw if isinstance(raw, bytes) else raw.encode(), "s"), ids, "s")


def essentials(problems):
    """The parts of problems that tests pin: (code, path inside the document, clip)."""
    return [(problem.code, problem.where.partition(": ")[2], problem.clip) for problem in problems]
