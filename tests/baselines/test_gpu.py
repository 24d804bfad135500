"""Extraction for GPUs, run on the CPU: the same features as clip by clip, under the same faults."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from nets import Net, Picky, Small, Sound, Windows

from blemore.errors import FileError, ValidationError
from blemore_baselines.demo.generator import _make_clip, plan
from blemore_baselines.encoders import create
from blemore_baselines.extract import extract
from blemore_baselines.extraction import gpu
from blemore_baselines.extraction.gpu import Entry, Lane, Rows
from blemore_baselines.extraction.store import is_done, read_failures


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Seven clips of the demo, about 40 frames each."""
    folder = tmp_path_factory.mktemp("clips")
    for number, take in enumerate(plan()[0][:7]):
        _make_clip(folder / f"clip_{number}.mov", take)
    return folder


def net(kind=Net, device="cpu"):
    return kind(device=device)


def features(folder):
    return {path.stem: np.load(path) for path in sorted(folder.glob("*.npy"))}


def assert_alike(folder, expected):
    rows, references = features(folder), features(expected)
    assert rows.keys() == references.keys() and rows
    for clip in rows:
        assert rows[clip].shape == references[clip].shape and np.allclose(
            rows[clip], references[clip], rtol=1e-5, atol=1e-6
        )


def test_rows_equal_those_of_each_clip_alone(clips, tmp_path):
    """An encoder of frames, one of windows and one without a model share the decoding; a second run completes them."""

    def encoders():
        return [net(), create("gray_flow"), net(Windows)]

    expected = extract(None, clips, encoders(), tmp_path / "cpu")
    for workers in (1, 3):
        summaries = extract(None, clips, encoders(), tmp_path / str(workers), workers=workers, engine="gpu")
        for summary, reference in zip(summaries, expected):
            assert (len(summary.done), summary.failures) == (7, [])
            assert_alike(summary.folder, reference.folder)
            for path in list(summary.folder.glob("clip_[24].npy")):
                path.unlink()
        summaries = extract(None, clips, encoders(), tmp_path / str(workers), workers=workers, engine="gpu")
        assert [summary.done for summary in summaries] == [["clip_2", "clip_4"]] * 3
        assert_alike(summaries[2].folder, expected[2].folder)


