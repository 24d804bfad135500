"""Extraction: what it writes, resumes, refuses and survives."""

import json
import os
import subprocess
import sys
import wave

import numpy as np
import pytest
from click.testing import CliRunner

from blemore.errors import FileError, ValidationError
from blemore_baselines import cli
from blemore_baselines import extract as extraction
from blemore_baselines.clips.find import Failure
from blemore_baselines.demo.generator import _make_clip, plan
from blemore_baselines.encoders import ENCODERS, FAMILIES, create
from blemore_baselines.encoders.base import Encoder
from blemore_baselines.extraction import store
from blemore_baselines.extraction.store import is_done, read_failures

IDS = [f"clip_{number}" for number in range(6)]


def extract(ids, clips, encoder, out, **options):
    """Extract with one encoder."""
    [summary] = extraction.extract(ids, clips, [encoder], out, **options)
    return summary


def write_wav(path, seed: int = 0, seconds: float = 0.3):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(16_000)
        samples = np.random.default_rng(seed).integers(-10_000, 10_000, round(seconds * 16_000))
        file.writeframes(samples.astype("<i2").tobytes())
    return path


@pytest.fixture
def videos(tmp_path):
    for number, clip in enumerate(IDS):
        write_wav(tmp_path / "videos" / f"part_{number % 2}" / f"{clip}.wav", number)
    return tmp_path / "videos"


def features_of(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.npy")}


# ------------------------------------------------------------------------------------ what it writes


@pytest.mark.parametrize("workers", [1, 2])
def test_writes_features_meta_and_failures(videos, tmp_path, workers, capsys):
    summary = extract(IDS + ["clip_9.mov"], videos, create("logmel"), tmp_path / "out", workers=workers)
    assert summary.folder == tmp_path / "out" / "logmel"
    assert (summary.done, summary.skipped) == (IDS, [])
    assert [failure[:2] for failure in summary.failures] == [("clip_9", "missing-file")]
    for clip in IDS:
        features = np.load(summary.folder / f"{clip}.npy", allow_pickle=False)
        assert features.dtype == np.float32 and features.shape == (16, 80)
    meta = json.loads((summary.folder / "meta.json").read_text())
    assert {key: meta[key] for key in ("encoder", "preset", "dim", "unit", "revision")} == {
        "encoder": "logmel",
        "preset": "reference",
        "dim": 80,
        "unit": "20 ms",
        "revision": "1",
    }
    assert meta["versions"]["numpy"] == np.__version__
    assert read_failures(summary.folder) == summary.failures
    names = sorted(path.name for path in summary.folder.iterdir())
    assert names == sorted([f"{clip}.npy" for clip in IDS] + ["meta.json", "failures.csv"])
    out, err = capsys.readouterr()
    assert out == "" and "logmel" in err


def test_bytes_do_not_depend_on_workers(videos, tmp_path):
    first = extract(IDS, videos, create("logmel"), tmp_path / "one", workers=1)
    second = extract(reversed(IDS), videos, create("logmel"), tmp_path / "two", workers=3)
    assert features_of(first.folder) == features_of(second.folder) and len(features_of(first.folder)) == 6


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Three clips of the demo, and a tiny CLIP."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    root = tmp_path_factory.mktemp("faces")
    (root / "clips").mkdir()
    for take in plan()[0][:3]:
        _make_clip(root / "clips" / f"{take.name}.mov", take)
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 64,
    }
    CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes, projection_dim=16)).save_pretrained(root / "clip")
    return root


@pytest.mark.parametrize("engine", ["local", "dask"])
def test_bytes_of_a_model_do_not_depend_on_workers_or_engine(faces, tmp_path, engine, long):
    """torch's results depend on the number of threads, which must be set in each thread."""
    if engine == "dask":
        pytest.importorskip("distributed")
        if not long:
            pytest.skip("with --long")

    def run(out, **options):
        encoders = [create("clip", weights=faces / "clip", device="cpu"), create("gray_flow")]
        return [
            features_of(summary.folder)
            for summary in extraction.extract(None, faces / "clips", encoders, tmp_path / out, **options)
        ]

    expected = run("one")
    assert [len(contents) for contents in expected] == [3, 3] and expected == run("two", workers=2, engine=engine)
    assert np.load(tmp_path / "one" / "clip" / sorted(expected[0])[0]).shape[1] == 16, (
        "the width of the weights, not the declared one"
    )
    assert [
        len(summary.skipped)
        for summary in extraction.extract(
            None, faces / "clips", [create("clip", weights=faces / "clip", device="cpu")], tmp_path / "one"
        )
    ] == [3]


