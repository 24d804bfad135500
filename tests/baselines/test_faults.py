"""Extraction under kills, full disks, lost workers and concurrent runs: nothing is lost, and bytes never change."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from blemore.errors import FileError
from blemore_baselines.clips.find import find_clips
from blemore_baselines.demo.generator import _make_clip, plan
from blemore_baselines.encoders import create
from blemore_baselines.extract import extract
from blemore_baselines.extraction.store import read_failures

MAIN = "from blemore_baselines.cli import main; main()"
ENCODERS = ("gray_flow", "logmel")


@pytest.fixture(scope="module")
def clips(tmp_path_factory, pytestconfig):
    """60 clips of the demo; without --long, copies of three clips under different names."""
    folder = tmp_path_factory.mktemp("clips")
    different = 60 if pytestconfig.getoption("--long") else 3
    for number in range(60):
        path = folder / f"clip_{number:02}.mov"
        if number < different:
            _make_clip(path, plan()[0][number])
        else:
            shutil.copy(folder / f"clip_{number % different:02}.mov", path)
    return folder


def command(clips, out, *options, encoders=ENCODERS):
    arguments = [part for name in encoders for part in ("--encoder", name)]
    return [sys.executable, "-c", MAIN, "extract", "--clips", str(clips), "--out", str(out), *arguments, *options]


def start(*arguments, **options):
    return subprocess.Popen(
        command(*arguments, **options),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def everything(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def undisturbed(clips, tmp_path, encoders=ENCODERS):
    """The files of a run without faults."""
    extract(None, clips, [create(name) for name in encoders], tmp_path / "undisturbed")
    files = everything(tmp_path / "undisturbed")
    assert sum(name.endswith(".npy") for name in files) == len(encoders) * len(find_clips(clips))
    return files


# ---------------------------------------------------------------------------------------------- kills


def test_resumes_after_a_kill_at_any_moment(clips, tmp_path, long):
    encoders = ENCODERS if long else ENCODERS[1:]
    expected, out, rng = undisturbed(clips, tmp_path, encoders), tmp_path / "out", random.Random(1)
    kills, workers = (20, "2") if long else (1, "1")
    for number in range(kills):
        run = start(clips, out, "--workers", workers, encoders=encoders)
        # At a random point of the next part of the work, measured in files: a busy machine is slow.
        goal = len(list(out.rglob("*.npy"))) + rng.randrange(1, len(encoders) * 60 // kills)
        while len(list(out.rglob("*.npy"))) < goal and run.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        # Every other time, kill only the parent: its workers must notice and end by themselves.
        os.killpg(run.pid, signal.SIGKILL) if number % 2 else run.kill()
        run.communicate()
    last_run = start(clips, out, "--workers", workers, encoders=encoders)
    error = last_run.communicate(timeout=300)[1]
    assert last_run.returncode == 0, error
    assert everything(out) == expected, "exactly the same files, with the same bytes"


# ---------------------------------------------------------------------------------------------- disks


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_full_disk(clips, tmp_path, disk, workers, long):
    if workers == "2" and not long:
        pytest.skip("several processes: with --long")
    out = disk("size=300k")
    run = start(clips, out, "--workers", workers, encoders=["logmel"])
    error = run.communicate(timeout=120)[1].replace("\r", "\n").splitlines()
    messages = [line for line in error if line and "clip/s" not in line and "clip," not in line]
    assert run.returncode == 3 and len(messages) <= 2 and "No space left on device" in "".join(messages), error
    files = everything(out)
    assert any(name.endswith(".npy") for name in files) and not any(name.endswith(".tmp") for name in files)
    expected = undisturbed(clips, tmp_path, ["logmel"])
    assert files == {name: expected[name] for name in files}, "files that were written are complete"

    extract(None, clips, [create("logmel")], disk("size=99m"), workers=2)
    assert everything(out) == expected


def test_a_read_only_disk(clips, tmp_path, disk):
    out = disk("size=99m")
    ids = [f"clip_{number:02}" for number in range(5)]
    extract(ids[:3], clips, [create("logmel")], out)
    before = everything(out)
    disk("ro")
    with pytest.raises(FileError, match="Read-only file system") as caught:
        extract(ids, clips, [create("logmel")], out)
    assert len(caught.value.problems) == 1 and "clip_03.npy" in str(caught.value)
    with pytest.raises(FileError, match="failures.csv: cannot be written: Read-only"):
        extract([ids[0], "no such clip"], clips, [create("logmel")], out)
    with pytest.raises(FileError, match="meta.json.*: cannot be written: Read-only"):
        extract(ids, clips, [create("gray_flow")], out)
    assert [len(part) for part in extract(ids[:3], clips, [create("logmel")], out)[0][1:]] == [0, 3, 0], (
        "nothing is left to write"
    )
    disk("rw")
    assert everything(out) == before
    assert extract(ids, clips, [create("logmel")], out)[0].done == ids[3:]


# ------------------------------------------------------------------------------------ concurrent runs


def test_concurrent_runs(clips, tmp_path, long):
    encoders = ENCODERS if long else ENCODERS[1:]
    folder, out = shutil.copytree(clips, tmp_path / "clips"), tmp_path / "out"
    shards = ((), ("--shard", "1/2"), ("--shard", "2/2"))
    for number in range(0, 60, 9):
        (folder / f"clip_{number:02}.mov").write_bytes(b"")  # all runs record failures, too
    runs = [start(folder, out, "--workers", "1", *shard, encoders=encoders) for shard in shards]
    for run in runs:
        error = run.communicate(timeout=300)[1]
        assert run.returncode == 1 and "empty-file" in error, error
    extract(None, folder, [create(name) for name in encoders], tmp_path / "alone", workers=2)
    assert everything(out) == everything(tmp_path / "alone")
    assert len(read_failures(out / "logmel")) == 7


def test_runs_that_start_together_with_different_presets_never_mix(tmp_path):
    """Both see no meta.json; only one can write it."""
    from blemore_baselines.extraction import store as module

    encoder, rival = create("logmel"), create("logmel")
    rival.preset = "other"
    link = os.link
    try:
        os.link = lambda *paths: (
            module.write(tmp_path / "meta.json", module.to_json(module.describe(rival))),
            link(*paths),
        )
        with pytest.raises(ValueError, match="preset 'other'"):
            module.Store(tmp_path).claim(encoder)
    finally:
        os.link = link
    assert [path.name for path in tmp_path.iterdir()] == ["meta.json"]


def test_shards_cover_all_clips(clips, tmp_path):
    shards = [extract(None, clips, [create("logmel")], tmp_path, shard=(number, 7))[0].done for number in range(1, 8)]
    assert sorted(sum(shards, [])) == sorted(find_clips(clips)) and {len(part) for part in shards} <= {8, 9}


# ------------------------------------------------------------------------------------------- clusters

SLOW = """
import sys, time
from pathlib import Path
from blemore_baselines.encoders.logmel import LogMel
from blemore_baselines.extract import extract

