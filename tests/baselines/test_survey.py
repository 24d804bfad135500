"""The check of a dataset's folder: on the demo, on damaged copies of it, and on the real metadata."""

import shutil
from types import SimpleNamespace

import av
import numpy as np
import pytest
from click.testing import CliRunner

from blemore.errors import FileError
from blemore.trivial import train_counts
from blemore_baselines import cli
from blemore_baselines.demo import generator as demo
from blemore_baselines.sources.npz import npz_bytes
from blemore_baselines.survey import check as survey

TRAIN, TEST = demo.plan()
TAKES = [take for actor in (0, 1) for take in [take for take in TRAIN if take.actor == actor][:3]]  # in two folds


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "plan", lambda: (TAKES, TEST[:2]))
        return demo.make_demo(tmp_path_factory.mktemp("demo"), workers=1).train.parent


@pytest.fixture
def data(demo_folder, tmp_path):
    """A copy to be damaged. `clip`: the path of a train clip in the middle of the table."""
    folder = shutil.copytree(demo_folder, tmp_path / "data")
    return SimpleNamespace(
        folder=folder, clip=folder / "train" / f"{TAKES[2].name}.mov", ids=[take.name for take in TAKES]
    )


def check(folder, *options):
    return CliRunner().invoke(cli.main, ["data", "check", str(folder), *map(str, options)])


def rows(inspection, title):
    """The rows of a table, as dicts."""
    table = next(table for table in inspection.tables if table.title.startswith(title))
    return [dict(zip(table.columns, row)) for row in table.rows]


# ------------------------------------------------------------------------------------- the demo


def test_a_complete_demo_is_checked_against_its_own_tables(demo_folder):
    result = check(demo_folder)
    assert result.exit_code == 0
    assert "compared only with its own tables" in result.stdout and result.stdout.endswith(
        "Nothing is missing or wrong.\n"
    )
    assert "expected  " not in result.stdout
    inspection = survey.survey(demo_folder)
    assert [
        (row["partition"], row["in metadata"], row["videos"], row["missing"], row["unreadable"])
        for row in rows(inspection, "Clips")
    ] == [("train", 6, 6, 0, 0), ("test", 2, 2, 0, 0)]
    assert [(row["fold"], row["clips"], row["actors"]) for row in rows(inspection, "Train by fold")] == [
        ("0", 3, 1),
        ("1", 3, 1),
        ("all", 6, 2),
    ]
    assert sum(row["clips"] for row in rows(inspection, "Train by label")) == 6
    with av.open(str(demo_folder / "test" / "test_0001.mov")) as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert inspection.seconds["test_0001"] == pytest.approx(
        frames / demo.FPS, abs=0.1
    )  # the sound may last a little longer