def test_bad_clips_are_recorded_and_the_others_go_on(videos, tmp_path):
    (videos / "empty.mov").touch()
    (videos / "words.mov").write_text("not a clip " * 99)
    whole = write_wav(videos / "cut.wav").read_bytes()
    (videos / "cut.wav").write_bytes(whole[:2000])
    summary = extract([*IDS, "empty", "words", "cut", "absent"], videos, create("logmel"), tmp_path, workers=2)
    assert [(f.clip, f.kind) for f in summary.failures] == [
        ("absent", "missing-file"),
        ("cut", "truncated"),
        ("empty", "empty-file"),
        ("words", "unreadable"),
    ]
    assert summary.done == IDS
    lines = (summary.folder / "failures.csv").read_text().splitlines()
    assert lines[0] == "clip,kind,message" and len(lines) == 5, "one line per failure"


def test_a_clip_without_video_is_recorded(videos, tmp_path):
    summary = extract(IDS[:1], videos, create("gray_flow"), tmp_path)
    assert [(f.clip, f.kind) for f in summary.failures] == [("clip_0", "no-video")]


# ------------------------------------------------------------------------------------ finding clips


def test_duplicates(videos, tmp_path):
    write_wav(videos / "copy" / "clip_0.wav")  # a second sound file of this name is ambiguous
    (videos / "clip_1.mov").write_text("next to a sound file")
    (videos / "._clip_2.wav").write_text("metadata of macOS")
    write_wav(videos / "__MACOSX" / "clip_3.wav")
    summary = extract(IDS, videos, create("logmel"), tmp_path / "out")
    assert [(f.clip, f.kind) for f in summary.failures] == [("clip_0", "ambiguous")]
    assert "copy" in summary.failures[0].message and "part_0" in summary.failures[0].message
    video = extract(["clip_1"], videos, create("gray_flow"), tmp_path / "out")
    assert [(f.clip, f.kind) for f in video.failures] == [("clip_1", "unreadable")], "the video file was read"


