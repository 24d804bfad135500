"""The submission template: a valid file with every clip in it, the same as a zip, and a page on how to fill it in.

The check's messages on the page come from the check itself, run when the page is written.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from blemore.errors import ValidationError
from blemore.evaluate import check
from blemore.io import to_json, write_atomic, zip_bytes
from blemore.labels import Label, to_entry
from blemore.report import problems_to_text
from blemore.trivial import PLACEHOLDER

OFFICIAL_IDS = tuple(f"test_{number:04d}" for number in range(1, 595))
NAME = "submission_template"
WORKED = (
    ("Sadness alone", Label(("sad",), (100,))),
    ("Anger and happiness, equally salient", Label(("ang", "hap"), (50, 50))),
    ("Disgust dominates fear; fear may also come first", Label(("disg", "fea"), (70, 30))),
)


class Mistake(NamedTuple):
    """A common mistake: a wrong entry for the first clip, with CLIP for its name, or the files in the zip."""

    title: str
    entry: str = ""
    zipped: tuple[str, ...] = ()


MISTAKES = (
    Mistake(
        "Saliences as fractions", '"CLIP": [{"emotion": "ang", "salience": 0.7}, {"emotion": "hap", "salience": 0.3}]'
    ),
    Mistake(
        "Saliences that do not sum to 100",
        '"CLIP": [{"emotion": "ang", "salience": 70}, {"emotion": "hap", "salience": 20}]',
    ),
    Mistake("One emotion with a salience below 100", '"CLIP": [{"emotion": "ang", "salience": 70}]'),
    Mistake(
        "A blend of one emotion", '"CLIP": [{"emotion": "ang", "salience": 100}, {"emotion": "hap", "salience": 0}]'
    ),
    Mistake(
        "An emotion blended with itself",
        '"CLIP": [{"emotion": "ang", "salience": 50}, {"emotion": "ang", "salience": 50}]',
    ),
    Mistake("Neutral in a blend", '"CLIP": [{"emotion": "neu", "salience": 50}, {"emotion": "sad", "salience": 50}]'),
    Mistake(
        "Three emotions",
        '"CLIP": [{"emotion": "ang", "salience": 40}, {"emotion": "hap", "salience": 30}, {"emotion": "sad",'
        ' "salience": 30}]',
    ),
    Mistake("No emotion", '"CLIP": []'),
    Mistake("An emotion's full name", '"CLIP": [{"emotion": "happiness", "salience": 100}]'),
    Mistake("A number as text", '"CLIP": [{"emotion": "hap", "salience": "100"}]'),
    Mistake("An entry that is not in a list", '"CLIP": {"emotion": "hap", "salience": 100}'),
    Mistake("NaN", '"CLIP": [{"emotion": "hap", "salience": NaN}]'),
    Mistake("A missing clip"),
    Mistake("A path instead of a clip's name", '"videos/CLIP": [{"emotion": "hap", "salience": 100}]'),
    Mistake(
        "A clip twice", '"CLIP": [{"emotion": "hap", "salience": 100}],\n "CLIP": [{"emotion": "sad", "salience": 100}]'
    ),
    Mistake("Python's single quotes", "'CLIP': [{'emotion': 'hap', 'salience': 100}]"),
    Mistake("Two JSON files in the zip", zipped=("predictions.json", "older.json")),
    Mistake("No JSON file in the zip", zipped=("predictions.csv",)),
)


def template(ids: Sequence[str]) -> str:
    """The JSON with a placeholder for each clip; clip names are spelt as in the challenge's own template."""
    return to_json({"predictions": _placeholders(ids)})


def write_template(ids: Sequence[str], out: Path) -> list[Path]:
    """Write the template as JSON and as a zip, and the page, to the folder `out`. Raises FileError."""
    json_text = template(ids)
    files: dict[str, str | bytes] = {
        f"{NAME}.json": json_text,
        f"{NAME}.zip": zip_bytes(f"{NAME}.json", json_text),
        "README.md": page(ids),
    }
    for name, content in files.items():
        write_atomic(Path(out) / name, content)
    return [Path(out) / name for name in files]


