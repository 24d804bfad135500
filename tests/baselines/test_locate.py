"""Finding what a dataset's folder holds, by the same rules as the script run_all.sh."""

import shutil
import subprocess
from pathlib import Path

import pytest

from blemore.errors import FileError
from blemore.labels import VIDEO_SUFFIXES
from blemore_baselines.survey.locate import choose_encoders, gather, locate

SCRIPT = Path(__file__).resolve().parents[2] / "baselines" / "run_all.sh"
TRAIN = ["A1_ang_int1_ver1", "A2_hap_int1_ver1", "A3_sad_int1_ver1"]
OFFICIAL = [
    f"pre_extracted_{part}_data/{encoder}_{part}/clip.npy"
    for part in ("train", "test")
    for encoder in ("HiCMAE", "ImageBind", "WavLM_large")
]
TREES = {
    "nothing": [],
    "official": OFFICIAL,
    "odd": [
        "OpenFace_3_train/clip.csv",
        "deep/er/WavLM_large_train/clip.npy",
        "a/b/c/TooDeep_train/clip.npy",
        "empty_train/notes.txt",
        "all_train/train_metadata.csv",
    ],
    "aggregated": [
        "static/ImageBind_static_features.npz",
        "static/WavLM_large_train_static_features.npz",
        "test/ImageBind_static_features.npz",
        "static/WavLM_large_test_static_features.npz",
        "latest/HiCMAE_static_features.npz",
        *OFFICIAL[:2],
    ],
    "videos": ["train/A0.mov", *(f"train/videos/{clip}.mov" for clip in TRAIN), "test/test_0001.mov"],
    "by actor": [f"train/videos/{clip[:2]}/{clip}.mp4" for clip in TRAIN],
    **{suffix: [f"train/videos/{clip}{suffix}" for clip in TRAIN] for suffix in VIDEO_SUFFIXES},
}


@pytest.fixture
def make(tmp_path):
    def make(names):
        folder = tmp_path / "the data"
        for name in ("sub/train_metadata.csv", "test_metadata.csv", *names):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        for path in folder.rglob("train_metadata.csv"):
            path.write_text("filename,fold\n" + "".join(f"{clip},0\n" for clip in TRAIN))
        (folder / "test_metadata.csv").write_text("filename\ntest_0001.mov\n")
        return folder

    return make


def by_script(folder, command):
    """What a function of the script prints."""
    said = subprocess.run(
        [
            shutil.which("bash"),
            "-c",
            f'source "$1"; data=$2; train=$2/sub/train_metadata.csv test=$2/test_metadata.csv; {command}',
            "bash",
            SCRIPT,
            folder,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return said.stdout.rstrip("\n")


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "train_metadata.csv").touch()
    with pytest.raises(FileError, match="train_metadata.csv: a file; expected a folder"):
        locate(tmp_path / "train_metadata.csv")


@pytest.mark.parametrize("names", TREES.values(), ids=TREES)
def test_script_and_package_find_the_same(make, names):
    folder = make(names)
    found = locate(folder)
    for part, features in (("train", found.train_features), ("test", found.test_features)):
        lines = by_script(folder, f"list_features {part}").splitlines()
        first = dict(reversed([line.split("\t") for line in lines]))
        assert {encoder: str(path) for encoder, path in features.items()} == first
    assert by_script(folder, "choose_encoders").split() == choose_encoders(found.train_features)
    assert by_script(folder, 'videos_of "$train"') == str(found.train_videos or "")
    assert by_script(folder, 'videos_of "$test"') == str(found.test_videos or "")


def test_what_is_found(make):
    folder = make(TREES["official"] + TREES["videos"])
    found = locate(folder)
    assert (found.train_metadata, found.test_metadata) == (
        folder / "sub/train_metadata.csv",
        folder / "test_metadata.csv",
    )
    assert found.test_features["WavLM_large"] == folder / "pre_extracted_test_data/WavLM_large_test"
    assert (found.train_videos, found.test_videos) == (folder / "train/videos", folder / "test")
    assert choose_encoders(found.train_features) == ["ImageBind", "WavLM_large"]


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileError, match="no such folder"):
        locate(tmp_path / "nowhere")
    with pytest.raises(FileError, match="no train_metadata.csv"):
        locate(tmp_path)


def test_features_of_the_dataset_come_first(make, tmp_path):
    data = locate(make(OFFICIAL[:-1]))  # without WavLM of test
    train, test = gather(data, ["ImageBind", "WavLM_large"], tmp_path / "features")
    assert train == [data.train_features["ImageBind"], data.train_features["WavLM_large"]]
    assert test == [data.test_features["ImageBind"]]
    assert not (tmp_path / "features").exists()


def test_others_are_extracted_from_the_videos(make, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "blemore_baselines.survey.locate.extract",
        lambda ids, clips, encoders, out, workers: calls.append((ids, clips, [e.name for e in encoders], out)),
    )
    data, out = locate(make(TREES["videos"] + OFFICIAL)), tmp_path / "features"
    train, test = gather(data, ["logmel", "ImageBind"], out)
    assert calls == [
        (TRAIN, data.train_videos, ["logmel"], out / "train"),
        (["test_0001"], data.test_videos, ["logmel"], out / "test"),
    ]
    assert train == [out / "train/logmel", data.train_features["ImageBind"]] and test == [
        out / "test/logmel",
        data.test_features["ImageBind"],
    ]


def test_neither_features_nor_videos(make, tmp_path):
    with pytest.raises(FileError, match="neither features of gray_flow, logmel nor videos"):
        gather(locate(make([])), choose_encoders([]), tmp_path)
