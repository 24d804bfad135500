"""Every page says what to install for the commands on it."""

import configparser
import re

import pytest
from pages import ROOT, blocks, pages, text_of

FOLDERS = ("", "baselines", "competition", "data", "scoring_program", "starting_kit", "submission_template")
PAGES = [ROOT / folder / "README.md" for folder in FOLDERS]
INSTALL = re.compile(r"pip install (?:-c constraints\.txt )?(?:-e )?'?\.(?:\[([\w,]+)\])?")


def installs(text):
    """The extras of each `pip install` of the kit's folder; "" if it has none."""
    return [match[1] or "" for match in INSTALL.finditer(text)]


def extras():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return set(config["options.extras_require"])


def test_installs_are_read():
    assert installs("pip install .\npip install -c constraints.txt -e '.[a,b]'; `pip install '.[c]'`") == [
        "",
        "a,b",
        "c",
    ]
    assert installs("pip install 'blemore[cluster]' and pip install numpy") == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_the_install_that_its_commands_need(page):
    code = "\n".join(block.text for block in blocks(page) if block.language == "sh")
    names = set(installs(text_of(page)))
    assert names, "the page names no install"
    if "blemore-baselines" in code or "jupyter" in code:
        assert names & {"baselines", "notebook"}, "the scorer alone is not enough"


@pytest.mark.skipif(not pages(), reason="not a git checkout")
def test_extras_that_are_named_exist():
    names = {extra for page in pages() for text in installs(text_of(page)) for extra in filter(None, text.split(","))}
    assert {"baselines", "notebook"} <= names <= extras()
