"""HiCMAE against the outputs of its authors' model and of the challenge's extraction; its spectrogram against Kaldi's
definition.

The oracle's README says how its weights, items, faces and sounds are made. They are made here from that description.
"""

import json
import math
import warnings
import zlib

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from originals import randomise
from PIL import Image
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from blemore.errors import BlemoreError, ValidationError
from blemore_baselines import cli
from blemore_baselines.clips.media import ArrayClip, Clip, MediaError
from blemore_baselines.encoders.hicmae import HiCMAE, HiCMAEModel, fbank
from blemore_baselines.finetuning.hicmae import HiCMAEFamily

WIDTH = 16
PIXELS = 3 * 16 * 160 * 160
ZERO = 4.2677393 / (2 * 4.5689974)  # a row of the spectrogram without sound
# The oracle's clips: frames, frames per second, side of the faces.
CLIPS = {"a": (256, 25, 160), "b": (150, 25, 112), "c": (30, 25, 112), "d": (256, 50, 256)}

pytestmark = pytest.mark.usefixtures("one_thread")


# ---------------------------------------------------------------------------------- the oracle


def tensor(key: str, shape: list[int]) -> torch.Tensor:
    x = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    x = x / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.1 * x + key.endswith("weight")
    return torch.from_numpy(x.astype(np.float32))


@pytest.fixture(scope="module", params=["finetuned", "pretraining"])
def layout(request):
    return request.param


@pytest.fixture(scope="module")
def keys(shared):
    return json.loads((shared / "oracle" / "hicmae_keys.json").read_text())


@pytest.fixture(scope="module")
def full_checkpoint(layout, keys, tmp_path_factory):
    path = tmp_path_factory.mktemp(layout) / "checkpoint-99.pth"
    torch.save({"model": {key: tensor(key, shape) for key, shape in keys[layout].items()}, "epoch": 99}, path)
    yield path
    path.unlink()  # 330 MB


@pytest.fixture(scope="module")
def oracle(shared):
    with np.load(shared / "oracle" / "hicmae_input.npz") as arrays:
        return dict(arrays)