def test_clips_share_batches_of_one_size(clips, tmp_path, monkeypatch):
    sizes, forward = [], Net.forward
    monkeypatch.setattr(Net, "forward", lambda self, batch: sizes.append(len(batch)) or forward(self, batch))
    [summary] = extract(None, clips, [net()], tmp_path, workers=2, engine="gpu")
    rows = sum(map(len, features(summary.folder).values()))
    assert sizes == [16] * -(-rows // 16)


def test_a_clip_is_decoded_once(clips, tmp_path, monkeypatch):
    outcomes, run = [], gpu.run
    monkeypatch.setattr(
        gpu, "run", lambda *arguments: (outcomes.append(outcome) or outcome for outcome in run(*arguments))
    )
    [summary, _] = extract(None, clips, [net(), net(Windows)], tmp_path, engine="gpu")
    assert {outcome.clip: outcome.frames for outcome in outcomes} == {
        k: len(v) for k, v in features(summary.folder).items()
    }


def write_sounds(folder, lengths):
    folder.mkdir()
    for number, length in enumerate(lengths):
        samples = np.random.default_rng(number).uniform(-0.5, 0.5, length)
        soundfile.write(folder / f"sound_{number:02}.wav", samples, 16_000, subtype="FLOAT")
    return folder


def test_sounds_of_any_length(tmp_path):
    """20 lengths, from one row to more than one slot of shared memory."""
    lengths = [100, 2_300_000, *np.random.default_rng(0).integers(200, 60_000, 18).tolist()]
    sounds = write_sounds(tmp_path / "sounds", lengths)
    [expected] = extract(None, sounds, [net(Sound)], tmp_path / "cpu")
    [summary] = extract(None, sounds, [net(Sound)], tmp_path / "gpu", workers=2, engine="gpu")
    assert_alike(summary.folder, expected.folder)
    assert sorted(map(len, features(summary.folder).values())) == sorted(length // 100 for length in lengths)


def test_batches_hold_sounds_of_similar_length():
    lane = Lane(0, net(Sound), 2)
    entries = [Entry(Rows("clip"), 0, torch.empty(length)) for length in (5, 9, 3, 16, 17, 4, 2)]
    batches = [batch for entry in entries for batch in lane.add([entry])] + list(lane.flush())
    assert [[len(entry.item) for entry in batch] for batch in batches] == [[2, 3], [4, 5], [9, 16], [17]]
    long = [Entry(Rows("clip"), 0, torch.empty(900_000)) for _ in range(5)]
    assert [len(list(lane.add([entry]))) for entry in long] == [0, 0, 2, 0, 0], (
        "long sounds are sorted in smaller groups"
    )


def test_few_shapes_are_collected_at_a_time():
    lane = Lane(0, net(), 2)
    entries = [Entry(Rows("clip"), 0, torch.empty(width)) for width in range(1, 11)]
    batches = [[len(entry.item) for entry in batch] for entry in entries for batch in lane.add([entry])]
    assert batches == [[1], [2]]
    assert [entry.item.shape for batch in lane.add(entries[9:]) for entry in batch] == [(10,), (10,)]


def black_and_white(path, value):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width = stream.height = 16
        stream.pix_fmt = "bgr0"
        for _ in range(9):
            frame = np.full((16, 16, 3), value, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def test_a_failure_affects_one_clip(clips, tmp_path):
    """In the decoder (at once or after some frames), by killing the process, in the model, or in their rows."""
    folder = shutil.copytree(clips, tmp_path / "clips")
    (folder / "empty.mov").touch()
    content = bytearray((folder / "clip_0.mov").read_bytes())
    place = content.find(b"mdat") + 40
    content[place + 8000 : place + 9000] = bytes(1000)
    (folder / "damaged.mov").write_bytes(content)
    for number in (1, 2):
        shutil.copy(folder / "clip_1.mov", folder / f"deadly_{number}.mov")
    black_and_white(folder / "black.mkv", 0)
    black_and_white(folder / "white.mkv", 255)
    ids = [path.stem for path in folder.iterdir()] + ["absent"]
    [summary, second] = extract(ids, folder, [net(Picky), create("gray_flow")], tmp_path, workers=2, engine="gpu")
    kinds = {failure.clip: failure.kind for failure in summary.failures}
    assert kinds == {
        "absent": "missing-file",
        "empty": "empty-file",
        "damaged": "unreadable",
        "deadly_1": "crashed",
        "deadly_2": "crashed",
        "black": "encoder-error",
        "white": "not-finite",
    }
    assert {failure.clip for failure in second.failures} == kinds.keys() - {"black", "white"}
    messages = {failure.clip: failure.message for failure in summary.failures}
    assert messages["black"] == "RuntimeError: too dark" and "exit code -9" in messages["deadly_1"]
    assert summary.failures == read_failures(summary.folder)
    assert summary.done == sorted(path.stem for path in clips.iterdir())
    [expected] = extract(None, clips, [net(Picky)], tmp_path / "cpu")
    assert_alike(summary.folder, expected.folder)


def test_too_little_memory_halves_the_batch_size_for_good(clips, tmp_path, capsys):
    ids = [f"clip_{number}" for number in range(5)]
    [summary] = extract(ids[:3], clips, [net(Small)], tmp_path, engine="gpu")
    error = capsys.readouterr().err
    assert "small: the GPU ran out of memory; batches now have 4 items" in error
    assert json.loads((summary.folder / "meta.json").read_text())["batch_size"] == 4
    [summary] = extract(ids, clips, [net(Small)], tmp_path, engine="gpu")
    assert summary.skipped == ids[:3] and summary.done == ids[3:] and "memory" not in capsys.readouterr().err
    [expected] = extract(ids, clips, [net(Net)], tmp_path / "cpu")
    assert_alike(summary.folder, expected.folder)


def test_too_little_memory_for_one_item(clips, tmp_path, monkeypatch):
    def forward(self, batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Net, "forward", forward)
    [summary] = extract(["clip_0", "clip_1"], clips, [net()], tmp_path, engine="gpu")
    assert [failure[:2] for failure in summary.failures] == [("clip_0", "encoder-error"), ("clip_1", "encoder-error")]


# ------------------------------------------------------------------------------------- several GPUs


def test_several_devices_share_the_clips(clips, tmp_path, monkeypatch, long):
    names = []
    if not long:  # in this process, one after the other

        def in_turn(iterations):
            for name, iteration in iterations:
                names.append(name)
                yield from iteration()

        monkeypatch.setattr(gpu.processes, "side_by_side", in_turn)
    encoders = [net(device="cpu,cpu"), net(Windows, "cpu,cpu")]
    summaries = extract(None, clips, encoders, tmp_path, workers=2, engine="gpu")
    assert long or names == ["cpu", "cpu"]
    expected = extract(None, clips, [net(), net(Windows)], tmp_path / "cpu")
    for summary, reference in zip(summaries, expected):
        assert len(summary.done) == 7
        assert_alike(summary.folder, reference.folder)


def test_missing_devices_are_refused(clips, tmp_path, monkeypatch):
    for count, device, message in (
        (0, "cuda", "device cuda: PyTorch finds no GPU; expected cpu"),
        (2, "cuda:0,cuda:2", "device cuda:2: PyTorch finds only cuda:0, cuda:1"),
    ):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        with pytest.raises(ValidationError, match=message):
            extract(None, clips, [net(device=device)], tmp_path)
    assert not list(tmp_path.iterdir())


# ----------------------------------------------------------------------------------- kills and disks

SCRIPT = """
import sys
from pathlib import Path
from nets import Net
from blemore_baselines.extract import extract

if __name__ == "__main__":
    extract(None, Path(sys.argv[1]), [Net(device=sys.argv[3])], Path(sys.argv[2]), workers=2, engine="gpu")
"""


@pytest.fixture
def start(tmp_path, clips):
    (tmp_path / "script.py").write_text(SCRIPT)
    runs = []

    def begin(folder, out, device="cpu"):
        runs.append(
            subprocess.Popen(
                [sys.executable, tmp_path / "script.py", folder, out, device],
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
                start_new_session=True,
            )
        )
        return runs[-1]

    yield begin
    for run in runs:
        run.kill()


@pytest.fixture
def many(clips, tmp_path):
    """40 clips: copies of the seven, under different names."""
    (tmp_path / "many").mkdir()
    for number in range(40):
        shutil.copy(clips / f"clip_{number % 7}.mov", tmp_path / "many" / f"clip_{number:02}.mov")
    return tmp_path / "many"


def wait_for(run, out, number):
    while len(list(out.rglob("*.npy"))) < number and run.poll() is None:
        time.sleep(0.001)
    assert run.poll() is None, run.communicate()[1]


def processes_of(group):
    """The processes that still run in a run's session."""
    return subprocess.run(["pgrep", "-g", str(group)], capture_output=True, text=True).stdout.split()


def wait_until_gone(run):
    deadline = time.monotonic() + 60
    while processes_of(run.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not processes_of(run.pid)


def end(run, ending):
    """Kill a run, interrupt it as Ctrl-C does, or kill one of its processes, which loses the clip in its hands."""
    if ending == "process":
        children = subprocess.run(["pgrep", "-g", str(run.pid), "-f", "forkserver"], capture_output=True, text=True)
        os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
    elif ending == "interrupt":
        os.killpg(run.pid, signal.SIGINT)
    else:
        run.kill()
    error = run.communicate(timeout=120)[1]
    assert run.returncode == {"kill": -signal.SIGKILL, "interrupt": -signal.SIGINT, "process": 0}[ending], error
    assert error.count("Traceback") == (ending == "interrupt"), "only one process received it"


@pytest.mark.parametrize("device", ["cpu", "cpu,cpu"])
def test_resumes_after_a_stop_at_any_moment(many, start, tmp_path, device, long):
    if device != "cpu" and not long:
        pytest.skip("one process per device: with --long")
    out, endings = tmp_path / "out", ["kill", "interrupt", "process"] if long else ["interrupt"]
    for number, ending in enumerate(endings, start=1):
        run = start(many, out, device)
        wait_for(run, out, 5 * number)
        end(run, ending)
        wait_until_gone(run)
    [summary] = extract(None, many, [net()], out, workers=2, engine="gpu")
    assert len(summary.done) + len(summary.skipped) == 40 and len(summary.skipped) >= 5
    names = {path.name for path in summary.folder.iterdir()} - {"failures.csv"}
    assert names == {f"clip_{number:02}.npy" for number in range(40)} | {"meta.json"}
    [expected] = extract(None, many, [net()], tmp_path / "cpu")
    assert_alike(summary.folder, expected.folder)


def test_a_write_error_stops_the_run(clips, tmp_path):
    [summary] = extract(["clip_0"], clips, [net()], tmp_path, engine="gpu")
    (summary.folder / "clip_3.npy").mkdir()  # nothing can be renamed onto a folder
    with pytest.raises(FileError, match="clip_3.npy"):
        extract(None, clips, [net()], tmp_path, workers=2, engine="gpu")
    assert is_done(summary.folder, "clip_0", 3) and not read_failures(summary.folder)
    assert not list(summary.folder.glob(".*"))


def test_a_full_disk(many, start, tmp_path, disk, long):
    if not long:
        pytest.skip("starts a process: with --long")
    out = disk("size=40k")
    run = start(many, out)
    error = run.communicate(timeout=120)[1]
    assert run.returncode == 1 and "No space left on device" in error, error
    [expected] = extract(None, many, [net()], tmp_path / "cpu")
    parts, whole = features(out / "net"), features(expected.folder)
    assert parts and all(np.allclose(parts[clip], whole[clip], rtol=1e-5, atol=1e-6) for clip in parts)
    assert not list((out / "net").glob(".*"))