class Slow(LogMel):
    def _encode(self, clip):
        time.sleep(0.05)
        return super()._encode(clip)

if __name__ == "__main__":
    [done] = extract(None, Path(sys.argv[1]), [Slow()], Path(sys.argv[2]), engine="dask", workers=2)
    print(len(done.done), len(done.failures))
"""


def test_a_lost_worker_loses_nothing(clips, tmp_path, long):
    psutil = pytest.importorskip("psutil", reason="comes with distributed")
    if not long:
        pytest.skip("workers restart: with --long")

    (tmp_path / "slow.py").write_text(SLOW)
    out = tmp_path / "out"
    run = subprocess.Popen(
        [sys.executable, tmp_path / "slow.py", clips, out], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    for goal in (2, 20, 40):
        while len(list(out.rglob("*.npy"))) < goal and run.poll() is None:
            time.sleep(0.005)
        assert run.poll() is None
        workers = [
            child
            for child in psutil.Process(run.pid).children(recursive=True)
            if "spawn_main" in " ".join(child.cmdline())
        ]
        workers[-1].kill()
    assert run.communicate(timeout=120)[0] == "60 0\n"
    # Name and revision are those of the class; everything else is as in a run without losses.
    files = {name.replace("slow/", "logmel/"): content for name, content in everything(out).items()}
    meta, expected = json.loads(files.pop("logmel/meta.json")), undisturbed(clips, tmp_path, ["logmel"])
    differences = {"encoder": "slow", "revision": meta["revision"]}
    assert meta == {**json.loads(expected.pop("logmel/meta.json")), **differences} and meta["revision"].startswith("1-")
    assert files == expected
