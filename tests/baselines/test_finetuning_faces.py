"""Faces by a program that writes what OpenFace's FeatureExtraction does: pictures of frames with a face, and a table.

The stand-in reads its clip's story from the file itself: a letter a frame, F a face, . none, and what else goes wrong.
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


def test_lost_frames_are_bridged_and_told(program, tmp_path):
    """b: a picture of a frame that the table calls lost. The clip is as long as before, and shifts nothing."""
    folder = clips(tmp_path / "clips", whole="FFF", holes="..FF.b.F.", single="F")
    done = align("--clips", folder, "--out", tmp_path / "faces", "--workers", 1)
    assert done.exit_code == 0 and "3 clips aligned, 0 there already, 0 failed" in done.stdout
    assert frames(tmp_path / "faces", "whole") == [1, 2, 3] and frames(tmp_path / "faces", "single") == [1]
    assert frames(tmp_path / "faces", "holes") == [3, 3, 3, 4, 4, 4, 4, 8, 8]
    names = [path.stem for path in face_files(tmp_path / "faces", "holes")]
    assert names == [f"frame_det_00_{number:06}" for number in range(1, 10)]
    assert np.asarray(Image.open(face_files(tmp_path / "faces", "whole")[0])).shape == (256, 256, 3)
    table = (tmp_path / "faces" / "faces.csv").read_text().splitlines()
    assert table == ["clip,frames,lost,longest", "holes,9,6,3", "single,1,0,0", "whole,3,0,0"]
    assert "1 clips have frames without a face" in done.stderr and "holes" in done.stderr


def test_a_second_run_does_what_is_not_done(program, tmp_path):
    folder, out = clips(tmp_path / "clips", a="FF", b="....", c="crash"), tmp_path / "faces"
    (out / ".b.part").mkdir(parents=True)  # of a run that was killed
    done = align("--clips", folder, "--out", out, "--workers", 1)
    assert done.exit_code == 1 and "1 clips aligned, 0 there already, 2 failed" in done.stdout
    failures = {one.clip: one for one in read_failures(out)}
    assert failures["b"].kind == "no-faces" and "4 frames" in failures["b"].message
    assert failures["c"].kind == "openface-error" and "ended with 3: Could not open" in failures["c"].message
    assert sorted(path.name for path in out.iterdir()) == ["a", "faces.csv", "failures.csv"]
    clips(folder, b=".F..")
    (tmp_path / "list.csv").write_text("filename\na\nb\nd\n")
    done = align("--clips", folder, "--metadata", tmp_path / "list.csv", "--out", out, "--workers", 1)
    assert done.exit_code == 1 and "1 clips aligned, 1 there already, 1 failed" in done.stdout
    assert frames(out, "b") == [2, 2, 2, 2]
    assert [(one.clip, one.kind) for one in read_failures(out)] == [("c", "openface-error"), ("d", "missing-file")]


@pytest.mark.parametrize(
    "change, message",
    [
        ("csv.writer(file)", "left no table"),
        ('" success"]', "left no table"),
        ("number, letter in enumerate", "rows; expected"),
    ],
)
def test_output_that_is_not_openfaces_is_refused(change, message, program, tmp_path):
    text = program.read_text()
    broken = {
        "csv.writer(file)": text.replace('out / (name + ".csv")', 'out / "other.csv"'),
        '" success"]': text.replace('" success"]', '" other"]'),
        "number, letter in enumerate": text.replace("start=1", "start=2"),
    }
    program.write_text(broken[change])
    done = align("--clips", clips(tmp_path / "clips", a="FF"), "--out", tmp_path / "faces", "--workers", 1)
    assert done.exit_code == 1 and message in read_failures(tmp_path / "faces")[0].message
    assert not (tmp_path / "faces" / "a").exists()


def test_without_the_program_the_message_says_where_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = align("--clips", clips(tmp_path / "clips", a="FF"), "--out", tmp_path / "faces")
    assert done.exit_code == 3 and "github.com/TadasBaltrusaitis/OpenFace" in done.stderr
    assert "<clip> or <clip>_aligned" in done.stderr and "Traceback" not in done.stderr
