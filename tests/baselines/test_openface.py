"""OpenFace 3's files: the columns of a frame, frames without a face, and broken files."""

import numpy as np
import pytest

from blemore_baselines.encoders.openface import interpolate, is_openface3_csv, read_openface3_csv

HEADER = "frame,emotion_index,gaze_yaw,gaze_pitch,action_units"
UNITS = "[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]"


def row(frame, units=UNITS, scalars="3,0.5,-0.25"):
    return f'{frame},{scalars},"{units}"'


@pytest.fixture
def file(tmp_path):
    def write(rows, header=HEADER, encoding="utf-8"):
        path = tmp_path / "A1_ang_int1_ver1.csv"
        path.write_text("\n".join([header, *rows]) + "\n", encoding=encoding)
        return path

    return write


def test_a_frame_by_hand(file):
    path = file([row(0), row(1, "[1 1 1 1 1 1 1 1]", "4,0,0.125")])  # lists with and without commas
    assert is_openface3_csv(path)
    features = read_openface3_csv(path)
    assert features.dtype == np.float32
    #                 emotion yaw pitch, then the eight action units
    assert features[0] == pytest.approx([3, 0.5, -0.25, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    assert features[1].tolist() == [4, 0, 0.125, 1, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("spaced", [", ".join(HEADER.split(",")), " , ".join(HEADER.split(","))])
def test_names_and_cells_with_spaces_around_them(file, spaced):
    path = file([row(0).replace(",3,", ", 3,")], spaced)
    assert is_openface3_csv(path) and read_openface3_csv(path)[0, 0] == 3


def test_a_byte_order_mark(file):
    path = file([row(0).partition(",")[2]], HEADER.partition(",")[2], encoding="utf-8-sig")
    assert is_openface3_csv(path) and read_openface3_csv(path).shape == (1, 11)


@pytest.mark.parametrize(
    "units",
    ["", "nan", "[nan]", "[]", "[nan, nan, nan, nan, nan, nan, nan, nan]", "[0.1, nan, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]"],
)
def test_a_frame_without_a_face_lies_between_its_neighbours(file, units):
    # Ten frames whose gaze rises by 1. Frame 4 is lost, wholly or in part, and becomes (3 + 5) / 2.
    rows = [row(k, scalars=f"0,{k},0") for k in range(10)]
    rows[4] = row(4, units, scalars="7,100,100")
    features = read_openface3_csv(file(rows))
    assert features[:, 1].tolist() == list(range(10))
    assert features[4] == pytest.approx([0, 4, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


def test_scalars_that_are_lost(file):
    rows = [row(k, scalars=f"0,{k},0") for k in range(20)]
    rows[0], rows[19] = row(0, scalars="0,nan,0"), row(19, scalars="0,,0")
    assert read_openface3_csv(file(rows))[:, 1].tolist() == [1, *range(1, 19), 18]  # the ends repeat the nearest value


@pytest.mark.parametrize("good, is_refused", [(17, False), (16, True)])
def test_too_few_good_frames(file, good, is_refused):  # 17 of 20 are 85 %
    path = file([row(k, UNITS if k < good else "nan") for k in range(20)])
    if is_refused:
        with pytest.raises(ValueError, match="16 of 20 frames are good; expected at least 85%"):
            read_openface3_csv(path)
    else:
        assert read_openface3_csv(path).shape == (20, 11)


@pytest.mark.parametrize(
    "rows, header, message",
    [
        ([], HEADER, "no frames"),
        (["0,1,1"], "frame,gaze_yaw,gaze_pitch", "no column emotion_index, action_units"),
        ([row(0), row(1, "[1, 2, 3]")], HEADER, "line 3: 3 action units; expected 8"),
        ([row(0), row(1, UNITS.replace("0.2", "oops"))], HEADER, "line 3: .*oops"),
        ([row(0), "1,3,high,0,nan"], HEADER, "line 3: .*high"),
        ([row(0), "1,3,0.5"], HEADER, "line 3"),  # truncated in the middle of a row
        ([row(0), row(1) + ",7"], HEADER, "line 3"),  # an extra cell: it is unclear which
        ([row(0), '1,3,0.5,0,"' + "0.1 " * 50_000], HEADER, "field larger"),  # an open quote swallows the rest
    ],
)
def test_broken_files_are_refused_with_a_reason(file, rows, header, message):
    with pytest.raises(ValueError, match=message):
        read_openface3_csv(file(rows, header))


def test_a_table_of_clips_is_not_openfaces(file):
    assert not is_openface3_csv(file(["test_0001,1"], "filename,feature"))
    assert not is_openface3_csv(file([], ""))


def test_a_file_of_openface_2_is_refused_by_its_columns(shared):
    path = shared / "media" / "openface_real_output.csv"
    assert not is_openface3_csv(path)
    with pytest.raises(ValueError, match="no column emotion_index, gaze_yaw, gaze_pitch, action_units"):
        read_openface3_csv(path)


def test_interpolation_by_hand():
    # time   0    1    2    3    4       frames 1 and 2 are lost
    # value  10   –    –    40   50   →  10 20 30 40 50
    frames = np.array([[10.0], [np.nan], [-999], [40], [50], [60], [70], [80], [90], [100], [110], [120], [130], [140]])
    good = np.ones(len(frames), bool)
    good[1:3] = False
    assert interpolate(frames, good)[:, 0].tolist() == [10 * (k + 1) for k in range(14)]