def picture(time: int, side: int) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    channels = 3 * x + 5 * y + 7 * time, (x * y) // 16 + 11 * time, (x // 8) * 31 + (y // 8) * 17 + 13 * time
    return (np.stack(channels, axis=-1) % 256).astype(np.uint8)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A folder with the oracle's clips as wav files, and their faces under `faces`."""
    folder = tmp_path_factory.mktemp("oracle")
    for clip, (frames, fps, side) in CLIPS.items():
        (folder / "faces" / clip).mkdir(parents=True)
        for time in range(frames):
            Image.fromarray(picture(time, side)).save(folder / "faces" / clip / f"frame_det_00_{time:06}.bmp")
        k = np.arange(frames * 16_000 // fps)
        sound = ((37 * k) % 2001 - 1000) / 4000 + ((k * k // 97) % 501 - 250) / 2000
        soundfile.write(folder / f"{clip}.wav", sound, 16_000, subtype="PCM_16")
    return folder


def parts(items) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (rows, 3, 16, 160, 160) and spectrograms (rows, 256, 128)."""
    items = np.stack(list(items))
    return items[:, :PIXELS].reshape(-1, 3, 16, 160, 160), items[:, PIXELS:].reshape(-1, 256, 128)


def test_names_and_shapes(layout, keys):
    with torch.device("meta"):
        shapes = {name: list(value.shape) for name, value in HiCMAEModel(512).state_dict().items()}
    trunks = {name: shape for name, shape in shapes.items() if name.startswith("encoder")}
    expected = keys[layout]
    if layout == "finetuned":
        assert shapes == {name: shape for name, shape in expected.items() if not name.startswith("head.")}
    else:
        assert trunks == {name: shape for name, shape in expected.items() if name in trunks}


def test_the_model_equals_the_authors(layout, full_checkpoint, shared):
    random = np.random.default_rng(1)
    pixels = random.standard_normal((2, 3, 16, 160, 160)).astype(np.float32)
    spectra = random.standard_normal((2, 1, 256, 128)).astype(np.float32)
    encoder = HiCMAE(weights=full_checkpoint, device="cpu")
    encoder.load()
    features = encoder.encode_items([np.concatenate([p.ravel(), s.ravel()]) for p, s in zip(pixels, spectra)])
    with np.load(shared / "oracle" / "hicmae_model.npz") as arrays:
        error = np.abs(features - arrays[f"{layout}_features"]).max()
        print(f"{layout}: max abs error {error:.1e}")
        assert error < 1e-5
        if layout == "finetuned":  # also the model for fine-tuning, with its head
            model = HiCMAEFamily(encoder.sizes._asdict()).build()
            model.load_state_dict(torch.load(full_checkpoint, weights_only=True)["model"])
            logits = model.head(torch.from_numpy(features)).detach().numpy()
            assert np.abs(logits - arrays["finetuned_logits"]).max() < 1e-5


@pytest.mark.parametrize("samples", [0, 399, 400, 1025, 12_345, 41_200, 60_000])
def test_the_spectrogram_equals_transformers(samples):
    """Half of the sound is nearly silent, and a part is digital silence."""
    sound = np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)
    sound[samples // 2 :] *= 1e-4
    sound[samples // 4 : samples // 3] = 0
    rows = np.zeros((256, 128), np.float32)
    if samples >= 400:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some of the lowest bands are empty
            bins = {"mel_scale": "kaldi", "triangularize_in_mel_space": True}
            filters = mel_filter_bank(257, 128, 20.0, 8000.0, 16_000, **bins)
        hann, floor = window_function(400, "hann", periodic=False), float(np.finfo(np.float32).eps)
        options = {"power": 2.0, "center": False, "preemphasis": 0.97, "remove_dc_offset": True, "mel_floor": floor}
        bands = spectrogram(sound, hann, 400, 160, 512, mel_filters=filters, log_mel="log", **options).T[:256]
        rows[: len(bands)] = bands
    assert np.abs(fbank(sound) * (2 * 4.5689974) - 4.2677393 - rows).max() < 1e-5


@pytest.mark.parametrize("clip", CLIPS)
def test_the_input_equals_the_challenges(clip, media, oracle):
    pixels, spectra = parts(HiCMAE(faces=media / "faces").items(Clip(media / f"{clip}.wav")))
    assert len(pixels) == math.ceil(math.ceil(CLIPS[clip][0] / 4) / 16)
    errors = (
        np.abs(pixels[..., ::13, ::17] - oracle[f"{clip}_pixels"]).max(),
        np.abs(spectra - oracle[f"{clip}_fbank"]).max(),
    )
    print(f"{clip}: pixels {errors[0]:.1e}, fbank {errors[1]:.1e}")
    assert errors[0] <= 1e-5 and errors[1] <= 1e-3


@pytest.mark.long
def test_from_files_to_features(full_checkpoint, media, oracle, tmp_path):
    """With the command: rows equal the model's output for the oracle's spectrograms and the faces' pixels."""
    (tmp_path / "clips.csv").write_text("filename\nb\nc\n")
    arguments = ["extract", "--encoder", "hicmae", "--clips", media, "--metadata", tmp_path / "clips.csv"]
    arguments += ["--faces", media / "faces", "--weights", full_checkpoint, "--device", "cpu", "--workers", 1]
    run = CliRunner().invoke(cli.main, [*map(str, arguments), "--out", str(tmp_path)])
    assert run.exit_code == 0, run.output
    assert "-faces" in (tmp_path / "hicmae" / "meta.json").read_text()
    encoder = HiCMAE(weights=full_checkpoint, device="cpu", faces=media / "faces")
    encoder.load()
    for clip in "bc":
        pixels, _ = parts(encoder.items(Clip(media / f"{clip}.wav")))
        with torch.inference_mode():
            spectra = torch.from_numpy(oracle[f"{clip}_fbank"])[:, None]
            expected = encoder.model(torch.from_numpy(pixels), spectra).numpy()
        features = np.load(tmp_path / "hicmae" / f"{clip}.npy")
        assert features.shape == expected.shape and np.abs(features - expected).max() < 1e-3


# ---------------------------------------------------------------------------------- the loading


@pytest.fixture(scope="module")
def state():
    return randomise(HiCMAEModel(WIDTH)).state_dict()


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("hicmae") / "checkpoint-99.pth"
    torch.save({"model": state, "epoch": 99}, path)
    return path


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda s: s.pop("encoder_fusion.blocks.1.cross_attn.kv.weight"),
            r"missing: encoder_fusion\.blocks\.1\.cross_attn\.kv\.weight",
        ),
        (lambda s: s.pop("encoder.patch_embed.proj.weight"), r"missing: encoder\.patch_embed\.proj\.weight"),
        (lambda s: s.pop("fc_norm.bias"), r"missing: fc_norm\.bias"),
        (
            lambda s: s.update({"encoder_audio.blocks.10.norm1.bias": torch.zeros(WIDTH)}),
            r"extra: encoder_audio\.blocks\.10\.norm1\.bias",
        ),
        (
            lambda s: s.update({"encoder.blocks.3.mlp.fc1.bias": torch.zeros(5)}),
            r"misshapen: encoder\.blocks\.3\.mlp\.fc1\.bias",
        ),
        (
            lambda s: s.update({"encoder.patch_embed.proj.weight": torch.zeros(5)}),
            r"misshapen: encoder\.patch_embed\.proj\.weight",
        ),
    ],
)
def test_wrong_checkpoints_are_refused_by_name(change, message, state, tmp_path):
    changed = dict(state)
    change(changed)
    torch.save(changed, tmp_path / "c.pth")
    with pytest.raises(ValidationError, match=message):
        HiCMAE(weights=tmp_path / "c.pth", device="cpu").load()