def submit(mistake: Mistake, ids: Sequence[str]) -> tuple[str, bytes]:
    """The name and the content of a file that is the template with this mistake."""
    if mistake.zipped:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in mistake.zipped:
                archive.writestr(name, template(ids))
        return "submission.zip", buffer.getvalue()
    _, *others = _placeholders(ids).items()
    lines = [f"{json.dumps(clip)}: {json.dumps(entry)}" for clip, entry in others]
    if mistake.entry:  # otherwise the first clip is missing
        lines.insert(0, _entry(mistake, ids))
    return "submission.json", ('{"predictions": {\n ' + ",\n ".join(lines) + "\n}}\n").encode()


def verdict(mistake: Mistake, ids: Sequence[str]) -> str:
    """What `blemore-score --check` prints about the mistake."""
    name, content = submit(mistake, ids)
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            check(path, ids)
        except ValidationError as error:
            return problems_to_text(error.problems).replace(str(path), name)
    raise AssertionError(f"{mistake.title}: the check accepts it")


def page(ids: Sequence[str]) -> str:
    """The README of the template's folder, in Markdown."""
    clips = list(_placeholders(ids))
    answers = [f"{json.dumps(clip)}: {json.dumps(to_entry(label))}" for clip, (_, label) in zip(clips, WORKED)]
    meanings = [f"{number}. {meaning}." for number, (meaning, _) in enumerate(WORKED, start=1)]
    return PAGE.format(
        n=f"{len(clips):,}",
        first=clips[0],
        last=clips[-1],
        answers=",\n ".join(answers),
        meanings="\n".join(meanings),
        mistakes="\n".join(_section(mistake, ids) for mistake in MISTAKES),
    )


def _placeholders(ids: Sequence[str]) -> dict[str, list]:
    return {f"{clip}.mov": to_entry(PLACEHOLDER) for clip in ids}


def _entry(mistake: Mistake, ids: Sequence[str]) -> str:
    return mistake.entry.replace("CLIP", f"{ids[0]}.mov")


def _section(mistake: Mistake, ids: Sequence[str]) -> str:
    """A mistake and what the check prints about it. The fences are marked as text, because they are not commands."""
    example = f"```text\n {_entry(mistake, ids)}\n```\n\n" if mistake.entry else ""
    if mistake.zipped:
        example = f"The zip contains {' and '.join(f'`{name}`' for name in mistake.zipped)}.\n\n"
    return f"### {mistake.title}\n\n{example}```text\n{verdict(mistake, ids)}\n```\n"


PAGE = """# The submission template

For participants. `submission_template.json` lists all {n} clips, `{first}` to `{last}`.
`submission_template.zip` contains the same file at its root, ready for CodaBench. **Every answer is a placeholder**:
neutral alone. The template is valid, so you can upload it as a trial, but it scores no more than the trivial baseline
that always answers one emotion: on the challenge's test partition, no emotion is right for more than 44 of the 594
clips (ACC_presence 0.0741), no blend is right (ACC_salience 0), and the score is at most 0.0370. Replace every answer.

The first command writes everything in this folder, including this page. The second checks the template:

```sh
blemore-baselines template --out submission_template
blemore-score --check submission_template/submission_template.zip
```

In the kit's folder, `pip install .` installs the second command, and `pip install '.[baselines]'` installs both.

With `--ids test_metadata.csv`, the first command writes a template for the clips in that table, and the second also
checks that none of them is missing. `blemore-baselines predict` and `decode` write finished submissions, so you need
not edit this one by hand.

## What a submission looks like

One JSON file in a zip. The file may have any name, and may be up to two folders deep. The contract is
[submission.schema.json](../scoring_program/blemore/schemas/submission.schema.json), plus what a schema cannot say:
the two emotions of a blend differ, their saliences sum to 100 (± 0.01), and every clip occurs once. The emotions are
`ang`, `disg`, `fea`, `hap`, `sad` and `neu`. Three answers:

```json
{{"predictions": {{
 {answers}
}}}}
```

{meanings}

The order of the emotions does not matter. The metric only asks which salience of a blend is larger, or whether they
are equal: 60 and 40 count the same as 70 and 30. The suffix `.mov` and the outer `"predictions"` are optional.

## Mistakes, and what the check says about them

Each example is the template with one change. `blemore-score --check submission.json --ids test_metadata.csv` reports
every problem in a file, not just the first.

{mistakes}"""
