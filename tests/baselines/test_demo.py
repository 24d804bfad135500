"""The embedded demo: its plan and tables, its clips, and that it survives kills."""

import csv
import json
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest

from blemore.errors import ValidationError
from blemore.labels import EMOTIONS, LABELS, parse_filename, to_prediction
from blemore_baselines.clips.media import Clip
from blemore_baselines.demo import generator as demo
from blemore_baselines.demo.score import AT, FPS, SIDE, Actor, Take, compose

TRAIN, TEST = demo.plan()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A demo of six clips, made by the same code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "plan", lambda: (TRAIN[:4], TEST[:2]))
        yield demo.make_demo(tmp_path_factory.mktemp("demo"), workers=1)


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def everything(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ------------------------------------------------------------------------------------------ the plan


def test_all_labels_are_in_train_and_blends_are_about_half():
    assert 150 <= len(TRAIN) + len(TEST) <= 180
    assert {take.label for take in TRAIN} == set(LABELS)
    for takes in (TRAIN, TEST):
        assert 0.5 <= np.mean([take.label.is_blend for take in takes]) <= 0.6
    assert len({take.label for take in TEST}) > 20


def test_names_of_train_clips_give_their_labels():
    assert len({take.name for take in TRAIN}) == len(TRAIN)
    for take in TRAIN:
        name = parse_filename(take.name)
        assert (name.actor, name.label, name.intensity, name.situation, name.version) == (
            demo.actor_id(take.actor), take.label, take.intensity, take.situation, take.version)  # fmt: skip


def test_actors_and_folds_are_disjoint():
    assert not {take.actor for take in TRAIN} & {take.actor for take in TEST}
    assert len({take.actor for take in TRAIN}) == 12 and len({take.actor for take in TEST}) == 3
    rows = list(csv.DictReader(demo._tables(TRAIN, TEST)[0].splitlines()))
    assert len({(row["video_id"], row["fold"]) for row in rows}) == 12, "an actor is in one fold"
    assert set(Counter(row["fold"] for row in rows)) == set("01234")


def test_order_of_test_is_uninformative():
    assert [take.name for take in TEST] == [f"test_{n:04d}" for n in range(1, len(TEST) + 1)]
    actors = [take.actor for take in TEST]
    runs = sum(actor != successor for actor, successor in zip(actors, actors[1:]))
    assert runs > len(TEST) / 3


def test_metadata_has_the_form_of_the_real_one(shared):
    real = read(shared / "blemore-real" / "train_metadata.csv")
    text = demo._tables(TRAIN, TEST)[0]
    assert text.splitlines()[0] == (shared / "blemore-real" / "train_metadata.csv").read_text().splitlines()[0]
    # For each kind of clip, the same cells are filled.
    kinds = [{tuple(map(bool, row.values())) for row in rows} for rows in (csv.DictReader(text.splitlines()), real)]
    assert kinds[0] == kinds[1]
    assert (shared / "blemore-real" / "test_metadata.csv").read_text().startswith("filename\ntest_0001\n")


# ------------------------------------------------------------------------------------------ the clips


def test_layout_and_tables(small):
    assert small.made == 6 and small.kept == 0
    rows = read(small.train_metadata)
    assert [row["filename"] for row in rows] == sorted(path.stem for path in small.train.glob("*.mov"))
    assert read(small.test_metadata) == [{"filename": "test_0001"}, {"filename": "test_0002"}]
    labels = json.loads(small.test_labels.read_text())
    assert list(labels["labels"]) == list(labels["groups"]) == ["test_0001", "test_0002"]
    for name, take in zip(labels["labels"], TEST):
        parts = [(part["emotion"], part["salience"]) for part in labels["labels"][name]]
        assert to_prediction(parts).label == take.label and labels["groups"][name] == demo.actor_id(take.actor)
    assert not list(small.train.parent.rglob("*.tmp"))


def test_clips_are_real(small):
    for path in small.train.glob("*.mov"):
        clip = Clip(path)
        frames, samples = np.stack(list(clip.frames())), clip.audio()
        assert clip.fps == FPS and frames.shape[1:] == (SIDE, SIDE, 3)
        assert 1.2 <= len(frames) / FPS <= 2 and abs(len(samples) / 16_000 - len(frames) / FPS) < 0.06
        assert 0.005 < samples.std() < 0.5 and np.abs(samples).max() <= 1.1
        assert frames.std() > 20 and np.abs(np.diff(frames.astype(int), axis=0)).mean() > 0.3, "a face, and it moves"


def test_same_bytes_every_time(small, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "plan", lambda: (TRAIN[:4], TEST[:2]))
    again = demo.make_demo(tmp_path / "again", workers=2)
    assert everything(again.train.parent) == everything(small.train.parent)


def test_a_second_call_redoes_nothing(small, monkeypatch):
    monkeypatch.setattr(demo, "plan", lambda: (TRAIN[:4], TEST[:2]))
    before = {path: path.stat().st_mtime_ns for path in small.train.parent.rglob("*")}
    again = demo.make_demo(small.train.parent)
    assert (again.made, again.kept) == (0, 6)
    assert before == {path: path.stat().st_mtime_ns for path in small.train.parent.rglob("*")}


def test_killed_and_resumed(small, tmp_path, monkeypatch):
    """A process that is killed between two clips."""
    out = tmp_path / "demo"
    code = f"""if True:
        from pathlib import Path
        from blemore_baselines.demo import generator as demo
        train, test = demo.plan()
        demo.plan = lambda: (train[:4], test[:2])
        demo.make_demo(Path({str(out)!r}), workers=1)"""
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while len(list(out.rglob("*.mov"))) < 2 and child.poll() is None:
        time.sleep(0.005)
    child.kill()
    child.wait()
    assert not (out / "train_metadata.csv").exists()
    monkeypatch.setattr(demo, "plan", lambda: (TRAIN[:4], TEST[:2]))
    resumed = demo.make_demo(out, workers=1)
    assert resumed.kept >= 2 and resumed.made >= 1
    files = {name: raw for name, raw in everything(out).items() if not name.endswith(".tmp")}
    assert files == everything(small.train.parent)


def test_refuses_other_folders(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValidationError, match="thesis.tex"):
        demo.make_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_refuses_another_revision(tmp_path):
    (tmp_path / demo.MARKER).write_text('{"dataset": "BLEMORE demo", "revision": 0, "seed": 2026}')
    with pytest.raises(ValidationError, match="another revision"):
        demo.make_demo(tmp_path)


# ------------------------------------------------------------------------------------ what they show


def score_of(label, actor=3, intensity=None, number=5):
    take = Take("x", actor, label, 1, intensity, None, number)
    return compose(take, Actor.invent(actor), np.random.default_rng(number))


def test_expressions_differ_more_than_chance():
    def smile(emotion):
        scores = [score_of(LABELS[EMOTIONS.index(emotion)], n % 12, 3, n) for n in range(20)]
        return np.mean([score[:, AT["smile"]].mean() for score in scores])

    assert smile("hap") > smile("neu") + 0.3 > smile("sad") + 0.6


def test_salience_shows_in_face_and_voice():
    def mean(saliences, parameter):
        label = to_prediction(list(zip(("fea", "sad"), saliences))).label
        return np.mean([score_of(label, n % 12, None, n)[:, AT[parameter]].mean() for n in range(20)])

    for parameter in ("eye", "pitch"):  # fear opens the eyes and raises the voice
        assert mean((70, 30), parameter) > mean((50, 50), parameter) > mean((30, 70), parameter)


def test_the_demo_is_known_by_its_clips(monkeypatch):
    monkeypatch.setattr(demo, "plan", lambda: (TRAIN, TEST))  # the whole, which other tests cut down
    train, test = ([take.name for take in takes] for takes in (TRAIN, TEST))
    for clips in (train, train + test, train[:1], train[:3] + test[:1]):
        assert demo.is_demo(clips)
    # names that the challenge has as well, another clip among the demo's, and none at all
    for clips in (test, [*train, "A102_ang_int1_ver1"], ["A102_ang_int1_ver1"], []):
        assert not demo.is_demo(clips)