def test_no_folder_of_clips(tmp_path):
    with pytest.raises(FileError, match="nowhere"):
        extract(IDS, tmp_path / "nowhere", create("logmel"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --------------------------------------------------------------------------------------- resuming


def test_a_second_run_only_replaces_broken_files(videos, tmp_path):
    first = extract(IDS, videos, create("logmel"), tmp_path / "out")
    expected = features_of(first.folder)
    assert extract(IDS, videos, create("logmel"), tmp_path / "out")[1:] == ([], IDS, [])

    good = np.load(first.folder / "clip_0.npy")
    (first.folder / "clip_0.npy").write_bytes(b"")
    (first.folder / "clip_1.npy").write_bytes(expected["clip_1.npy"][:-4])
    np.save(first.folder / "clip_2.npy", good.astype(np.float64))
    np.save(first.folder / "clip_3.npy", good[:, :79])
    np.save(first.folder / "clip_4.npy", good[:0])
    assert not any(is_done(first.folder, clip, 80) for clip in IDS[:5])
    second = extract(IDS, videos, create("logmel"), tmp_path / "out")
    assert (second.done, second.skipped) == (IDS[:5], ["clip_5"])
    assert features_of(second.folder) == expected


def test_a_clip_that_succeeds_later_is_removed_from_the_failures(videos, tmp_path):
    (videos / "late.wav").touch()
    first = extract(["late", "never"], videos, create("logmel"), tmp_path / "out")
    assert [f.clip for f in read_failures(first.folder)] == ["late", "never"]
    write_wav(videos / "late.wav")
    second = extract(["late", "clip_0"], videos, create("logmel"), tmp_path / "out")
    assert second.failures == [] and second.done == ["clip_0", "late"]
    assert [f.clip for f in read_failures(second.folder)] == ["never"], "not requested, so still recorded"


def test_different_features_never_share_a_folder(videos, tmp_path):
    folder = extract(IDS[:1], videos, create("logmel"), tmp_path).folder
    meta = json.loads((folder / "meta.json").read_text())
    for key, value in (
        ("encoder", "other"),
        ("preset", "published"),
        ("precision", "bf16"),
        ("revision", "0"),
        ("dim", None),
    ):
        (folder / "meta.json").write_text(json.dumps({**meta, key: value}))
        with pytest.raises(ValidationError, match=f"{key} {value!r}.*expected"):
            extract(IDS, videos, create("logmel"), tmp_path)
    (folder / "meta.json").unlink()
    with pytest.raises(ValidationError, match="no meta.json"):
        extract(IDS, videos, create("logmel"), tmp_path)
    assert len(features_of(folder)) == 1


def test_a_change_of_package_versions_is_reported(videos, tmp_path, capsys):
    path = extract(IDS[:1], videos, create("logmel"), tmp_path).folder / "meta.json"
    path.write_text(path.read_text().replace(np.__version__, "1.0.0"))
    extract(IDS, videos, create("logmel"), tmp_path)
    assert "other versions of numpy" in capsys.readouterr().err


def test_leftovers_of_killed_runs_are_removed(videos, tmp_path):
    folder = extract(IDS[:1], videos, create("logmel"), tmp_path / "out").folder
    (folder / ".clip_1.npy.x.tmp").touch()
    extract(IDS[:1], videos, create("logmel"), tmp_path / "out")
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("once", [False, True])
def test_a_file_that_is_removed_while_being_written_is_written_again(tmp_path, monkeypatch, once):
    fsync, removals = os.fsync, []

    def sweep(descriptor):
        fsync(descriptor)
        if len(removals) < 2:  # as if another run had just started
            removals.extend(path.unlink() for path in tmp_path.glob(".*.tmp"))

    monkeypatch.setattr(os, "fsync", sweep)
    store.write(tmp_path / "file", "whole", once=once)
    assert len(removals) == 2 and [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "whole"


# ------------------------------------------------------------------------------- encoders that fail


class Odd(Encoder):
    """Fails on two clips, in different ways."""

    name, modality, dim, unit, rows, revision = "odd", "audio", 1, "clip", "one", "1"

    def _encode(self, clip):
        if clip.id == "clip_1":
            raise RuntimeError("two\nlines")
        if clip.id == "clip_2":
            return np.full((1, 1), np.nan)
        return np.ones((1, 1))


def test_errors_of_an_encoder_are_recorded(videos, tmp_path):
    summary = extract(IDS, videos, Odd(), tmp_path)
    assert [f[:2] for f in summary.failures] == [("clip_1", "encoder-error"), ("clip_2", "not-finite")]
    assert summary.failures[0] == Failure("clip_1", "encoder-error", "RuntimeError: two lines")
    assert len(summary.done) == 4


@pytest.mark.parametrize("workers", [1, 2])
def test_a_write_error_stops_the_run(videos, tmp_path, workers):
    folder = extract(IDS[:1], videos, create("logmel"), tmp_path).folder
    (folder / "clip_3.npy").mkdir()  # nothing can be renamed onto a folder
    with pytest.raises(FileError, match="clip_3.npy"):
        extract(IDS, videos, create("logmel"), tmp_path, workers=workers)
    assert is_done(folder, "clip_0", 80) and not read_failures(folder)


CRASHING = """
import multiprocessing, os, sys
from pathlib import Path
import numpy as np
from blemore_baselines.encoders.base import Encoder
from blemore_baselines.extract import extract

class Crashing(Encoder):
    name, modality, dim, unit, rows, revision = "crashing", "audio", 1, "clip", "one", "1"
    def _load(self):
        if "load" in sys.argv[1]: raise RuntimeError("no such weights")
        if "abort" in sys.argv[1] and multiprocessing.parent_process(): os.abort()
    def _encode(self, clip):
        if clip.id in ("clip_1", "clip_4"): os.kill(os.getpid(), 9)
        return np.ones((1, 1))

if __name__ == "__main__":
    try:
        [done] = extract([f"clip_{n}" for n in range(6)], Path(sys.argv[2]), [Crashing()], Path(sys.argv[3]), workers=2)
        print(done.done, [tuple(f) for f in done.failures])
    except Exception as error:
        print(type(error).__name__, error)
"""


def run_crashing(fault, videos, tmp_path):
    (tmp_path / "crashing.py").write_text(CRASHING)
    command = [sys.executable, str(tmp_path / "crashing.py"), fault, str(videos), str(tmp_path / "out")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def test_a_killed_worker_loses_one_clip(videos, tmp_path):
    out = run_crashing("work", videos, tmp_path)
    assert out.startswith("['clip_0', 'clip_2', 'clip_3', 'clip_5']")
    assert "('clip_1', 'crashed'" in out and "('clip_4', 'crashed'" in out and "-9" in out


@pytest.mark.parametrize(
    "fault, message", [("load", "RuntimeError: no such weights"), ("abort", "died (exit code -6)")]
)
def test_an_encoder_that_cannot_load_stops_the_run(videos, tmp_path, fault, message):
    out = run_crashing(fault, videos, tmp_path)
    assert out.startswith("ValidationError") and message in out
    assert not (tmp_path / "out" / "crashing" / "failures.csv").exists(), "no clip is to blame"


# ------------------------------------------------------------------------------------- the command


def command(*arguments):
    return CliRunner().invoke(cli.main, list(map(str, arguments)))


def test_command(videos, faces, tmp_path):
    (videos / "empty.wav").touch()
    arguments = ["extract", "--clips", videos, "--encoder", "logmel", "--out", tmp_path / "out", "--workers", 1]
    first = command(*arguments)
    assert first.exit_code == 1 and "logmel: 6 clips encoded, 0 there already, 1 failed" in first.stdout
    assert (
        "empty  empty-file  the file is empty" in first.stderr
        and "failures.csv; the same command tries them again" in first.stderr
    )
    assert first.stderr.count("100%") == 1, "without a terminal, the bar is drawn once"
    (videos / "empty.wav").unlink()
    write_wav(videos / "empty.wav")
    assert "1 clips encoded, 6 there already, 0 failed" in command(*arguments).stdout
    two = command(
        "extract",
        "--clips",
        faces / "clips",
        "--encoder",
        "logmel",
        "--encoder",
        "clip",
        "--weights",
        f"clip={faces / 'clip'}",
        "--out",
        tmp_path / "two",
        "--workers",
        1,
        "--shard",
        "1/2",
    )
    assert two.exit_code == 0 and two.stdout.count("2 clips encoded") == 2, two.output


@pytest.mark.parametrize(
    "options, message",
    [
        (["--encoder", "logmel", "--shard", "3/2"], "expected I/N with I from 1 to N"),
        (["--encoder", "logmel", "--scheduler", "tcp://x"], "requires --engine dask"),
        (["--encoder", "logmel", "--weights", "x"], "--weights: logmel takes none"),
        (["--encoder", "logmel", "--layers", "6-12"], "--layers: logmel takes none"),
        (["--encoder", "clip", "--encoder", "imagebind", "--weights", "x"], "for which encoder? Expected NAME=PATH"),
        (["--encoder", "logmel", "--preset", "published"], "has no preset 'published'; expected one of reference"),
        (["--encoder", "logmel", "--device", "cuda:0,cuda:0"], "expected auto, cpu, cuda, or one or more GPUs"),
        (["--encoder", "nothing"], "no encoder has this name; expected one of"),
        (
            ["--encoder", "clip", "--weights", "/no/such/folder"],
            "'/no/such/folder' of encoder 'clip': there is no such file",
        ),
    ],
)
def test_the_command_reports_mistakes(videos, tmp_path, options, message):
    result = command("extract", "--clips", videos, "--out", tmp_path / "out", *options)
    assert result.exit_code in (1, 2, 3) and message in result.stderr.replace("\n│ ", " "), result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("encoders", [["logmel"], ["logmel", "gray_flow"]])
def test_the_command_reports_that_no_clip_was_found(videos, tmp_path, encoders):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    (tmp_path / "test.csv").write_text("filename\ntest_0001\ntest_0002\n")
    options = [part for name in encoders for part in ("--encoder", name)] + ["--out", tmp_path / "out"]
    for clips, ids, message in (
        (tmp_path / "empty", [], "neither it nor its subfolders hold a file that ends in .mov, "),
        (tmp_path / "empty", ["--metadata", tmp_path / "test.csv"], "neither it nor its subfolders hold a file"),
        (
            videos,
            ["--metadata", tmp_path / "test.csv"],
            "holds none of the 2 requested clips (test_0001, test_0002); found 6 others (clip_0, ",
        ),
    ):
        result = command("extract", "--clips", clips, *ids, *options)
        assert result.exit_code == 1 and result.stdout == "" and result.stderr.count(message) == 1, result.output
    assert "of the other partition" in result.stderr and not (tmp_path / "out").exists()


def test_a_shard_may_hold_only_missing_clips(videos, tmp_path):
    summary = extract([*IDS, "clip_9"], videos, create("logmel"), tmp_path, shard=(7, 7))
    assert [failure.clip for failure in summary.failures] == ["clip_9"] and not summary.done


def test_encoders_are_listed():
    lines = command("encoders").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["encoder", *ENCODERS, *(f"{name}:ID" for name in FAMILIES)]
    assert {line.split()[0]: line.split()[1:3] for line in lines}["hubert"] == ["audio", "1024"]
