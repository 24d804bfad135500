"""Clips as real devices make them: several tracks, mirrored and damaged frames, truncated files, odd names."""

import os
import subprocess
import sys
import unicodedata
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from blemore_baselines import extract as extraction
from blemore_baselines.clips import media
from blemore_baselines.clips.media import Clip, MediaError
from blemore_baselines.clips.whole import shortfall
from blemore_baselines.encoders import create
from blemore_baselines.encoders.hicmae import HiCMAE, fbank
from blemore_baselines.features import read_features

WIDTH, HEIGHT = 64, 48


def picture(number: int, width: int = WIDTH) -> np.ndarray:
    """Red rises from left to right, green from top to bottom; blue encodes the number."""
    frame = np.zeros((HEIGHT, width, 3), np.uint8)
    frame[..., 0] = np.linspace(20, 230, width)[None]
    frame[..., 1] = np.linspace(20, 230, HEIGHT)[:, None]
    frame[..., 2] = 4 * (number % 40)
    return frame


def tone(seconds: float, rate: int, hertz: float = 440) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def write(
    path, form, video="libx264", sounds=("aac",), frames=50, later=(0.0, 0.0), prepare=lambda stream: None, **options
):
    """A real file: `frames` at 25 per second, and a tone of two seconds per sound, each 440 Hz higher than the last.

    later: the start times of video and sounds, in seconds
    """
    rate = 48_000
    with av.open(str(path), "w", format=form, **options) as container:
        packets = []
        streams = [container.add_stream(video, rate=25)] if video else []
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            prepare(stream)
        streams += [container.add_stream(codec, rate=rate, layout="mono") for codec in sounds]
        for number, stream in enumerate(streams):
            is_video = stream.type == "video"
            contents = pictures(frames) if is_video else [sound(stream, tone(2, rate, 440 * (number + (not video))))]
            delay = later[0 if is_video else 1]
            for packet in [packet for content in (*contents, None) for packet in stream.encode(content)]:
                packet.pts += round(delay / packet.time_base)
                packet.dts += round(delay / packet.time_base)
                packets.append(packet)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def pictures(frames):
    for number in range(frames):
        frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, 25)
        yield frame


def sound(stream, samples):
    form = stream.codec_context.format.name
    scale, dtype = {"s16": (2**15 - 1, "i2"), "s32": (2**31 - 1, "i4"), "flt": (1, "f4")}[form[:3]]
    samples = np.ascontiguousarray((samples[None] * scale).astype(dtype))
    frame = av.AudioFrame.from_ndarray(samples, format=form, layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = stream.rate, 0, Fraction(1, stream.rate)
    return frame


def pitch(samples: np.ndarray) -> float:
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return float(np.argmax(np.abs(np.fft.rfft(middle * np.hanning(len(middle))))) * 16_000 / len(middle))


def kind_of(read) -> str:
    with pytest.raises(MediaError) as caught:
        read()
    return caught.value.kind


# ------------------------------------------------------------------------------------- tracks


def hide_decoder(path, track: int):
    """Give a sound track of an .mp4 a codec that no decoder knows: `apac`, Apple's spatial audio."""
    content = bytearray(path.read_bytes())
    for name, code in ((b"mp4a", b"apac"), (b"esds", b"dapa")):
        place = [at for at in range(len(content)) if content[at : at + 4] == name][track]
        content[place : place + 4] = code
    path.write_bytes(content)
    return Clip(path)


@pytest.mark.parametrize("track, hertz", [(0, 880), (1, 440)])
def test_a_track_without_a_decoder_is_ignored(tmp_path, track, hertz, capsys):
    clip = hide_decoder(write(tmp_path / "spatial.mp4", "mp4", sounds=("aac", "aac")), track)
    assert pitch(clip.audio()) == pytest.approx(hertz, abs=2)
    assert len(list(clip.frames())) == 50 and clip.probe() == pytest.approx(2, abs=0.1)
    assert "tracks" not in capsys.readouterr().err, "only one track can be read"


def test_a_sound_without_a_decoder_is_reported(tmp_path):
    clip = hide_decoder(write(tmp_path / "spatial.mp4", "mp4"), 0)
    assert kind_of(clip.audio) == "unreadable" and len(list(clip.frames())) == 50
    assert kind_of(lambda: clip.offset) == "unreadable"
    with pytest.raises(MediaError, match="there is no decoder for the format of its audio"):
        clip.audio()


def test_extraction_of_a_clip_with_spatial_audio(tmp_path):
    (tmp_path / "clips").mkdir()
    hide_decoder(write(tmp_path / "clips" / "IMG_1.mp4", "mp4", sounds=("aac", "aac")), 1)
    encoders = [create("logmel"), create("gray_flow")]
    summaries = extraction.extract(None, tmp_path / "clips", encoders, tmp_path / "out")
    assert [(summary.done, summary.failures) for summary in summaries] == [(["IMG_1"], [])] * 2


@pytest.mark.parametrize("default, hertz", [(0, 440), (1, 880), (2, 1320)])
def test_the_default_track_is_read_and_reported(tmp_path, default, hertz, capsys):
    path = tmp_path / "tracks.mkv"
    with av.open(str(path), "w", format="matroska") as container:
        packets = []
        for number in range(3):
            stream = container.add_stream("aac", rate=48_000, layout="mono")
            stream.disposition = av.stream.Disposition.default if number == default else av.stream.Disposition(0)
            contents = sound(stream, tone(2, 48_000, 440 * (number + 1))), None
            packets += [packet for content in contents for packet in stream.encode(content)]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    for _ in range(2):
        assert pitch(Clip(path).audio()) == pytest.approx(hertz, abs=2)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"note: {path}: has 3 audio tracks; reading number {default + 1}"]


