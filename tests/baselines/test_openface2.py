"""OpenFace 2's files, hand-made and real, and calls of its program, with a substitute."""

import os

import numpy as np
import pytest

from blemore.errors import ValidationError
from blemore_baselines.clips.media import Clip, MediaError
from blemore_baselines.encoders.openface import MEASURED, OpenFace2, OpenFace3, TooFewGoodFrames, read_openface2_csv
from blemore_baselines.extract import extract

UNITS = "01 02 04 05 06 07 09 10 12 14 15 17 20 23 25 26 45".split()
GAZE = [f"gaze_{eye}_{axis}" for eye in "01" for axis in "xyz"]
# As OpenFace writes them: gaze, pose (translation before rotation), intensities of units, classes of units.
COLUMNS = [
    "frame",
    "face_id",
    "timestamp",
    "confidence",
    "success",
    *GAZE,
    "gaze_angle_x",
    "gaze_angle_y",
    *(f"pose_{name}" for name in ("Tx", "Ty", "Tz", "Rx", "Ry", "Rz")),
    *(f"AU{unit}_r" for unit in UNITS),
    "AU01_c",
    "AU28_c",
]
ORDER = [
    *(f"AU{unit}_r" for unit in UNITS),
    *(f"pose_{name}" for name in ("Rx", "Ry", "Rz", "Tx", "Ty", "Tz")),
    *GAZE,
    "gaze_angle_x",
    "gaze_angle_y",
]


def row(frame, **values):
    """A good frame: each column holds its index in the file, except that the first unit holds the frame's number."""
    cells = {name: place for place, name in enumerate(COLUMNS)}
    return {**cells, "frame": frame, "success": 1, "confidence": 0.98, "AU01_r": frame, **values}


