"""The project's pages, their blocks of code, links and headings."""

import json
import re
import subprocess
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```", re.M | re.S)


# What every organiser has another one of; dates would age.
PLACEHOLDERS = {
    ("--queue", "KEY"): "b1946ac9-2a6c-4a5e-9f0e-1c3e4d5f6a7b",
    ("--start", "YYYY-MM-DD"): f"{date.today() + timedelta(days=40)}",
    ("--end", "YYYY-MM-DD"): f"{date.today() + timedelta(days=70)}",
}


def fill_in(code: str, separator: str = " ") -> str:
    """A command with values in place of its placeholders."""
    for (option, placeholder), value in PLACEHOLDERS.items():
        code = code.replace(f"{option}{separator}{placeholder}", f"{option}{separator}{value}")
    return code


class Block(NamedTuple):
    """The text between two fences; `line` is the number of its first line on the page."""

    language: str
    text: str
    line: int


@lru_cache
def pages() -> tuple[Path, ...]:
    """Every page and notebook that git tracks or would add."""
    listing = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md", "*.ipynb"],
        capture_output=True,
        text=True,
    )
    names = listing.stdout.split("\0") if listing.returncode == 0 else []  # not a checkout: no pages
    return tuple(sorted(ROOT / name for name in set(filter(None, names)) if (ROOT / name).is_file()))


@lru_cache
def text_of(page: Path) -> str:
    text = page.read_text("utf-8")
    if page.suffix != ".ipynb":
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


def blocks(page: Path) -> list[Block]:
    text = text_of(page)
    return [Block(match[2].strip(), match[3], text.count("\n", 0, match.start()) + 2) for match in FENCE.finditer(text)]


def prose(page: Path) -> str:
    """A page without its code, in blocks or lines."""
    return re.sub(r"`[^`\n]*`", "`code`", FENCE.sub("", text_of(page)))


def anchors(page: Path) -> set[str]:
    """What `#…` can name: headings, in lower case, without punctuation, blanks as hyphens, repetitions numbered."""
    names: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", FENCE.sub("", text_of(page)), re.M):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        names.add(
            slug if slug not in names else next(f"{slug}-{k}" for k in range(1, 99) if f"{slug}-{k}" not in names)
        )
    return names | set(re.findall(r'<a (?:name|id)="([^"]+)"', text_of(page)))
