"""The types of the package `blemore`, checked by mypy as setup.cfg says: strictly, and for the oldest Python that it
runs on.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("mypy", reason="comes with the extra test")


def check(*arguments, cache):
    return subprocess.run(
        [sys.executable, "-P", "-m", "mypy", "--cache-dir", cache, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "MYPYPATH": str(ROOT / "scoring_program")},
    )


def test_the_package_is_sound(tmp_path):
    said = check(cache=tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr
    checked = len(list((ROOT / "scoring_program" / "blemore").rglob("*.py")))
    assert f"no issues found in {checked} source files" in said.stdout


def test_a_user_s_code_is_checked_against_it(tmp_path):
    """The public functions' types tell something: a wrong use is found from outside."""
    (tmp_path / "use.py").write_text(
        "from blemore import acc_presence, parse_filename\n"
        "wrong: int = acc_presence({}, {})\nright: str = parse_filename('A102_ang_int1_ver1').actor\n"
    )
    said = check("--config-file=", str(tmp_path / "use.py"), cache=tmp_path / "cache")
    assert [line for line in said.stdout.splitlines() if "use.py:" in line and "error" in line] == [
        f'{tmp_path / "use.py"}:2: error: Incompatible types in assignment (expression has type "float", variable has'
        ' type "int")  [assignment]'
    ], said.stdout