def write(path, rows, without=(), separator=", "):
    names = [name for name in COLUMNS if name not in without]
    lines = [separator.join(names), *(separator.join(str(cells[name]) for name in names) for cells in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def file(tmp_path):
    return lambda rows, *options, **settings: write(tmp_path / "A1_ang_int1_ver1.csv", rows, *options, **settings)


@pytest.mark.parametrize("separator", [", ", ",", " , "])
def test_the_order_of_columns(file, separator):
    features = read_openface2_csv(file([row(1)], separator=separator))
    assert features.dtype == np.float32 and features.shape == (1, 31)
    assert features[0].tolist() == [1, *(COLUMNS.index(name) for name in ORDER[1:])]
    assert list(MEASURED) == ORDER[:29]


@pytest.mark.parametrize(
    "bad", [{"success": 0}, {"confidence": 0.8499}, {"AU12_r": "nan"}, {"pose_Tz": "-nan(ind)"}, {"AU45_r": ""}]
)
def test_gaps_are_filled_in_place(file, bad):
    """20 frames whose first column is the frame's number, with gaps at the start (1) and in the middle (9, 10)."""
    rows = [row(frame, **(bad | {"AU01_r": 99} if frame in (1, 9, 10) else {})) for frame in range(1, 21)]
    rows[9]["AU02_r"] = 500
    features = read_openface2_csv(file(rows))
    assert features[:, 0].tolist() == [
        2,
        *range(2, 21),
    ]  # 9 and 10 are interpolated between 8 and 11; frame 1 repeats frame 2
    assert np.ptp(features[:, 1:], axis=0).max() == 0, "no value of a bad frame is kept"


def test_a_gap_at_the_end_holds_the_last_good_frame(file):
    features = read_openface2_csv(file([row(frame, success=int(frame < 18)) for frame in range(1, 21)]))
    assert features[:, 0].tolist() == [*range(1, 18), 17, 17, 17]


def test_confidence_of_085_is_good(file):
    assert read_openface2_csv(file([row(frame, confidence=0.85) for frame in (1, 2)])).shape == (2, 31)


@pytest.mark.parametrize("good, frames", [(17, 20), (85, 100), (34, 40), (6, 7)])
def test_the_share_of_good_frames(file, good, frames):
    assert len(read_openface2_csv(file([row(k + 1, success=int(k < good)) for k in range(frames)]))) == frames
    with pytest.raises(TooFewGoodFrames, match=f"{good - 1} of {frames} frames are good; expected at least 85%"):
        read_openface2_csv(file([row(k + 1, success=int(k < good - 1)) for k in range(frames)]))


def test_success_and_confidence_are_applied_one_after_the_other(file):
    """Of 20 frames, 3 fail and 3 others have a low confidence: 85 % are good by each measure, 70 % by both."""
    failed, unsure = {3: {"success": 0}, 4: {"success": 0}, 18: {"success": 0}}, (9, 10, 17)
    rows = [
        row(frame, **failed.get(frame, {}), **({"confidence": 0.5} if frame in unsure else {}))
        for frame in range(1, 21)
    ]
    for frame in (3, 4, 18, *unsure):
        rows[frame - 1] |= {"AU01_r": 99 if frame == 17 else -50}
    features = read_openface2_csv(file(rows))[:, 0]
    # First, frame 18 is interpolated between 17 (unsure) and 19; then 17 between 16 and the new value of 18.
    middle = (99 + 19) / 2
    assert features.tolist() == [*range(1, 17), (16 + middle) / 2, middle, 19, 20]


@pytest.mark.parametrize("bad, measure", [({"success": 0}, "success"), ({"confidence": 0.2}, "confidence")])
def test_the_measure_that_fails_is_named(file, bad, measure):
    rows = [row(frame, **(bad if frame > 16 else {})) for frame in range(1, 21)]
    with pytest.raises(TooFewGoodFrames, match=f"^by {measure}, 16 of 20 frames are good; expected at least 85%$"):
        read_openface2_csv(file(rows))


def test_frames_without_a_row_keep_their_time(file):
    features = read_openface2_csv(file([row(frame) for frame in range(1, 41) if frame not in (1, 20, 21)]))
    assert features[:, 0].tolist() == [2, *range(2, 41)]


def test_counted_from_0(file):
    assert len(read_openface2_csv(file([row(frame) for frame in range(5)]))) == 5


@pytest.mark.parametrize("numbers", [[1, 1, 2], [3, 2, 1], [1, 1.5], ["nan", 1], [-1, 0], ["inf"]])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_frame_numbers_that_do_not_rise(file, numbers):
    with pytest.raises(ValueError, match="one row per frame, of one face"):
        read_openface2_csv(file([row(number) for number in numbers]))


def test_a_huge_frame_number_takes_no_memory(file):
    with pytest.raises(TooFewGoodFrames):
        read_openface2_csv(file([row(1), row(10**12)]))


def test_gaze_angles_from_vectors(file):
    """The mean of both eyes is (0.1, 0.2, −1): arctan 0.1 and arctan 0.2."""
    gaze = dict(zip(GAZE, (0.3, 0.1, -0.9, -0.1, 0.3, -1.1)))
    features = read_openface2_csv(file([row(1, **gaze)], without=("gaze_angle_x", "gaze_angle_y")))
    assert features[0, -2:] == pytest.approx([0.0996687, 0.1973956])
    assert features[0, -8:-2] == pytest.approx(list(gaze.values()))


def test_lost_angles_lie_between_their_neighbours(file):
    """Angles are interpolated, not vectors: those of a lost frame are zeros, which have no direction."""
    rows = [row(frame, **dict(zip(GAZE, ((frame - 4) / 10, 0, -1) * 2))) for frame in range(1, 8)]
    rows[3] |= dict.fromkeys(GAZE, 0) | {"success": 0}
    features = read_openface2_csv(file(rows, without=("gaze_angle_x",)))
    assert features[3, -2:] == pytest.approx([0, 0], abs=1e-7) and features[4, -2] == pytest.approx(np.arctan(0.1))


@pytest.mark.parametrize(
    "columns, message",
    [
        (("gaze_angle_x", "gaze_angle_y", "gaze_1_z"), "has no column gaze_1_z"),
        (("AU23_r", "pose_Rx"), "has no column AU23_r, pose_Rx"),
        (("confidence",), "has no column confidence"),
        (("frame",), "has no column frame"),
    ],
)
def test_missing_columns_are_named(file, columns, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        read_openface2_csv(file([row(1)], without=columns))


def test_broken_files(file, tmp_path):
    with pytest.raises(ValueError, match="no frames"):
        read_openface2_csv(file([]))
    with pytest.raises(ValueError, match="line 3: .*high"):
        read_openface2_csv(file([row(1), row(2, pose_Rx="high")]))
    path = file([row(1), row(2)])
    path.write_text(path.read_text()[:-30])
    with pytest.raises(ValueError, match=r"line 3: \d+ cells; expected"):
        read_openface2_csv(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="no column frame"):
        read_openface2_csv(path)


def test_a_real_file(shared):
    """From an older version: spaces before names, and no angles.

    All frames are good, so each column equals the file's.
    """
    path = shared / "media" / "openface_real_output.csv"
    features = OpenFace2().encode(Clip(path))
    lines = path.read_text().splitlines()
    names = [name.strip() for name in lines[0].split(",")]
    table = np.array([line.split(",") for line in lines[1:]], dtype=float)
    assert features.shape == (100, 31) and features.dtype == np.float32
    for column, name in enumerate(ORDER[:29]):
        assert np.array_equal(features[:, column], table[:, names.index(name)].astype(np.float32)), name
    first, second = (table[:, [names.index(f"gaze_{eye}_{axis}") for axis in "xyz"]] for eye in "01")
    assert np.allclose(features[:, 29], np.arctan((first + second)[:, 0] / -(first + second)[:, 2]), atol=1e-6)
    assert np.allclose(features[:, 30], np.arctan((first + second)[:, 1] / -(first + second)[:, 2]), atol=1e-6)


# ------------------------------------------------------------------------------- the encoders


@pytest.mark.parametrize(
    "rows, kind",
    [
        ([row(k, success=k % 2) for k in range(1, 9)], "few-good-frames"),
        ([row(2), row(1)], "bad-openface-file"),
        (None, "missing-file"),
    ],
)
def test_kinds_of_failures(file, tmp_path, rows, kind):
    path = file(rows) if rows else tmp_path / "none.csv"
    with pytest.raises(MediaError) as caught:
        OpenFace2().encode(Clip(path))
    assert caught.value.kind == kind and str(path) in str(caught.value)


def test_extraction_from_csv_folders(tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    write(clips / "good.csv", [row(1), row(2)])
    write(clips / "bad.csv", [row(1), row(2, success=0)])
    (clips / "note.txt").write_text("no clip")
    [summary] = extract(["good", "bad", "none"], clips, [OpenFace2()], tmp_path / "out")
    assert summary.done == ["good"] and np.load(tmp_path / "out/openface2/good.npy").shape == (2, 31)
    assert [(failure.clip, failure.kind) for failure in summary.failures] == [
        ("bad", "few-good-frames"),
        ("none", "missing-file"),
    ]
    (clips / "three.csv").write_text('emotion_index,gaze_yaw,gaze_pitch,action_units\n1,0.5,0.25,"[1,2,3,4,5,6,7,8]"\n')
    extract(["three"], clips, [OpenFace3()], tmp_path / "out")
    assert np.load(tmp_path / "out/openface3/three.npy").tolist() == [[1, 0.5, 0.25, 1, 2, 3, 4, 5, 6, 7, 8]]


STAND_IN = """#!/bin/sh
echo "$@" > {log}
while [ "$#" -gt 0 ]; do
  case "$1" in -f) clip="$2" ;; -out_dir) out="$2" ;; esac
  shift
done
{act}
"""


@pytest.fixture
def stand_in(tmp_path):
    """A substitute for OpenFace that does `act` and records how it was called."""

    def make(act):
        program, log = tmp_path / "bin" / "FeatureExtraction", tmp_path / "log"
        program.parent.mkdir(exist_ok=True)
        program.write_text(STAND_IN.format(log=log, act=act))
        program.chmod(0o755)
        return program, log

    return make


def test_the_program_is_run_if_it_is_installed(tmp_path, stand_in, monkeypatch):
    table = write(tmp_path / "made.csv", [row(1), row(2)])
    program, log = stand_in(f'cp {table} "$out/$(basename "$clip" .mov).csv"')
    clip = tmp_path / "a clip.mov"
    clip.write_bytes(b"any")
    monkeypatch.chdir(tmp_path)
    for encoder in (OpenFace2(weights=program), OpenFace2()):
        features = encoder.encode(Clip("a clip.mov"))
        assert features.shape == (2, 31)
        call = log.read_text()
        assert f"-f {clip} -out_dir" in call and call.split()[-3:] == ["-aus", "-pose", "-gaze"]
        assert not os.path.exists(call.split("-out_dir ")[1].split()[0]), "the temporary folder is gone"
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)


@pytest.mark.parametrize(
    "act, message",
    [
        (
            "echo 'could not open the video' >&2; exit 3",
            "exited with 3 and wrote 0 CSV files; it printed: could not open the video",
        ),
        ("exit 0", "exited with 0 and wrote 0 CSV files; it printed: nothing"),
    ],
)
def test_a_program_that_fails(tmp_path, stand_in, act, message):
    with pytest.raises(MediaError, match=message) as caught:
        OpenFace2(weights=stand_in(act)[0]).encode(Clip(tmp_path / "x.mov"))
    assert caught.value.kind == "openface-failed"


def test_a_missing_program(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for encoder in (OpenFace2(), OpenFace2(weights=tmp_path / "none")):
        with pytest.raises(MediaError, match="--weights") as caught:
            encoder.encode(Clip(tmp_path / "x.mov"))
        assert caught.value.kind == "no-openface"


def test_one_preset():
    assert OpenFace2().preset == "published"
    with pytest.raises(ValidationError, match="no preset 'reference'"):
        OpenFace2("reference")
