"""Bundles for the tests, built once per session."""

import json
import os
import random
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from blemore.labels import LABELS, to_entry
from blemore_codabench import check as checking
from blemore_codabench.build import Options, build

N_CLIPS, N_ACTORS = 120, 11
SECRET = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    """Skip fsync: on a busy disk, hundreds of calls take longer than everything else."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture(scope="module")
def trials():
    """Tries each program once, since most bundles have the same one."""
    outcomes, try_program = {}, checking.try_program

    def remembered(program, python):
        key = tuple(sorted(program.items()))
        if key not in outcomes:
            outcomes[key] = try_program(program, python)
        return outcomes[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checking, "try_program", remembered)
        yield


def labels_of(prefix, seed):
    rng = random.Random(seed)
    clips = [f"{prefix}_{index:04d}" for index in range(1, N_CLIPS + 1)]
    labels = {clip: to_entry(rng.choice(LABELS)) for clip in clips}
    return {"labels": labels, "groups": {clip: f"B{index % N_ACTORS:02d}" for index, clip in enumerate(clips)}}


@pytest.fixture(scope="session")
def built(wheels, tmp_path_factory):
    """A bundle with a practice phase, and the paths of its parts."""
    folder = tmp_path_factory.mktemp("built")
    files = {"labels": {**labels_of("test", 1), "secret": SECRET}, "practice": labels_of("train", 2)}
    for name, data in files.items():
        (folder / f"{name}.json").write_text(json.dumps(data))
    options = Options(
        labels=folder / "labels.json",
        out=folder / "bundle.zip",
        practice_labels=folder / "practice.json",
        wheels=wheels,
        start=datetime(2026, 3, 1, tzinfo=UTC),
        end=datetime(2026, 4, 1, 12, 30, tzinfo=UTC),
        allow_past=True,
    )
    result = build(options)
    return SimpleNamespace(
        options=options,
        folder=folder,
        bundle=folder / "bundle.zip",
        files=result.files,
        notes=result.notes,
        phases=result.phases,
        **files,
    )
