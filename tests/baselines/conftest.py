"""A tiny dataset that the tests of training, prediction and the command line share."""

import os
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from cases import small_picture

from blemore.io import csv_text
from blemore.labels import LABELS
from blemore_baselines import features
from blemore_baselines.dataset import TARGETS, read_dataset
from blemore_baselines.demo.generator import COLUMNS
from blemore_baselines.engines import processes

N_FOLDS, N_TEST = 3, 8


@pytest.fixture(scope="session", autouse=True)
def _preloaded_processes():
    """Worker processes are forked from one that has imported torch. Only the first call in a process has an effect."""
    processes.preload("blemore_baselines.extraction.gpu", "nets")


def metadata_csv(labels, n_folds=N_FOLDS):
    """Train metadata: an actor per fold, clips in turn."""
    rows = [COLUMNS]
    for k, label in enumerate(LABELS[index] for index in labels):
        saliences = label.saliences if label.is_blend else ("", "")
        emotions, fold = (*label.emotions, "")[:2], k % n_folds
        rows.append((f"clip{k:02}", f"A{fold}", int(label.is_blend), *emotions, *saliences, 1, "", "", fold))
    return csv_text(rows)


@pytest.fixture
def tiny(tmp_path):
    """36 train clips in three folds and 8 test clips, with features that depend on the labels.

    train, test: metadata files; sound, look: folders of sequences under the partitions' folders, 5 and 3 wide
    """
    rng = np.random.default_rng(7)
    labels = rng.permutation(36)
    root = tmp_path / "tiny"
    root.mkdir()
    (root / "train_metadata.csv").write_text(metadata_csv(labels))
    test_ids = [f"test_{k:04}" for k in range(1, N_TEST + 1)]
    (root / "test_metadata.csv").write_text("\n".join(["filename", *(f"{clip}.mov" for clip in test_ids)]) + "\n")
    dataset = read_dataset(root / "train_metadata.csv")
    for name, dim in (("sound", 5), ("look", 3)):
        mixing = rng.normal(size=(6, dim))
        for part, ids, targets in (
            ("train", dataset.ids, dataset.targets),
            ("test", test_ids, TARGETS[rng.integers(0, 36, N_TEST)]),
        ):
            folder = root / f"{name}_{part}"
            folder.mkdir()
            for clip, target in zip(ids, targets):
                frames = target @ mixing + rng.normal(size=(rng.integers(2, 6), dim))
                np.save(folder / f"{clip}.npy", frames.astype(np.float32))
    return SimpleNamespace(
        root=root,
        train=root / "train_metadata.csv",
        test=root / "test_metadata.csv",
        dataset=dataset,
        test_ids=test_ids,
        sound=root / "sound_train",
        look=root / "look_train",
        sound_test=root / "sound_test",
        look_test=root / "look_test",
        read=lambda path, **options: features.read_features(path, dataset.ids, **options),
    )


@pytest.fixture
def planted():
    """(noise, n) → a dataset of n clips, twelve actors in four folds, and a source per noise level: 8 columns that mix
    the soft labels with that much noise, or of noise alone (None)."""
    from blemore_baselines.dataset import Dataset
    from blemore_baselines.features import Features

    def make(noise, n=720, seed=0):
        rng = np.random.default_rng(seed)
        labels, actor = rng.permutation(np.arange(n) % len(LABELS)), rng.integers(0, 12, n)
        ids = [f"clip{k:03}" for k in range(n)]
        sources = [
            (
                rng.normal(size=(n, 8))
                if level is None
                else TARGETS[labels] @ rng.normal(size=(6, 8)) + level * rng.normal(size=(n, 8))
            )
            for level in noise
        ]
        return Dataset(ids, labels, actor % 4, [f"A{k:02}" for k in actor]), [
            Features(ids, X.astype(np.float32), np.arange(n), {}) for X in sources
        ]

    return make


@pytest.fixture
def quick(monkeypatch):
    """The published protocol with a few epochs and a large step."""
    from blemore_baselines import train

    recipes = {"aggregate": train.Recipe(1e-2, 1e-3, 8, 4, 3), "subsample": train.Recipe(1e-2, 1e-3, 16, 3, 3)}
    monkeypatch.setattr(train, "PRESETS", {"published": recipes})
    return recipes


@pytest.fixture
def undrawn(monkeypatch):
    """Without the figures of a report. They take seconds, and most tests are about something else."""
    from blemore_baselines.results import plots

    names = ("confusion", "intervals", "learning_curves", "principal_components", "threshold_map", "threshold_spread")
    for name in names:
        monkeypatch.setattr(plots, name, lambda *_: small_picture())


@pytest.fixture(scope="module")
def one_thread():
    """With small matrices, several threads only wait for each other."""
    from blemore_baselines.engines import one_thread_each

    with one_thread_each():
        yield


@pytest.fixture
def disk(tmp_path):
    """A file system of 300 kB; `disk(options)` mounts it again with other options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options):
        return subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", place], capture_output=True)

    if os.name != "posix" or os.geteuid() != 0 or mount("size=300k").returncode:
        pytest.skip("only root can mount a small disk")
    yield lambda *options: mount("remount", *options).returncode == 0 and place or place
    subprocess.run(["umount", place], check=True)