def test_the_computation_is_the_second(checkpoint):  # extraction refuses folders of another revision
    assert HiCMAE(weights=checkpoint).revision.startswith("2-")


def test_missing_weights_name_source_and_licence(tmp_path):
    with pytest.raises(BlemoreError, match=r"(?s)github\.com/sunlicai/HiCMAE.*MIT.*checkpoint-99\.pth.*--weights"):
        _ = HiCMAE(weights=tmp_path / "none.pth").revision


# ---------------------------------------------------------------------------- clips to inputs


def moving(frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(frames).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def sound(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).uniform(-0.3, 0.3, samples).astype(np.float32)


def clip_of(frames: int) -> ArrayClip:
    return ArrayClip(frames=moving(frames), audio=sound(frames * 640))


@pytest.mark.parametrize("preset", ["published", "reference"])
@pytest.mark.parametrize("frames, rows", [(1, 1), (15, 1), (61, 1), (64, 1), (65, 2), (200, 4)])
def test_contract(frames, rows, preset, checkpoint):
    encoder, clip = HiCMAE(preset, weights=checkpoint, device="cpu"), clip_of(frames)
    features = encoder.encode(clip)
    assert features.shape == (rows, 4 * WIDTH) and features.dtype == np.float32
    encoder.batch_size = 1
    assert np.abs(encoder.encode(clip) - features).max() < 1e-5
    assert np.array_equal(HiCMAE(preset, weights=checkpoint, device="cpu").encode(clip), features)


def test_published_windows():
    """Of 65 frames, 17 are sampled. The last window holds one of them, and an empty share of the sound."""
    wave = sound(41_600)
    pixels, spectra = parts(HiCMAE().items(ArrayClip(frames=moving(65), audio=wave)))
    assert pixels[0].any(axis=(0, 2, 3)).all()
    assert pixels[1, :, 0].any() and not pixels[1, :, 1:].any()
    assert np.array_equal(spectra[0], fbank(wave))
    assert np.array_equal(spectra[1], fbank(np.zeros(1025)))
    assert np.allclose(spectra[1, 4:], ZERO) and spectra[1, :4].max() < -1, "4 rows of silence, then no sound"


@pytest.mark.parametrize("frames", [1, 5, 61])
def test_published_short_clips(frames):
    """The last sampled frame is repeated, and the whole sound is used."""
    wave = sound(12_000)
    pixels, spectra = parts(HiCMAE().items(ArrayClip(frames=moving(frames), audio=wave)))
    assert len(pixels) == 1 and np.array_equal(spectra[0], fbank(wave))
    last = (frames - 1) // 4
    assert (pixels[0, :, last:] == pixels[0, :, last:][:, :1]).all()
    assert last == 0 or (pixels[0, :, last] != pixels[0, :, last - 1]).any()


def test_reference_windows():
    """Of 70 frames at 25 per second, 18 are sampled: rows see frames 0 to 60 from 0 s, and 8 to 68 from 0.32 s."""
    frames = np.repeat(np.arange(70, dtype=np.uint8), 160 * 160 * 3).reshape(70, 160, 160, 3)
    wave = sound(60_000)
    pixels, spectra = parts(HiCMAE("reference").items(ArrayClip(frames=frames, audio=wave)))
    for row, (start, begin) in enumerate(((0, 0), (8, 5120))):
        expected = (np.arange(start, start + 61, 4) / 255 - 0.456) / 0.224  # green
        assert np.allclose(pixels[row, 1, :, 80, 80], expected, atol=1e-5)
        assert np.array_equal(spectra[row], fbank(wave[begin : begin + 400 + 255 * 160]))


def test_reference_has_silence_after_the_end_of_the_sound():
    _, spectra = parts(HiCMAE("reference").items(ArrayClip(frames=moving(128), audio=sound(3000))))
    for spectrum, count in zip(spectra, (1 + (3000 - 400) // 160, 0), strict=True):
        assert np.allclose(spectrum[count:], ZERO) and (np.abs(spectrum[:count] - ZERO).max(axis=1) > 0.1).all()


def test_the_centre_square_of_frames_is_used():
    frames = np.zeros((1, 100, 300, 3), np.uint8)
    frames[:, :, 100:200] = 200
    pixels, _ = parts(HiCMAE().items(ArrayClip(frames=frames, audio=sound(900))))
    assert np.allclose(pixels[0, 1], (200 / 255 - 0.456) / 0.224, atol=1e-5)


def test_faces(tmp_path, checkpoint, capsys):
    for clip, suffix, count in (("a", "", 5), ("b", "_aligned", 70)):
        (tmp_path / f"{clip}{suffix}").mkdir()
        for number in range(count):
            Image.new("RGB", (160, 160), (0, 0, number)).save(
                tmp_path / f"{clip}{suffix}" / f"frame_det_00_{number:06}.png"
            )
    encoder = HiCMAE(weights=checkpoint, device="cpu", faces=tmp_path)
    encoder.load()
    assert not capsys.readouterr().err
    for clip, rows in (("a", 1), ("b", 2)):
        media = ArrayClip(frames=moving(3), audio=sound(50_000), id=clip)
        pixels, _ = parts(encoder.items(media))
        blue = (np.minimum(np.arange(0, 61, 4), 4 if clip == "a" else 99) / 255 - 0.406) / 0.225
        assert np.allclose(pixels[0, 2, :, 0, 0], blue, atol=1e-5)
        assert encoder.encode(media).shape == (rows, 4 * WIDTH)
    with pytest.raises(MediaError, match="no pictures") as caught:
        encoder.encode(ArrayClip(audio=sound(9000), id="c"))
    assert caught.value.kind == "no-faces"
    (tmp_path / "a" / "frame_det_00_000004.png").write_bytes(b"no picture")
    with pytest.raises(MediaError, match="not a readable picture"):
        list(encoder.items(ArrayClip(audio=sound(9000), id="a")))
    assert encoder.revision.endswith("-faces")


def test_faces_need_a_frame_rate_only_for_reference(media):
    with pytest.raises(MediaError) as caught:
        list(HiCMAE("reference", faces=media / "faces").items(Clip(media / "c.wav")))
    assert caught.value.kind == "no-video"


def test_a_note_says_that_frames_are_used(checkpoint, capsys):
    encoder = HiCMAE(weights=checkpoint)
    encoder.load()
    assert encoder.revision.endswith("-frames") and "aligned faces" in capsys.readouterr().err


def test_missing_streams():
    for clip, kind in ((ArrayClip(audio=sound(900)), "no-video"), (ArrayClip(frames=moving(3)), "no-audio")):
        with pytest.raises(MediaError) as caught:
            list(HiCMAE().items(clip))
        assert caught.value.kind == kind


@pytest.mark.parametrize("file", ["single_face.mp4", "no_face.mp4"])
def test_real_clips(file, shared, checkpoint):
    clip = Clip(shared / "media" / file)
    frames = sum(1 for _ in clip.frames())
    features = HiCMAE(weights=checkpoint, device="cpu").encode(clip)
    assert features.shape == (math.ceil(math.ceil(frames / 4) / 16), 4 * WIDTH)


# ----------------------------------------------------------------------------- the spectrogram


def kaldi_fbank(sound: np.ndarray) -> np.ndarray:
    """Kaldi's definition (feature-window.cc, mel-computations.cc), sample by sample and band by band."""

    def mel(hertz):
        return 1127 * math.log(1 + hertz / 700)

    low, high, rows = mel(20), mel(8000), []
    step = (high - low) / 129
    for start in range(0, len(sound) - 399, 160):
        frame = sound[start : start + 400].astype(np.float64)
        frame = frame - frame.mean()
        frame = np.array([frame[0] - 0.97 * frame[0], *(frame[n] - 0.97 * frame[n - 1] for n in range(1, 400))])
        frame *= [0.5 - 0.5 * math.cos(2 * math.pi * n / 399) for n in range(400)]
        power = np.abs(np.fft.fft(np.pad(frame, (0, 112)))[:256]) ** 2
        bands = []
        for band in range(128):
            edge = low + band * step
            total = 0.0
            for number in range(256):
                at = (mel(number * 16_000 / 512) - edge) / step
                total += power[number] * max(0.0, min(at, 2 - at))
            bands.append(math.log(max(total, 2**-23)))
        rows.append(bands)
    return np.array(rows)


@pytest.mark.parametrize("samples", [400, 559, 560, 3000])
@pytest.mark.parametrize("level", [1, 0.001, 0])
def test_fbank_equals_kaldis(samples, level):
    wave = sound(samples) * level + 0.1
    expected = kaldi_fbank(wave)
    spectrum = fbank(wave)
    assert spectrum.shape == (256, 128) and spectrum.dtype == np.float32
    assert np.abs(spectrum[: len(expected)] * 2 * 4.5689974 - 4.2677393 - expected).max() < 1e-3
    assert np.allclose(spectrum[len(expected) :], 4.2677393 / (2 * 4.5689974))


@pytest.mark.parametrize("samples", [0, 1, 399])
def test_fbank_of_less_than_a_window(samples):
    assert np.allclose(fbank(sound(samples)), 4.2677393 / (2 * 4.5689974))