def truncate(data):
    data.clip.write_bytes(data.clip.read_bytes()[: data.clip.stat().st_size // 2])


def mute(data):
    loud = data.clip.rename(data.folder / "loud")
    with av.open(str(loud)) as source, av.open(str(data.clip), "w", format="mov") as silent:
        stream = silent.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                silent.mux(packet)


def double(data):
    (data.folder / "copies").mkdir()
    shutil.copy(data.clip, data.folder / "copies" / data.clip.with_suffix(".mp4").name)


DAMAGES = {
    "truncated": (truncate, "truncated", "expected at least"),
    "empty": (lambda data: data.clip.write_bytes(b""), "empty-file", "the file is empty"),
    "another kind of file": (
        lambda data: data.clip.write_text("a picture, honestly"),
        "unreadable",
        "not a readable media file",
    ),
    "without sound": (mute, "no-audio", "has no sound stream"),
    "missing": (lambda data: data.clip.unlink(), "missing-clips", f"1 of 6 train clips have no video: {TAKES[2].name}"),
    "one too many": (
        lambda data: shutil.copy(data.clip, data.folder / "test" / "test_0009.mov"),
        "unknown-clips",
        "1 videos belong to no clip in the metadata: test_0009",
    ),
    "twice": (double, "duplicate-clip", "2 videos of one clip"),
}


@pytest.mark.parametrize(("damage", "code", "message"), DAMAGES.values(), ids=DAMAGES)
def test_each_damage_is_reported_and_nothing_else(data, damage, code, message):
    damage(data)
    inspection = survey.survey(data.folder)
    assert [problem.code for problem in inspection.problems] == [code]
    result = check(data.folder)
    assert result.exit_code == 1
    assert message in result.stdout.partition("What is wrong\n")[2]
    assert "Everything" not in result.stdout


def test_all_damage_is_reported_at_once(data):
    truncate(data)
    (data.folder / "test" / "test_0002.mov").unlink()
    shutil.copy(data.folder / "test" / "test_0001.mov", data.folder / "train" / "more.mov")
    assert sorted(problem.code for problem in survey.survey(data.folder).problems) == [
        "missing-clips",
        "truncated",
        "unknown-clips",
    ]


def test_clips_are_found_though_the_first_and_the_last_are_missing(data):
    for take in (TAKES[0], TAKES[-1]):
        (data.folder / "train" / f"{take.name}.mov").unlink()
    assert rows(survey.survey(data.folder), "Clips")[0]["missing"] == 2


def test_archivers_shadow_files_are_not_clips(data):
    (data.folder / "train" / f"._{data.clip.name}").write_bytes(b"x")
    assert not survey.survey(data.folder).problems


@pytest.mark.parametrize(("charset", "name"), [("utf-8", "クリップ"), ("latin-1", r"\u30af\u30ea\u30c3\u30d7")])
def test_any_terminal_can_show_any_name(data, charset, name):
    shutil.copy(data.clip, data.folder / "train" / "クリップ.mov")
    result = CliRunner(charset=charset).invoke(cli.main, ["data", "check", str(data.folder)])
    assert result.exit_code == 1 and f"belong to no clip in the metadata: {name}\n" in result.stdout


@pytest.mark.parametrize("name", ["empty", "nowhere"])
def test_folders_without_train_metadata(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError):
        survey.survey(tmp_path / name)
    result = check(tmp_path / name)
    assert (result.exit_code, result.stdout) == (
        3,
        "",
    ) and "Give the folder that the dataset was unpacked into" in result.stderr


# ------------------------------------------------------------------------------------- features


@pytest.fixture
def features(data):
    """A folder of features of the train clips, 2 to 7 rows of 4 numbers."""
    folder = data.folder / "pre_extracted_train_data" / "WavLM_large_train"
    folder.mkdir(parents=True)
    for number, clip in enumerate(data.ids):
        np.save(folder / f"{clip}.npy", np.full((number + 2, 4), 0.5, np.float32))
    return folder


def test_whole_features(data, features):
    (features.parent / "ImageBind_static_features.npz").write_bytes(
        npz_bytes(X=np.zeros((6, 7)), filenames=np.array(data.ids))
    )
    inspection = survey.survey(data.folder)
    assert not inspection.problems
    npz, folder = rows(inspection, "Pre")
    assert folder == {
        "encoder": "WavLM_large",
        "partition": "train",
        "clips": 6,
        "missing": 0,
        "unknown": 0,
        "unreadable": 0,
        "rows per clip": "2 to 7",
        "columns": "4",
        "where": "pre_extracted_train_data/WavLM_large_train",
    }
    assert (npz["encoder"], npz["clips"], npz["rows per clip"], npz["columns"]) == ("ImageBind", 6, "1", "7")


def spoil(folder, clip, array):
    np.save(folder / f"{clip}.npy", array)


FEATURE_DAMAGES = {
    "a clip missing": (
        lambda folder, clip: (folder / f"{clip}.npy").unlink(),
        "missing-clips",
        f"1 train clips have no features: {TAKES[2].name}",
    ),
    "of another clip": (
        lambda folder, clip: spoil(folder, "test_0001", np.ones((2, 4))),
        "unknown-clips",
        "features of 1 clips that are not in train: test_0001",
    ),
    "nan": (
        lambda folder, clip: spoil(folder, clip, np.full((2, 4), np.nan)),
        "bad-feature-file",
        "holds NaN or Infinity",
    ),
    "another width": (
        lambda folder, clip: spoil(folder, clip, np.ones((2, 5))),
        "wrong-shape",
        "4 (5 clips), 5 (1 clips)",
    ),
    "no numbers": (
        lambda folder, clip: (folder / f"{clip}.npy").write_text("x"),
        "bad-feature-file",
        "not a .npy file of numbers",
    ),
    "cut short": (
        lambda folder, clip: (folder / f"{clip}.npy").write_bytes((folder / f"{clip}.npy").read_bytes()[:-9]),
        "bad-feature-file",
        TAKES[2].name,
    ),
}


@pytest.mark.parametrize(("damage", "code", "message"), FEATURE_DAMAGES.values(), ids=FEATURE_DAMAGES)
def test_each_damage_of_features_is_reported(data, features, damage, code, message):
    damage(features, data.ids[2])
    inspection = survey.survey(data.folder)
    assert [problem.code for problem in inspection.problems] == [code]
    result = check(data.folder)
    assert result.exit_code == 1 and message in result.stdout


def test_an_aggregated_file_that_cannot_be_read(data):
    (data.folder / "CLIP_static_features.npz").write_bytes(b"PK")
    inspection = survey.survey(data.folder)
    assert {problem.code for problem in inspection.problems} == {"missing-clips", "bad-feature-file"}
    assert rows(inspection, "Pre")[0]["columns"] is None


# ----------------------------------------------------------------------------- the challenge's counts


@pytest.fixture
def real(shared, demo_folder, tmp_path, monkeypatch):
    """The real metadata with the demo's clips instead of the videos, whose headers are not read."""
    monkeypatch.setattr(survey.Clip, "probe", lambda clip: 1.5)
    folder = tmp_path / "real"
    for part in ("train", "test"):
        (folder / part).mkdir(parents=True)
        table = (shared / "blemore-real" / f"{part}_metadata.csv").read_text()
        (folder / f"{part}_metadata.csv").write_text(table)
        for line in table.splitlines()[1:]:
            (folder / part / f"{line.split(',')[0]}.mov").touch()
    return folder


def test_expected_counts_are_of_one_dataset():
    assert sum(survey.FOLDS) == sum(train_counts().values()) == 2456
    assert sum(count for label, count in train_counts().items() if label.is_blend) == 1326


def test_the_real_lists_are_as_expected(real):
    inspection = survey.survey(real)
    assert not inspection.problems and not inspection.demo
    assert [(row["expected"], row["in metadata"], row["videos"]) for row in rows(inspection, "Clips")] == [
        (2456, 2456, 2456),
        (594, 594, 594),
    ]
    *folds, total = rows(inspection, "Train by fold")
    assert [row["clips"] for row in folds] == [522, 486, 468, 472, 508]
    assert (total["singles"], total["blends"], total["actors"]) == (1130, 1326, 47)
    assert all(row["expected"] == row["clips"] for row in rows(inspection, "Train by label"))
    assert check(real).exit_code == 0


def test_every_deviation_is_reported(real):
    path = real / "train_metadata.csv"
    header, first, *rest = path.read_text().splitlines()
    assert first.startswith("A102_ang_int1") and first.endswith(",1")
    path.write_text("\n".join([header, *rest, ""]))
    with open(real / "test_metadata.csv", "a") as file:
        file.write("test_0595\n")
    counts, test, missing, unknown = survey.survey(real).problems
    assert "2,455 clips, not 2,456; 485 clips in fold 1, not 486; 181 clips of ang, not 182" in counts.message
    assert "1 clips are not in the challenge: test_0595" in test.message
    assert "test_0595" in missing.message and "A102_ang_int1_ver1" in unknown.message


def test_the_first_release_lacks_test(real):
    (real / "test_metadata.csv").unlink()
    assert [problem.code for problem in survey.survey(real).problems] == ["missing-file"]
    shutil.rmtree(real / "test")
    assert [problem.code for problem in survey.survey(real).problems] == ["missing-file", "missing-clips"]


def test_without_its_marker_the_demo_is_not_recognised(data):
    (data.folder / demo.MARKER).unlink()
    result = check(data.folder)
    assert (
        result.exit_code == 1
        and "compared with the counts of the challenge's dataset" in result.stdout
        and "6 clips, not 2,456" in result.stdout
    )


# -------------------------------------------------------------------------------------- figures


def test_figures(data, tmp_path):
    result = check(data.folder, "--figures", tmp_path / "figures")
    assert result.exit_code == 0
    signature = (tmp_path / "figures" / "signature.txt").read_text().strip()
    assert signature.startswith("clips:") and "|durations:" in signature
    for name in ("durations", "labels"):
        for form, start in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
            content = (tmp_path / "figures" / f"{name}.{form}").read_bytes()
            assert content.startswith(start) and signature.encode() in content
            assert f"{name}.{form} drawn" in result.stderr


def test_no_durations_without_videos(data, tmp_path):
    shutil.rmtree(data.folder / "train")
    check(data.folder, "--figures", tmp_path / "figures")
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == ["labels.pdf", "labels.png", "signature.txt"]
