"""The first hour of a new user: a fresh clone, a Python and nothing else, and the README's own commands pasted one
after another.

It installs everything from the package index that pip is configured for, so only with --long.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import FENCE, ROOT, fill_in, text_of

# What the scripts of venv and any terminal have. No compiler, no git, no other Python.
TOOLS = "bash sh cat cp dirname env ls mkdir mktemp mv rm sed uname".split()


def section(title):
    """The shell blocks of the README's section whose heading begins with a word."""
    text = re.search(rf"^## {title}.*?(?=^## |\Z)", text_of(ROOT / "README.md"), re.M | re.S)[0]
    return [block[3] for block in FENCE.finditer(text) if block[2] == "sh"]


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory, pytestconfig):
    """Runs shell code in a fresh clone, with an empty home and a PATH with little more than python3."""
    if not pytestconfig.getoption("--long"):
        pytest.skip("installs PyTorch: with --long")
    home = tmp_path_factory.mktemp("home")
    clone = subprocess.run(
        ["git", "clone", "--quiet", "--no-hardlinks", ROOT, home / "kit"], capture_output=True, text=True
    )
    if clone.returncode:
        pytest.skip(f"not a git checkout: {clone.stderr}")
    (home / "bin").mkdir()
    for tool in TOOLS:
        (home / "bin" / tool).symlink_to(shutil.which(tool))
    (home / "bin" / "python3").symlink_to(os.path.realpath(sys._base_executable))
    for config in (".config/pip/pip.conf", ".pip/pip.conf"):  # which index to install from is no part of the first hour
        if (Path.home() / config).exists():
            (home / config).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path.home() / config, home / config)
    environment = {
        "HOME": str(home),
        "PATH": str(home / "bin"),
        "LANG": "C.UTF-8",
        **{name: os.environ[name] for name in os.environ if name.startswith("PIP_")},
    }

    def run(code, folder="."):
        # As pasted into a terminal; -e, because nobody goes on after an error.
        result = subprocess.run(
            ["bash", "-e", "-c", code],
            cwd=home / "kit" / folder,
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert result.returncode == 0, f"{code}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
        return result

    return run


def test_from_a_clone_to_a_checked_submission_and_a_leaderboard_entry(newcomer):
    participant, (scorer_alone, organiser, *_) = section("Participants")[0], section("Organisers")
    absence_check = "if blemore-baselines --help || python -c 'import torch'; then exit 1; fi"
    newcomer(f"{scorer_alone}\nblemore-score --help\nblemore-codabench --help\n{absence_check}")
    result = newcomer(participant + "\npwd")
    *lines, place = result.stdout.splitlines()
    assert "valid: submission.zip" in lines and "36 clips: " in lines[-1], (
        "the last command is the check, with every clip there"
    )

    # What an organiser brings along, here the demo's; the submission is the participant's.
    activate = ". ~/kit/.venv/bin/activate\n"
    labels = newcomer(f"cp data/test_labels.json data/test_metadata.csv .\n{activate}{fill_in(organiser)}", place)
    entry = json.loads(labels.stdout.splitlines()[-1])
    assert (
        entry["status"] == "Finished"
        and entry["reason"] is None
        and set(entry["scores"]) == {"score", "acc_presence", "acc_salience"}
    )
    assert all(0 <= value <= 1 for value in entry["scores"].values())
    scored = json.loads(newcomer(f"{activate}blemore-score submission.zip test_labels.json --json", place).stdout)
    assert {name: round(scored[name], 10) for name in entry["scores"]} == entry["scores"], (
        "the leaderboard shows what the kit computes"
    )

    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=Path(place).parents[1], capture_output=True, text=True
    )
    assert status.stdout == "", "everything that was written lies where git does not look"
