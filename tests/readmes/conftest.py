"""A small dataset in the form of the real one, for the READMEs' commands and for users' mistakes; made in seconds."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from kit import call

WIDTHS = {"WavLM_large": 5, "ImageBind": 3}  # instead of 1024 columns each


def demo(folder):
    """The demo with only three drawn clips; the others are copies of these."""
    from blemore_baselines.demo.generator import _claim, _make_clip, make_demo, plan

    _claim(folder)
    train, test = plan()
    paths = [folder / "train" / f"{take.name}.mov" for take in train[:3]]
    for path, take in zip(paths, train):
        path.parent.mkdir(exist_ok=True)
        _make_clip(path, take)
    (folder / "test").mkdir()
    for part, takes in (("train", train[3:]), ("test", test)):
        for number, take in enumerate(takes):
            shutil.copy(paths[number % 3], folder / part / f"{take.name}.mov")
    return make_demo(folder, workers=1)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Metadata, clips and pre-extracted features as a participant has them, and a model.

    Tests write only to a copy: see `desk`.
    """
    from blemore.evaluate import read_ids, read_reference
    from blemore.labels import LABEL_INDEX
    from blemore_baselines.dataset import TARGETS
    from blemore_baselines.engines import one_thread_each

    folder = tmp_path_factory.mktemp("world")
    data, rng = demo(folder / "demo"), np.random.default_rng(3)
    shutil.copy(data.train_metadata, folder)
    shutil.copy(data.test_metadata, folder)
    shutil.copy(data.test_labels, folder)
    mixing = {name: rng.normal(size=(6, width)) for name, width in WIDTHS.items()}
    for part, labels in (("train", data.train_metadata), ("test", data.test_labels)):
        reference = read_reference(labels).labels
        for name in WIDTHS:
            features = folder / f"pre_extracted_{part}_data" / f"{name}_{part}"
            features.mkdir(parents=True)
            for clip in read_ids(labels):
                frames = TARGETS[LABEL_INDEX[reference[clip]]] @ mixing[name] + rng.normal(size=(4, WIDTHS[name]))
                np.save(features / f"{clip}.npy", frames.astype(np.float32))
    run = folder / "run"
    with one_thread_each():
        result = call(
            "blemore-baselines",
            "train",
            "--metadata",
            data.train_metadata,
            "--preset",
            "fast",
            "--head",
            "linear",
            "--out",
            run,
            "--features",
            folder / "pre_extracted_train_data" / "WavLM_large_train",
        )
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def desk(world, tmp_path, monkeypatch):
    """A participant's own folder, which is the working directory: a copy of the world, its large parts linked to."""
    for path in world.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
        elif path.name != "run":
            (tmp_path / path.name).symlink_to(path)
    shutil.copytree(world / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return SimpleNamespace(
        folder=tmp_path,
        train="train_metadata.csv",
        test="test_metadata.csv",
        labels="test_labels.json",
        wavlm="pre_extracted_train_data/WavLM_large_train",
        wavlm_test="pre_extracted_test_data/WavLM_large_test",
        imagebind_test="pre_extracted_test_data/ImageBind_test",
    )
