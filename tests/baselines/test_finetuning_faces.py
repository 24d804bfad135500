"""Aligning faces with a stand-in for OpenFace's FeatureExtraction, which writes pictures and a table in the same form.

The content of a clip tells the stand-in what to do: a letter per frame (F: a face, .: no face, b: a picture without a
face), or `crash`.
"""

import os
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from blemore_baselines import cli
from blemore_baselines.encoders.hicmae import face_files, read_picture
from blemore_baselines.extraction.store import read_failures
from blemore_baselines.finetuning import faces

PROGRAM = """#!{python}
import csv, sys
from pathlib import Path
from PIL import Image

arguments = sys.argv[1:]
option = lambda name: arguments[arguments.index(name) + 1]
source, out, name = Path(option("-f")), Path(option("-out_dir")), option("-of")
assert option("-simsize") == "256" and {{"-simalign", "-nomask", "-nobadaligned"}} <= set(arguments)
story, ending = source.read_text(), "bmp" if source.stem == "holes" else "png"  # as older versions write
if story == "crash":
    print("Could not open the clip", file=sys.stderr)
    sys.exit(3)
pictures = out / (name + "_aligned")
pictures.mkdir()
with open(out / (name + ".csv"), "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["frame", " face_id", " timestamp", " confidence", " success"])
    for number, letter in enumerate(story, start=1):
        face, confidence = letter == "F", 0.98 if letter == "F" else 0.02
        table.writerow([number, " 0", f" {{number / 25}}", f" {{confidence}}", f" {{int(face)}}"])
        if letter in "Fb":
            Image.new("RGB", (256, 256), (number, 0, 0)).save(pictures / f"frame_det_00_{{number:06}}.{{ending}}")
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    path = folder / "FeatureExtraction"
    path.write_text(PROGRAM.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return path


def clips(folder, **stories):
    folder.mkdir(exist_ok=True)
    for name, story in stories.items():
        (folder / f"{name}.mov").write_text(story)
    return folder


def align(*arguments):
    return CliRunner().invoke(cli.main, ["faces", *map(str, arguments)], prog_name="blemore-baselines")


def frames(folder, clip):
    """The number of the frame that each picture shows."""
    return [int(read_picture(path)[0, 0, 0]) for path in face_files(folder, clip)]


def test_lost_frames_are_bridged_and_reported(program, tmp_path):
    """All clips keep their length, and no frame is shifted."""
    folder = clips(tmp_path / "clips", whole="FFF", holes="..FF.b.F.", single="F")
    result = align("--clips", folder, "--out", tmp_path / "faces", "--workers", 1)
    assert result.exit_code == 0 and "3 clips aligned, 0 already done, 0 failed" in result.stdout
    assert frames(tmp_path / "faces", "whole") == [1, 2, 3] and frames(tmp_path / "faces", "single") == [1]
    assert frames(tmp_path / "faces", "holes") == [3, 3, 3, 4, 4, 4, 4, 8, 8]
    names = [path.stem for path in face_files(tmp_path / "faces", "holes")]
    assert names == [f"frame_det_00_{number:06}" for number in range(1, 10)]
    assert np.asarray(Image.open(face_files(tmp_path / "faces", "whole")[0])).shape == (256, 256, 3)
    table = (tmp_path / "faces" / "faces.csv").read_text().splitlines()
    assert table == ["clip,frames,lost,longest", "holes,9,6,3", "single,1,0,0", "whole,3,0,0"]
    assert "1 clips have frames without a face" in result.stderr and "holes" in result.stderr


def test_a_second_run_aligns_the_remaining_clips(program, tmp_path):
    folder, out = clips(tmp_path / "clips", a="FF", b="....", c="crash"), tmp_path / "faces"
    (out / ".b.part").mkdir(parents=True)  # from a run that was killed
    result = align("--clips", folder, "--out", out, "--workers", 1)
    assert result.exit_code == 1 and "1 clips aligned, 0 already done, 2 failed" in result.stdout
    failures = {failure.clip: failure for failure in read_failures(out)}
    assert failures["b"].kind == "no-faces" and "4 frames" in failures["b"].message
    assert failures["c"].kind == "openface-error" and "ended with 3: Could not open" in failures["c"].message
    assert sorted(path.name for path in out.iterdir()) == ["a", "faces.csv", "failures.csv"]
    clips(folder, b=".F..")
    (tmp_path / "list.csv").write_text("filename\na\nb\nd\n")
    result = align("--clips", folder, "--metadata", tmp_path / "list.csv", "--out", out, "--workers", 1)
    assert result.exit_code == 1 and "1 clips aligned, 1 already done, 1 failed" in result.stdout
    assert frames(out, "b") == [2, 2, 2, 2]
    assert [(failure.clip, failure.kind) for failure in read_failures(out)] == [
        ("c", "openface-error"),
        ("d", "missing-file"),
    ]


def test_a_run_that_stops_at_any_write_loses_no_row(program, tmp_path, monkeypatch):
    """Before a clip's row is written, and between the row and the pictures."""
    folder, out = clips(tmp_path / "clips", a="FF", b="F."), tmp_path / "faces"
    for name in ("write_atomic", "_finish"):
        with monkeypatch.context() as patch:
            patch.setattr(faces, name, lambda *arguments: sys.exit(9))
            assert align("--clips", folder, "--out", out, "--workers", 1).exit_code == 9
        assert not (out / "a").exists()
    result = align("--clips", folder, "--out", out, "--workers", 1)
    assert result.exit_code == 0 and "2 clips aligned, 0 already done" in result.stdout
    assert (out / "faces.csv").read_text().splitlines() == ["clip,frames,lost,longest", "a,2,0,0", "b,2,1,1"]
    assert sorted(path.name for path in out.iterdir()) == ["a", "b", "faces.csv"]


@pytest.mark.parametrize(
    "change, message",
    [
        ("csv.writer(file)", "left no table"),
        ('" success"]', "left no table"),
        ("number, letter in enumerate", "rows; expected"),
    ],
)
def test_other_output_is_refused(change, message, program, tmp_path):
    text = program.read_text()
    broken = {
        "csv.writer(file)": text.replace('out / (name + ".csv")', 'out / "other.csv"'),
        '" success"]': text.replace('" success"]', '" other"]'),
        "number, letter in enumerate": text.replace("start=1", "start=2"),
    }
    program.write_text(broken[change])
    result = align("--clips", clips(tmp_path / "clips", a="FF"), "--out", tmp_path / "faces", "--workers", 1)
    assert result.exit_code == 1 and message in read_failures(tmp_path / "faces")[0].message
    assert not (tmp_path / "faces" / "a").exists()


def test_a_missing_program_is_reported_with_its_source(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = align("--clips", clips(tmp_path / "clips", a="FF"), "--out", tmp_path / "faces")
    assert result.exit_code == 3 and "github.com/TadasBaltrusaitis/OpenFace" in result.stderr
    assert "<clip> or <clip>_aligned" in result.stderr and "Traceback" not in result.stderr