# ------------------------------------------------------------------------------------ pictures


def test_frames_with_concealed_damage_are_refused(tmp_path):
    """Five bytes of H.264 are flipped, 60 times over: each clip decodes without error marks, or is refused."""
    whole = write(tmp_path / "whole.mp4", "mp4", sounds=(), frames=100)
    content, random, kinds = whole.read_bytes(), np.random.default_rng(0), []
    start = content.find(b"mdat") + 2000
    for number in range(60):
        damage = bytearray(content)
        for place in random.integers(start, len(content) - 3000, 5):
            damage[place] ^= 0xFF
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(damage)
        with av.open(str(path)) as container:
            try:
                is_marked = any(frame.is_corrupt for frame in [*container.decode(video=0)])
            except av.error.FFmpegError:
                is_marked = None
        if is_marked is not False:
            kinds.append((is_marked, kind_of(lambda path=path: list(Clip(path).frames()))))
    assert {kind for _, kind in kinds} == {"unreadable"} and {is_marked for is_marked, _ in kinds} == {True, None}


MATRICES = {
    "unchanged": ((1, 0, 0, 1), lambda frame: frame),
    "mirrored": ((-1, 0, 0, 1), lambda frame: frame[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda frame: frame[::-1]),
    "half a turn": ((-1, 0, 0, -1), lambda frame: frame[::-1, ::-1]),
    "clockwise": ((0, 1, -1, 0), lambda frame: np.rot90(frame, -1)),
    "counter-clockwise": ((0, -1, 1, 0), lambda frame: np.rot90(frame)),
    "transposed": ((0, 1, 1, 0), lambda frame: frame.transpose(1, 0, 2)),
    "transposed the other way": ((0, -1, -1, 0), lambda frame: np.rot90(frame, 2).transpose(1, 0, 2)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_display_matrices_are_applied(tmp_path, name):
    (a, b, c, d), expected = MATRICES[name]
    unit = 1 << 16
    matrix = [a * unit, b * unit, 0, c * unit, d * unit, 0, 0, 0, 1 << 30]
    plain = Clip(write(tmp_path / "plain.mov", "mov", sounds=(), frames=3))
    rotated = Clip(
        write(
            tmp_path / "turned.mov",
            "mov",
            sounds=(),
            frames=3,
            prepare=lambda stream: stream.set_display_matrix(matrix),
        )
    )
    for frame, before in zip(rotated.frames(), plain.frames(), strict=True):
        assert np.array_equal(frame, expected(before)) and frame.flags.c_contiguous


@pytest.mark.parametrize("degrees", [30, 45, -100])
def test_other_rotations_than_quarter_turns_are_refused(tmp_path, degrees):
    path = write(tmp_path / "odd.mov", "mov", sounds=(), frames=3, prepare=lambda s: s.set_display_rotation(degrees))
    with pytest.raises(MediaError, match="its rotation is not a multiple of 90°"):
        list(Clip(path).frames())


@pytest.mark.parametrize("shape, width", [(Fraction(4, 3), 85), (Fraction(1, 2), 32), (Fraction(1, 1), 64)])
def test_pixels_that_are_not_square(tmp_path, shape, width):
    def widen(stream):
        stream.codec_context.sample_aspect_ratio = shape

    for form, name in (("mov", "a.mov"), ("matroska", "a.mkv")):
        path = write(tmp_path / name, form, sounds=(), frames=2, prepare=widen)
        frames = list(Clip(path).frames())
        assert [frame.shape for frame in frames] == [(HEIGHT, width, 3)] * 2
        assert np.abs(frames[0].astype(int) - picture(0, width)).mean() < 6


# --------------------------------------------------------------------------------------- times


@pytest.mark.parametrize("form, suffix", [("mov", "mov"), ("matroska", "mkv")])
@pytest.mark.parametrize("later, offset", [((0, 0), 0), ((0, 0.5), 0.5), ((0.4, 0), -0.4), ((1, 1.28), 0.28)])
def test_the_start_of_the_sound(tmp_path, form, suffix, later, offset):
    clip = Clip(write(tmp_path / f"late.{suffix}", form, later=later))
    assert clip.offset == pytest.approx(offset, abs=0.03)  # a packet of AAC takes 21 ms
    assert next(clip.timed_frames())[0] == 0


@pytest.mark.parametrize("offset", [0.0, 0.32, -0.32, 5.0, -5.0])
def test_hicmae_aligns_sound_with_frames(offset, monkeypatch):
    wave = np.random.default_rng(0).uniform(-0.3, 0.3, 60_000).astype(np.float32)
    frames = np.zeros((70, 160, 160, 3), np.uint8)
    monkeypatch.setattr(media.ArrayClip, "offset", offset)
    items = list(HiCMAE("reference").items(media.ArrayClip(frames=frames, audio=wave)))
    shift = round(offset * 16_000)
    signal = np.concatenate([np.zeros(max(0, shift), np.float32), wave[max(0, -shift) :]])
    for item, begin in zip(items, (0, 5120), strict=True):  # the samples at frames 0 and 8
        assert np.array_equal(item[-256 * 128 :].reshape(256, 128), fbank(signal[begin : begin + 400 + 255 * 160]))


def test_a_sampling_rate_that_changes_midway(tmp_path):
    """Two sounds in one stream, one second at 48 kHz and one at 24 kHz: each keeps its pitch and its length."""
    parts = []
    for rate in (48_000, 24_000):
        path = tmp_path / f"{rate}.aac"
        with av.open(str(path), "w", format="adts") as container:
            stream = container.add_stream("aac", rate=rate, layout="mono")
            for content in (sound(stream, tone(1, rate)), None):
                for packet in stream.encode(content):
                    container.mux(packet)
        parts.append(path.read_bytes())
    (tmp_path / "both.aac").write_bytes(b"".join(parts))
    samples = Clip(tmp_path / "both.aac").audio()
    assert len(samples) == pytest.approx(32_000, abs=2500)
    assert pitch(samples[1000:15_000]) == pytest.approx(440, abs=3)
    assert pitch(samples[18_500:31_000]) == pytest.approx(440, abs=3)


# ----------------------------------------------------------------------------- files cut short

FORMS = {
    "mkv": ("matroska", "libx264", ("aac",)),
    "webm": ("webm", "libvpx", ("libopus",)),
    "avi": ("avi", "mpeg4", ("libmp3lame",)),
    "mp3": ("mp3", None, ("libmp3lame",)),
    "ogg": ("ogg", None, ("libopus",)),
    "mov": ("mov", "libx264", ("aac",)),
    "mp4": ("mp4", "libx264", ("aac",)),
    "m4a": ("mp4", None, ("aac",)),
}


@pytest.mark.parametrize("suffix", FORMS)
def test_truncated_files(tmp_path, suffix):
    form, video, sounds = FORMS[suffix]
    path = write(tmp_path / f"clip.{suffix}", form, video=video, sounds=sounds)
    content = path.read_bytes()
    assert shortfall(path) is None
    assert len(Clip(path).audio()) == pytest.approx(32_000, abs=1000)
    for share in (0.3, 0.6, 0.9, 0.99):
        path.write_bytes(content[: int(len(content) * share)])
        assert kind_of(Clip(path).audio) == "truncated"
        if video:
            assert kind_of(lambda: list(Clip(path).frames())) == "truncated"
    path.write_bytes(content)
    assert len(Clip(path).audio()) == pytest.approx(32_000, abs=1000), "the file is complete again"


@pytest.mark.parametrize(
    "options", [{"write_xing": "0"}, {"write_xing": "0", "id3v2_version": "0"}, {"write_id3v1": "1"}]
)
def test_mp3_without_a_total_length(tmp_path, options):
    path = write(tmp_path / "clip.mp3", "mp3", video=None, sounds=("libmp3lame",), options=options)
    content = path.read_bytes()
    assert shortfall(path) is None
    for end in (0.3, 0.6, 0.9):
        path.write_bytes(
            content[: int(len(content) * end) // 2 * 2 + 1]
        )  # not between two frames, where it could not be noticed
        assert kind_of(Clip(path).audio) == "truncated"


def test_matroska_of_a_live_recording(tmp_path):
    """The size of its segment is unknown, but that of the last cluster is known."""
    path = write(tmp_path / "live.mkv", "matroska", options={"live": "1"})
    content = path.read_bytes()
    assert shortfall(path) is None and len(list(Clip(path).frames())) == 50
    path.write_bytes(content[: int(len(content) * 0.6)])
    assert kind_of(lambda: list(Clip(path).frames())) == "truncated"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x1a\x45\xdf\xa3",
        b"\x1a\x45\xdf\xa3\xff",
        b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67",
        b"RIFF",
        b"RIFF\0\0\0\0AVI ",
        b"OggS",
        b"OggS" * 30,
        b"ID3",
        b"ID3\4\0\0\x7f\x7f\x7f\x7f",
        b"\xff\xfb\x90\x00",
        b"\xff" * 60,
        b"\0" * 60,
        b"\0\0\0\1moov" + b"\0" * 8,
        b"RIFF\xff\xff\xff\xffAVI " + b"x" * 50,
    ],
)
def test_fragments_of_files_raise_media_errors(tmp_path, content):
    path = tmp_path / "shred.mkv"
    path.write_bytes(content)
    shortfall(path)
    for read in (lambda: list(Clip(path).frames()), Clip(path).audio):
        assert kind_of(read) in ("empty-file", "unreadable", "truncated", "no-audio", "no-video", "no-frames")


# --------------------------------------------------------------------------------------- names


@pytest.fixture
def voices(tmp_path):
    def make(*names):
        for number, name in enumerate(names):
            path = tmp_path / "clips" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.random.default_rng(number).uniform(-0.3, 0.3, 4000), 16_000, format="WAV")
        return tmp_path / "clips"

    return make


def extract(ids, clips, out):
    [summary] = extraction.extract(ids, clips, [create("logmel")], out)
    return summary


def test_ids_with_dots_lose_one_suffix_once(voices, tmp_path):
    """A phone's file name may contain a suffix, to which an app adds another."""
    clips = voices("IMG_0012.MOV.wav", "take.2.wav", "plain.wav")
    expected = ["IMG_0012.MOV", "plain", "take.2"]
    for ids in (None, expected, [f"{name}.wav" for name in expected]):
        summary = extract(ids, clips, tmp_path / f"out{len(list(tmp_path.iterdir()))}")
        assert summary.done == expected and not summary.failures
        for names in (None, expected):
            features = read_features(summary.folder, names)
            assert features.ids == expected and len(features.X) == 3


def test_names_in_tables_and_archives_with_dots(tmp_path):
    ids = ["IMG_0012.MOV", "b"]
    for names in (ids, ["IMG_0012.MOV.mp4", "b.mov"]):
        np.savez(tmp_path / "x.npz", X=np.eye(2), filenames=np.array(names))
        lines = "\n".join(f"{name},{number}" for number, name in enumerate(names))
        (tmp_path / "x.csv").write_text(f"filename,value\n{lines}\n")
        for source in ("x.npz", "x.csv"):
            assert read_features(tmp_path / source, ids).ids == ids


def test_linked_folders_are_followed_and_loops_end(voices, tmp_path):
    clips = voices("a/one.wav")
    target = tmp_path / "elsewhere"
    target.mkdir()
    os.rename(clips / "a", target / "a")
    (clips / "linked").symlink_to(target / "a")
    (target / "a" / "back").symlink_to(clips)
    (target / "a" / "again").symlink_to(target / "a")
    (clips / "dangling").symlink_to(tmp_path / "nowhere")
    assert extract(None, clips, tmp_path / "out").done == ["one"]
    assert extract(["one"], clips, tmp_path / "out").skipped == ["one"]


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_ids", ["NFC", "NFD"])
def test_names_in_different_forms_of_unicode(voices, tmp_path, on_disk, in_ids):
    name = "Zoë_Müller"
    clips = voices(unicodedata.normalize(on_disk, name) + ".wav")
    summary = extract([unicodedata.normalize(in_ids, name)], clips, tmp_path / "out")
    assert len(summary.done) == 1 and not summary.failures
    for form in ("NFC", "NFD"):
        ids = [unicodedata.normalize(form, name)]
        assert read_features(summary.folder, ids).ids == ids
        np.savez(tmp_path / "x.npz", X=np.eye(1), filenames=np.array([unicodedata.normalize(on_disk, name)]))
        assert read_features(tmp_path / "x.npz", ids).ids == ids
    assert extract(ids, clips, tmp_path / "out").skipped, "both forms name the same features"


def test_faces_in_a_folder_with_another_unicode_form(tmp_path):
    from PIL import Image

    folder = tmp_path / unicodedata.normalize("NFD", "Zoë")
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "1.png")
    clip = media.ArrayClip(audio=np.ones(900), id=unicodedata.normalize("NFC", "Zoë"))
    assert len(list(HiCMAE(faces=tmp_path).items(clip))) == 1


