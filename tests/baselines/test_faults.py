"""Extraction under kills, full disks, lost workers and company: nothing is lost, and the bytes are always the same."""

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
    """60 clips of the demo; without --long few that differ, under many names."""
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
    chosen = [part for name in encoders for part in ("--encoder", name)]
    return [sys.executable, "-c", MAIN, "extract", "--clips", str(clips), "--out", str(out), *chosen, *options]


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
    """What a run leaves that nothing happens to."""
    extract(None, clips, [create(name) for name in encoders], tmp_path / "undisturbed")
    found = everything(tmp_path / "undisturbed")
    assert sum(name.endswith(".npy") for name in found) == len(encoders) * len(find_clips(clips))
    return found


# ---------------------------------------------------------------------------------------------- kills


def test_killed_at_any_moment_and_started_again(clips, tmp_path, long):
    encoders = ENCODERS if long else ENCODERS[1:]
    expected, out, rng = undisturbed(clips, tmp_path, encoders), tmp_path / "out", random.Random(1)
    kills, workers = (20, "2") if long else (1, "1")
    for number in range(kills):
        run = start(clips, out, "--workers", workers, encoders=encoders)
        # Somewhere in the next part of the work, by its own clock and not by that of a busy machine.
        enough = len(list(out.rglob("*.npy"))) + rng.randrange(1, len(encoders) * 60 // kills)
        while len(list(out.rglob("*.npy"))) < enough and run.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        # Every other time only the parent: its workers notice, and end by themselves.
        os.killpg(run.pid, signal.SIGKILL) if number % 2 else run.kill()
        run.communicate()
    again = start(clips, out, "--workers", workers, encoders=encoders)
    error = again.communicate(timeout=300)[1]
    assert again.returncode == 0, error
    assert everything(out) == expected, "all files are there, with the same bytes, and no others"


# ---------------------------------------------------------------------------------------------- disks


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_full_disk(clips, tmp_path, disk, workers, long):
    if workers == "2" and not long:
        pytest.skip("several processes: with --long")
    out = disk("size=300k")
    run = start(clips, out, "--workers", workers, encoders=["logmel"])
    error = run.communicate(timeout=120)[1].replace("\r", "\n").splitlines()
    told = [line for line in error if line and "clip/s" not in line and "clip," not in line]
    assert run.returncode == 3 and len(told) <= 2 and "No space left on device" in "".join(told), error
    found = everything(out)
    assert any(name.endswith(".npy") for name in found) and not any(name.endswith(".tmp") for name in found)
    expected = undisturbed(clips, tmp_path, ["logmel"])
    assert found == {name: expected[name] for name in found}, "what was written is whole"

    extract(None, clips, [create("logmel")], disk("size=99m"), workers=2)
    assert everything(out) == expected


def test_a_read_only_disk(clips, tmp_path, disk):
    out = disk("size=99m")
    ids = [f"clip_{number:02}" for number in range(5)]
    extract(ids[:3], clips, [create("logmel")], out)
    before = everything(out)
    disk("ro")
    with pytest.raises(FileError, match="Read-only file system") as raised:
        extract(ids, clips, [create("logmel")], out)
    assert len(raised.value.problems) == 1 and "clip_03.npy" in str(raised.value)
    with pytest.raises(FileError, match="failures.csv: cannot be written: Read-only"):
        extract([ids[0], "no such clip"], clips, [create("logmel")], out)
    with pytest.raises(FileError, match="meta.json.*: cannot be written: Read-only"):
        extract(ids, clips, [create("gray_flow")], out)
    assert [len(part) for part in extract(ids[:3], clips, [create("logmel")], out)[0][1:]] == [0, 3, 0], (
        "nothing to be written"
    )
    disk("rw")
    assert everything(out) == before
    assert extract(ids, clips, [create("logmel")], out)[0].done == ids[3:]


# -------------------------------------------------------------------------------------------- company


def test_runs_side_by_side(clips, tmp_path, long):
    encoders = ENCODERS if long else ENCODERS[1:]
    folder, out = shutil.copytree(clips, tmp_path / "clips"), tmp_path / "out"
    shards = ((), ("--shard", "1/2"), ("--shard", "2/2"))
    for number in range(0, 60, 9):
        (folder / f"clip_{number:02}.mov").write_bytes(b"")  # failures, too, come from all sides
    runs = [start(folder, out, "--workers", "1", *shard, encoders=encoders) for shard in shards]
    for run in runs:
        error = run.communicate(timeout=300)[1]
        assert run.returncode == 1 and "empty-file" in error, error
    extract(None, folder, [create(name) for name in encoders], tmp_path / "alone", workers=2)
    assert everything(out) == everything(tmp_path / "alone")
    assert len(read_failures(out / "logmel")) == 7


def test_runs_that_begin_at_once_with_different_presets_never_mix(tmp_path):
    """Both find no meta.json; only one can have written it."""
    from blemore_baselines.extraction import store as module

    encoder, other = create("logmel"), create("logmel")
    other.preset = "other"
    link = os.link
    try:
        os.link = lambda *paths: (
            module.write(tmp_path / "meta.json", module.to_json(module.describe(other))),
            link(*paths),
        )
        with pytest.raises(ValueError, match="preset 'other'"):
            module.Store(tmp_path).claim(encoder)
    finally:
        os.link = link
    assert [path.name for path in tmp_path.iterdir()] == ["meta.json"]


def test_shards_are_all_of_the_clips(clips, tmp_path):
    done = [extract(None, clips, [create("logmel")], tmp_path, shard=(number, 7))[0].done for number in range(1, 8)]
    assert sorted(sum(done, [])) == sorted(find_clips(clips)) and {len(part) for part in done} <= {8, 9}


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
        pytest.skip("workers start again: with --long")

    (tmp_path / "slow.py").write_text(SLOW)
    out = tmp_path / "out"
    run = subprocess.Popen(
        [sys.executable, tmp_path / "slow.py", clips, out], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    for enough in (2, 20, 40):
        while len(list(out.rglob("*.npy"))) < enough and run.poll() is None:
            time.sleep(0.005)
        assert run.poll() is None
        workers = [
            child
            for child in psutil.Process(run.pid).children(recursive=True)
            if "spawn_main" in " ".join(child.cmdline())
        ]
        workers[-1].kill()
    assert run.communicate(timeout=120)[0] == "60 0\n"
    # A class of one's own has a name and a revision of its own; all else is as without the losses.
    files = {name.replace("slow/", "logmel/"): content for name, content in everything(out).items()}
    meta, expected = json.loads(files.pop("logmel/meta.json")), undisturbed(clips, tmp_path, ["logmel"])
    own = {"encoder": "slow", "revision": meta["revision"]}
    assert meta == {**json.loads(expected.pop("logmel/meta.json")), **own} and meta["revision"].startswith("1-")
    assert files == expected
