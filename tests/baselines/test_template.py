"""The submission template: the committed files are those that the command writes, and the page quotes the check's own
messages.
"""

import json
import re
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from blemore import cli as scorer
from blemore.evaluate import check, evaluate, read_ids
from blemore.trivial import PLACEHOLDER
from blemore.validate import Reference
from blemore_baselines import cli, template

FOLDER = Path(__file__).resolve().parents[2] / "submission_template"
IDS = template.OFFICIAL_IDS


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    out = tmp_path_factory.mktemp("template")
    result = CliRunner().invoke(cli.main, ["template", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [
        str(out / name) for name in ("submission_template.json", "submission_template.zip", "README.md")
    ]
    return out


@pytest.mark.parametrize("name", ["submission_template.json", "README.md"])
def test_the_committed_files_are_those_that_the_command_writes(output, name):
    assert (FOLDER / name).read_bytes() == (output / name).read_bytes()


def test_the_zip_has_the_layout_that_the_platform_takes(output):
    # Not compared byte by byte with the committed one, because another zlib may compress differently.
    for folder in (FOLDER, output):
        with zipfile.ZipFile(folder / "submission_template.zip") as archive:
            assert archive.namelist() == ["submission_template.json"]
            assert archive.read("submission_template.json") == (FOLDER / "submission_template.json").read_bytes()


def test_the_same_clips_give_the_same_bytes(tmp_path):
    first, second = (template.write_template(IDS[:5], tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize("name", ["submission_template.json", "submission_template.zip"])
def test_the_template_passes_the_check(name, tmp_path):
    ids = tmp_path / "test_metadata.csv"
    ids.write_text("filename\n" + "".join(f"test_{number:04}\n" for number in range(1, 595)))
    result = CliRunner().invoke(scorer.main, ["--check", str(FOLDER / name), "--ids", str(ids)])
    assert (result.exit_code, result.stdout.splitlines()[1]) == (0, "594 clips: 594 single emotions, 0 blends")


def test_it_lists_the_real_test_clips(shared):
    assert read_ids(shared / "blemore-real" / "test_metadata.csv") == list(IDS)


def test_the_placeholder_gets_no_blend_right():
    labels = {"test_0001": PLACEHOLDER, "test_0002": template.WORKED[1][1]}
    counts = evaluate(json.loads(template.template(list(labels))), Reference(labels, {}, {})).counts
    assert (counts.acc_presence, counts.acc_salience) == (0.5, 0)


def test_a_template_for_other_clips(tmp_path):
    ids = tmp_path / "ids.csv"
    ids.write_text("filename\nb.mov\na\nc\n")
    result = CliRunner().invoke(cli.main, ["template", "--ids", str(ids), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0
    assert list(json.loads((tmp_path / "out/submission_template.json").read_text())["predictions"]) == [
        "b.mov",
        "a.mov",
        "c.mov",
    ]
    assert "lists all 3 clips, `b.mov` to `c.mov`" in (tmp_path / "out/README.md").read_text()


def test_the_worked_answers_are_valid(tmp_path):
    block = re.search(r"```json\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)[1]
    (tmp_path / "worked.json").write_text(block)
    assert [entry.label for entry in check(tmp_path / "worked.json").values()] == [
        label for _, label in template.WORKED
    ]


@pytest.mark.parametrize("mistake", template.MISTAKES, ids=lambda mistake: mistake.title)
def test_the_page_quotes_the_message_for_each_mistake(mistake, tmp_path):
    section = re.search(
        rf"^### {re.escape(mistake.title)}\n(.*?)(?=^### |\Z)",
        (FOLDER / "README.md").read_text(),
        re.DOTALL | re.MULTILINE,
    )[1]
    quoted = re.findall(r"```text\n(.*?)```", section, re.DOTALL)[-1]
    name, content = template.submit(mistake, IDS)
    (tmp_path / name).write_bytes(content)
    (tmp_path / "ids.csv").write_text("\n".join(["filename", *IDS]))
    result = CliRunner().invoke(scorer.main, ["--check", str(tmp_path / name), "--ids", str(tmp_path / "ids.csv")])
    assert result.exit_code == 1
    assert result.stderr.replace(str(tmp_path / name), name) == quoted


def test_the_page_links_to_the_schema():
    links = re.findall(r"\]\((.*?)\)", (FOLDER / "README.md").read_text())
    assert links and all((FOLDER / link).is_file() for link in links)
