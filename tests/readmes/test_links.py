"""Links to places inside the project have a target."""

import re

import pytest
from pages import ROOT, anchors, pages, prose

INLINE = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE = re.compile(r"^ *\[[^]]+\]: +<?([^\s>]+)>?", re.M)
HTML = re.compile(r"(?:src|href)=\"([^\"]+)\"")
OUTSIDE = ("https://", "http://", "mailto:", "attachment:", "data:")


def links(page):
    text = prose(page)
    return [
        target
        for pattern in (INLINE, REFERENCE, HTML)
        for target in pattern.findall(text)
        if not target.startswith(OUTSIDE)
    ]


def broken(page, target):
    """Why a link leads nowhere; None if it has a target."""
    path, _, anchor = target.partition("#")
    place = (page.parent / path).resolve() if path else page
    if not place.is_relative_to(ROOT) or not place.exists():
        return f"{target}: no such file"
    place = place / "README.md" if place.is_dir() else place
    if anchor and (place.suffix != ".md" or anchor not in anchors(place)):
        return f"{target}: no such heading in {place.relative_to(ROOT)}"
    return None


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_inside_the_project_have_a_target(page):
    assert not [fault for target in links(page) if (fault := broken(page, target))]


def test_links_are_found_and_broken_ones_reported(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(
        '# A `b`, c\n## A b c\n[x](y.md) [z](#a-b-c-1)\n```sh\n[no](link)\n```\n[q]: data/ "t"\n<img src="p.svg">'
        " [w](https://w.de) `[c](d)`\n"
    )
    assert links(page) == ["y.md", "#a-b-c-1", "data/", "p.svg"]
    assert anchors(page) == {"a-b-c", "a-b-c-1"}
    assert broken(ROOT / "README.md", "nowhere.md") == "nowhere.md: no such file"
    assert broken(ROOT / "README.md", "data#nowhere") == "data#nowhere: no such heading in data/README.md"
    assert broken(ROOT / "README.md", "../outside") and not broken(ROOT / "README.md", "data/README.md")


@pytest.mark.skipif(not pages(), reason="not a git checkout")
def test_there_is_something_to_check():
    assert ROOT / "README.md" in pages() and sum(len(links(page)) for page in pages()) > 10
