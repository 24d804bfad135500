"""The types, checked by mypy: those of `blemore` strictly and for the oldest Python that it runs on, as setup.cfg says;
those of the baselines and of the competition as mypy.ini says.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name("mypy.ini")
FOLDERS = {"blemore": "scoring_program/blemore", "blemore_baselines": "baselines", "blemore_codabench": "competition"}
pytest.importorskip("mypy", reason="comes with the extra test")


def check(*arguments, cache, path=ROOT / "scoring_program"):
    return subprocess.run(
        [sys.executable, "-P", "-m", "mypy", "--cache-dir", cache, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "MYPYPATH": str(path)},
    )


def test_the_package_is_sound(tmp_path):
    result = check(cache=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    checked = len(list((ROOT / "scoring_program" / "blemore").rglob("*.py")))
    assert f"no issues found in {checked} source files" in result.stdout


@pytest.fixture
def cache_folder(request, tmp_path):
    """A folder that pytest keeps between sessions, if it keeps any: reading the types of PyTorch takes a minute."""
    cache = getattr(request.config, "cache", None)  # none with -p no:cacheprovider
    return cache.mkdir("mypy") if cache else tmp_path / "mypy"


def test_the_baselines_and_the_competition_are_sound(tmp_path, cache_folder):
    packages = tmp_path / "packages"
    packages.mkdir()
    for name, folder in FOLDERS.items():
        (packages / name).symlink_to(ROOT / folder)
    result = check("--config-file", CONFIG, cache=cache_folder, path=packages)
    assert result.returncode == 0, result.stdout.replace(f"{packages}/", "") + result.stderr
    checked = int(re.search(r"no issues found in (\d+) source files", result.stdout)[1])
    assert checked >= sum(len(list((ROOT / folder).rglob("*.py"))) for folder in ("baselines", "competition"))


def test_a_user_s_code_is_checked_against_it(tmp_path):
    """The public functions' types are precise: a wrong use in a user's code is found."""
    (tmp_path / "use.py").write_text(
        "from blemore import acc_presence, parse_filename\n"
        "wrong: int = acc_presence({}, {})\nright: str = parse_filename('A102_ang_int1_ver1').actor\n"
    )
    result = check("--config-file=", str(tmp_path / "use.py"), cache=tmp_path / "cache")
    assert [line for line in result.stdout.splitlines() if "use.py:" in line and "error" in line] == [
        f'{tmp_path / "use.py"}:2: error: Incompatible types in assignment (expression has type "float", variable has'
        ' type "int")  [assignment]'
    ], result.stdout
