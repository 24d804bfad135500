"""Finding what a dataset's folder holds."""

import pytest

from blemore.errors import FileError
from blemore.labels import VIDEO_SUFFIXES
from blemore_baselines.survey.locate import choose_encoders, gather, locate

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


def test_a_file_instead_of_the_folder(tmp_path):
    (tmp_path / "train_metadata.csv").touch()
    with pytest.raises(FileError, match="train_metadata.csv: a file; expected a folder"):
        locate(tmp_path / "train_metadata.csv")


# What is found of them: features of train and of test, the encoders to begin with, videos of train and of test.
PAIR, LIGHT = ["ImageBind", "WavLM_large"], ["gray_flow", "logmel"]
BY_PART = [
    {name: f"pre_extracted_{part}_data/{name}_{part}" for name in ("HiCMAE", "ImageBind", "WavLM_large")}
    for part in ("train", "test")
]
VIDEOS = ({}, {}, LIGHT, "train/videos", None)
RESULTS = {
    "nothing": ({}, {}, LIGHT, None, None),
    "official": (*BY_PART, PAIR, None, None),
    "odd": (
        {"OpenFace_3": "OpenFace_3_train", "WavLM_large": "deep/er/WavLM_large_train"},
        {},
        ["OpenFace_3", "WavLM_large"],
        None,
        None,
    ),
    "aggregated": (
        {**BY_PART[0], "WavLM_large": "static/WavLM_large_train_static_features.npz"},
        {
            "ImageBind": "test/ImageBind_static_features.npz",
            "WavLM_large": "static/WavLM_large_test_static_features.npz",
        },
        PAIR,
        None,
        None,
    ),
    "videos": ({}, {}, LIGHT, "train/videos", "test"),
    "by actor": VIDEOS,
    **dict.fromkeys(VIDEO_SUFFIXES, VIDEOS),
}


@pytest.mark.parametrize("name", TREES)
def test_what_is_where(make, name):
    folder = make(TREES[name])
    data = locate(folder)
    *features, encoders, train_videos, test_videos = RESULTS[name]
    for paths, expected in zip((data.train_features, data.test_features), features):
        assert paths == {encoder: folder / path for encoder, path in expected.items()}
    assert choose_encoders(data.train_features) == encoders
    assert data.train_videos == (folder / train_videos if train_videos else None)
    assert data.test_videos == (folder / test_videos if test_videos else None)


def test_paths_are_ordered_by_code_point(make):
    folder = make(["B/train_metadata.csv", "a/train_metadata.csv", "a/X_train/clip.npy", "B/X_train/clip.npy"])
    data = locate(folder)
    assert (data.train_metadata, data.train_features["X"]) == (folder / "B/train_metadata.csv", folder / "B/X_train")


def test_clips_are_those_of_the_column_filename(make):
    folder = make([f"train/{clip}.mov" for clip in TRAIN])
    rows = "".join(f'0,"{clip}.mov"\r\n' for clip in TRAIN)
    (folder / "sub/train_metadata.csv").write_text("\ufefffold,filename\r\n" + rows, encoding="utf-8")
    assert locate(folder).train_videos == folder / "train"


def test_the_video_of_a_clip_has_its_name_and_a_suffix_alone(make):
    names = [f"train/{TRAIN[0]}.old.mov", f"train/{TRAIN[0]}.txt", f"other/{TRAIN[0]}-2.mov"]
    assert locate(make(names)).train_videos is None


def test_what_is_found(make):
    folder = make(TREES["official"] + TREES["videos"])
    data = locate(folder)
    assert (data.train_metadata, data.test_metadata) == (
        folder / "sub/train_metadata.csv",
        folder / "test_metadata.csv",
    )
    assert data.test_features["WavLM_large"] == folder / "pre_extracted_test_data/WavLM_large_test"
    assert (data.train_videos, data.test_videos) == (folder / "train/videos", folder / "test")
    assert choose_encoders(data.train_features) == ["ImageBind", "WavLM_large"]


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
