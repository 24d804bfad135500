"""The small files next to the code: they belong to this version, and other tools can read them."""

import datetime
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from blemore.version import VERSION

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def citation():
    return yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))


def test_citation_has_what_cff_1_2_demands(citation):
    assert citation["cff-version"] == "1.2.0" and {"message", "title", "authors"} <= set(citation)
    keys = {
        "cff-version",
        "message",
        "title",
        "abstract",
        "type",
        "authors",
        "version",
        "date-released",
        "license",
        "keywords",
        "preferred-citation",
        "url",
        "repository-code",
        "identifiers",
        "references",
    }
    assert set(citation) <= keys and citation["type"] == "software"
    assert isinstance(citation["date-released"], datetime.date) and citation["license"] == "MIT"
    for work in (citation, citation["preferred-citation"]):
        assert work["title"] and work["authors"]
        assert all(set(author) in ({"family-names", "given-names"}, {"name"}) for author in work["authors"])
    paper = citation["preferred-citation"]
    assert {"type", "title", "authors", "year", "journal", "identifiers", "url"} == set(paper) and paper[
        "type"
    ] == "article"
    assert all(
        set(entry) <= {"type", "value", "description"} and entry["type"] in ("doi", "url", "swh", "other")
        for entry in paper["identifiers"]
    )


def test_citation_names_the_paper(citation):
    paper = citation["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == [
        "Lachmann",
        "Israelsson",
        "Tornberg",
        "Saghinadze",
        "Balazia",
        "Müller",
        "Laukka",
    ]
    assert paper["year"] == 2026 and "2601.13225" in paper["url"] and "2601.13225" in paper["identifiers"][0]["value"]


def test_versions_agree(citation):
    """The package's own version is read from version.py (setup.cfg)."""
    assert str(citation["version"]) == VERSION
    sections = re.findall(r"^## \[(.+?)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    released = [version for version, _ in sections if version != "Unreleased"]
    assert released[0] == VERSION and len(set(released)) == len(released)
    assert sections[0][1] == str(citation["date-released"])


def test_the_changelog_has_the_usual_form():
    lines = (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines()
    assert lines[0] == "# Changelog"
    kinds = {line.removeprefix("### ") for line in lines if line.startswith("### ")}
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    dates = [line.rpartition(" - ")[2] for line in lines if line.startswith("## [") and "Unreleased" not in line]
    assert [str(datetime.date.fromisoformat(date)) for date in dates] == sorted(dates, reverse=True)


def test_contributing_is_a_screenful():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert len(text.splitlines()) <= 60
    for path in re.findall(r"`((?:baselines|tests|scoring_program)/[\w/.]+|competition)`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page, limit", [("README.md", 1500), ("baselines/README.md", 2500)])
def test_pages_that_everyone_reads_are_short(page, limit):
    assert len((ROOT / page).read_text("utf-8").split()) <= limit


def test_the_workflow_runs_the_same_script_on_every_python():
    text = (ROOT / ".github" / "workflows" / "tests.yml").read_text("utf-8")
    (job,) = yaml.safe_load(text)["jobs"].values()
    pythons = job["strategy"]["matrix"]["python"]
    assert [f"Programming Language :: Python :: {python}" for python in pythons] == re.findall(
        r"^ +(Programming Language :: Python :: 3\.\d+)$", (ROOT / "setup.cfg").read_text("utf-8"), re.M
    )
    assert job["strategy"]["matrix"]["include"] == [{"python": "3.11", "options": "--lowest"}]
    assert job["steps"][-1]["run"] == ".ci/run ${{ matrix.options }}"
    assert "PYTHON" in job["steps"][-1]["env"] and not re.search("secrets|https?:|index", text)


def test_the_tests_with_the_lowest_versions_are_there():
    lines = (ROOT / ".ci" / "run").read_text("utf-8").replace("\\\n", " ")
    words = re.search(r"\.venv-lowest/bin/python -P -m pytest (.+)", lines)[1]
    result = subprocess.run(["bash", "-c", f"printf '%s\\n' {words}"], capture_output=True, text=True, check=True)
    assert len(result.stdout.split()) > 10
    assert not [name for name in result.stdout.split() if not (ROOT / name).exists()]
