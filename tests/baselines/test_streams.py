"""Streams that several readers share, and clips that are decoded once."""

import threading
import time

import numpy as np
import pytest

from blemore_baselines.clips.media import Clip
from blemore_baselines.clips.streams import StreamedClip, WatchedClip, share
from blemore_baselines.demo.generator import _make_clip, plan
from blemore_baselines.encoders import create
from blemore_baselines.extract import extract


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mov"
    _make_clip(path, plan()[0][0])
    return path


def test_each_reader_gets_all_items_and_none_gets_far_ahead():
    items = []
    readers = share((items.append(number) or number for number in range(100)), readers=2, ahead=5)
    assert [next(readers[0]) for _ in range(5)] == [0, 1, 2, 3, 4]
    time.sleep(0.05)
    assert len(items) <= 6, "the slower reader has taken none: five wait for it, and one is in hand"
    rest: list = []
    thread = threading.Thread(target=lambda: rest.extend(readers[0]))
    thread.start()
    assert list(readers[1]) == list(range(100)) and list(readers[1]) == []
    thread.join()
    assert rest == list(range(5, 100))


def test_the_sources_error_comes_after_its_items():
    def source():
        yield 1
        raise KeyError("two")

    for reader in share(source(), readers=2):
        assert next(reader) == 1
        with pytest.raises(KeyError, match="two"):
            next(reader)
        assert list(reader) == []


def test_a_closed_reader_does_not_block_the_others():
    quitter, reader, unused = share(range(1000), readers=3, ahead=2)
    assert next(quitter) == 0
    quitter.close()
    unused.close()
    assert list(quitter) == [] and list(reader) == list(range(1000))


def test_closing_all_readers_ends_the_source():
    items = []
    for reader in share((items.append(number) or number for number in range(10**9)), readers=2, ahead=2):
        reader.close()
    before = threading.active_count()
    time.sleep(0.1)
    assert len(items) < 10**6 and threading.active_count() <= before


def test_a_streamed_clip_reads_the_file_only_the_second_time(clip):
    [reader] = share(WatchedClip(clip).timed_frames())
    streamed, expected = StreamedClip(clip, reader), list(Clip(clip).frames())
    for _ in range(2):
        assert all(map(np.array_equal, streamed.frames(), expected))
    assert streamed.fps == Clip(clip).fps and streamed.id == "clip" and len(streamed.audio()) == len(Clip(clip).audio())


def test_encoders_share_one_decoding(clip, tmp_path, monkeypatch):
    frame_reads, sound_reads = [], []
    timed_frames, audio = Clip.timed_frames, Clip.audio
    monkeypatch.setattr(Clip, "timed_frames", lambda self: frame_reads.append(self.id) or timed_frames(self))
    monkeypatch.setattr(Clip, "audio", lambda self: sound_reads.append(self.id) or audio(self))

    def run(out, *names):
        encoders = [create(name) for name in names]
        for number, encoder in enumerate(encoders):
            encoder.name += str(number)
        summaries = extract(None, clip.parent, encoders, tmp_path / out)
        return [(summary.folder.name, (summary.folder / "clip.npy").read_bytes()) for summary in summaries]

    both = run("both", "logmel", "gray_flow", "logmel", "gray_flow")
    assert (frame_reads, sound_reads) == (["clip"], ["clip"])
    assert [name for name, _ in both] == ["logmel0", "gray_flow1", "logmel2", "gray_flow3"]
    assert both[0][1] == both[2][1] == run("one", "logmel")[0][1]
    assert both[1][1] == both[3][1] == run("one", "gray_flow")[0][1]