def test_filenames_as_bytes(tmp_path):
    np.savez(tmp_path / "x.npz", X=np.eye(2), filenames=np.array([b"a.mov", "Zoë".encode()]))
    assert read_features(tmp_path / "x.npz", ["a", "Zoë"]).ids == ["a", "Zoë"]


@pytest.mark.parametrize("separator, word", [(";", "semicolons"), ("\t", "tabs")])
def test_openface_tables_with_other_separators(tmp_path, separator, word):
    from blemore_baselines.encoders.openface import read_openface2_csv, read_openface3_csv

    (tmp_path / "clips").mkdir()
    path = tmp_path / "clips" / "a.csv"
    path.write_text(separator.join(["frame", "success", "confidence", "action_units"]) + "\n1;1;1;1\n")
    for read in (read_openface2_csv, read_openface3_csv):
        with pytest.raises(ValueError, match=f"separated by {word}; expected commas"):
            read(path)
    [summary] = extraction.extract(["a"], path.parent, [create("openface2")], tmp_path / "out")
    assert summary.failures[0].kind == "bad-openface-file" and word in summary.failures[0].message


def test_words_for_missing_values_in_metadata_are_reported_in_one_line(tiny, tmp_path):
    from blemore.errors import ValidationError
    from blemore_baselines.dataset import read_dataset

    header, *rows = tiny.train.read_text().splitlines()
    for word in ("NA", "NaN", "<NA>", "null"):
        lines = [",".join(cell or word for cell in row.split(",")) for row in rows]
        (tmp_path / "na.csv").write_text("\n".join([header, *lines]) + "\n")
        with pytest.raises(ValidationError) as caught:
            read_dataset(tmp_path / "na.csv")
        [problem] = caught.value.problems
        assert f"cells of emotion_1_salience, emotion_2, emotion_2_salience hold {word}" in problem.message
        assert problem.message.startswith(f"{sum(row.count(word + ',') for row in lines) - 2 * len(rows):,} cells")


# --------------------------------------------------------------------------------- odd machines


def run_command(*arguments, **options):
    program = Path(sys.executable).parent / "blemore-baselines"
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=500, **options)


def test_a_deleted_current_folder(tmp_path):
    program = str(Path(sys.executable).parent / "blemore-baselines")
    code = f"import os; os.chdir({str(tmp_path)!r}); os.rmdir(os.getcwd()); os.execv({program!r}, ['x', 'encoders'])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert run.returncode == 3 and run.stderr.splitlines()[0] == ".: the current folder no longer exists"


def test_a_read_only_home_causes_no_warnings_of_other_packages(voices, tmp_path):
    """Nobody can write under /proc, not even root."""
    clips = voices("a.wav")
    home = {**os.environ, "HOME": "/proc", "MPLCONFIGDIR": ""}
    run = run_command("extract", "--encoder", "logmel", "--clips", clips, "--out", tmp_path / "out", env=home)
    assert run.returncode == 0 and all("logmel" in line for line in run.stderr.split("\n") if line), run.stderr
    code = "from blemore_baselines.results import plots; plots.png(plots.figure(1, 1)[0])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=home, timeout=100)
    assert run.returncode == 0 and not run.stderr, run.stderr
