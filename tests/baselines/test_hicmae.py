"""HiCMAE on random checkpoints, against a small implementation of its own; its spectrogram against Kaldi's definition."""

import math

import cv2
import numpy as np
import pytest
import torch
from originals.hicmae import checkpoint_shapes, hicmae, random_checkpoint

from blemore.errors import BlemoreError, ValidationError
from blemore_baselines.clips.media import ArrayClip, Clip, MediaError
from blemore_baselines.encoders.hicmae import HiCMAE, HiCMAEModel, fbank

WIDTH = 16


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def state():
    return random_checkpoint(WIDTH)


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("hicmae") / "checkpoint-99.pth"
    torch.save({"model": state, "epoch": 99}, path)
    return path


def moving(frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(frames).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def sound(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).uniform(-0.3, 0.3, samples).astype(np.float32)


def clip_of(frames: int) -> ArrayClip:
    return ArrayClip(frames=moving(frames), audio=sound(frames * 640))


# --------------------------------------------------------------------------------- the model


def compare(path, state) -> float:
    """The largest difference from the small implementation, on three random inputs in one batch."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn((3, 3, 16, 160, 160), generator=generator)
    spectra = torch.randn((3, 256, 128), generator=generator)
    encoder = HiCMAE(weights=path, device="cpu")
    encoder.load()
    found = encoder.encode_items([torch.cat([p.ravel(), s.ravel()]).numpy() for p, s in zip(pixels, spectra)])
    expected = torch.stack([hicmae(state, p, s) for p, s in zip(pixels, spectra)]).numpy()
    assert found.shape == expected.shape == (3, encoder.dim)
    print(f"max abs error {np.abs(found - expected).max():.1e}")
    return np.abs(found - expected).max()


def test_a_fine_tuned_checkpoint(checkpoint, state):
    assert compare(checkpoint, {**state}) < 1e-5


def test_a_checkpoint_of_the_pre_training(state, tmp_path):
    """It has decoders and lacks what comes with fine-tuning."""
    lean = {name: value for name, value in state.items() if name.startswith("encoder")}
    decoders = {
        "decoder.blocks.0.attn.qkv.weight": torch.zeros(2, 2),
        "mask_token": torch.zeros(1),
        "encoder_to_decoder.weight": torch.zeros(2, 2),
    }
    torch.save({"model": {**lean, **decoders}}, tmp_path / "c.pth")
    assert compare(tmp_path / "c.pth", lean) < 1e-5


def test_full_size(long, tmp_path, shared):
    if not long:
        pytest.skip("81 M parameters: with --long")
    state = random_checkpoint()
    assert 80e6 < sum(value.numel() for value in state.values()) < 82e6
    torch.save({"model": state}, tmp_path / "c.pth")
    assert compare(tmp_path / "c.pth", state) < 1e-5
    assert HiCMAE(weights=tmp_path / "c.pth", device="cpu").encode(clip_of(70)).shape == (2, 2048)


def test_names_and_shapes(state):
    own = {name: tuple(value.shape) for name, value in HiCMAEModel(WIDTH).state_dict().items()}
    assert own == checkpoint_shapes(WIDTH)


@pytest.mark.parametrize("change, message", [
    (lambda s: s.pop("encoder_fusion.blocks.1.cross_attn.kv.weight"), r"missing: encoder_fusion\.blocks\.1\.cross_attn\.kv\.weight"),
    (lambda s: s.pop("encoder.patch_embed.proj.weight"), r"missing: encoder\.patch_embed\.proj\.weight"),
    (lambda s: s.pop("fc_norm.bias"), r"missing: fc_norm\.bias"),
    (lambda s: s.update({"encoder_audio.blocks.10.norm1.bias": torch.zeros(WIDTH)}), r"extra: encoder_audio\.blocks\.10\.norm1\.bias"),
    (lambda s: s.update({"encoder.blocks.3.mlp.fc1.bias": torch.zeros(5)}), r"misshapen: encoder\.blocks\.3\.mlp\.fc1\.bias"),
    (lambda s: s.update({"encoder.patch_embed.proj.weight": torch.zeros(5)}), r"misshapen: encoder\.patch_embed\.proj\.weight"),
])  # fmt: skip
def test_wrong_checkpoints_are_refused_by_name(change, message, state, tmp_path):
    changed = dict(state)
    change(changed)
    torch.save(changed, tmp_path / "c.pth")
    with pytest.raises(ValidationError, match=message):
        HiCMAE(weights=tmp_path / "c.pth", device="cpu").load()


def test_missing_weights_name_source_and_licence(tmp_path):
    with pytest.raises(BlemoreError, match=r"(?s)github\.com/sunlicai/HiCMAE.*MIT.*checkpoint-99\.pth.*--weights"):
        HiCMAE(weights=tmp_path / "none.pth").revision


# ---------------------------------------------------------------------------- clips to inputs


@pytest.mark.parametrize("frames, rows", [(1, 1), (15, 1), (61, 1), (64, 1), (65, 2), (200, 4)])
def test_contract(frames, rows, checkpoint):
    encoder, clip = HiCMAE(weights=checkpoint, device="cpu"), clip_of(frames)
    features = encoder.encode(clip)
    assert features.shape == (rows, 4 * WIDTH) and features.dtype == np.float32
    encoder.batch_size = 1
    assert np.abs(encoder.encode(clip) - features).max() < 1e-5
    assert np.array_equal(HiCMAE(weights=checkpoint, device="cpu").encode(clip), features)


def test_which_frames_and_which_sound():
    """70 frames at 25 a second: 18 are taken. The first row sees 0 to 60 from 0 s, the last 8 to 68, from 0.32 s."""
    frames = np.repeat(np.arange(70, dtype=np.uint8), 160 * 160 * 3).reshape(70, 160, 160, 3)
    wave = sound(60_000)
    first, last = HiCMAE().items(ArrayClip(frames=frames, audio=wave))
    for item, start, begin in ((first, 0, 0), (last, 8, 5120)):
        pixels, spectrum = item[: -256 * 128].reshape(3, 16, 160, 160), item[-256 * 128 :].reshape(256, 128)
        expected = (np.arange(start, start + 61, 4) / 255 - 0.456) / 0.224  # green
        assert np.allclose(pixels[1, :, 80, 80], expected, atol=1e-5)
        assert np.array_equal(spectrum, fbank(wave[begin : begin + 400 + 255 * 160]))


def test_a_sound_that_ends_is_followed_by_silence():
    items = list(HiCMAE().items(ArrayClip(frames=moving(128), audio=sound(3000))))
    assert len(items) == 2
    zero = 4.2677393 / (2 * 4.5689974)
    for item, heard in zip(items, (1 + (3000 - 400) // 160, 0)):
        spectrum = item[-256 * 128 :].reshape(256, 128)
        assert np.allclose(spectrum[heard:], zero) and (np.abs(spectrum[:heard] - zero).max(axis=1) > 0.1).all()


def test_faces(tmp_path, checkpoint, capsys):
    for clip, suffix, count in (("a", "", 5), ("b", "_aligned", 70)):
        (tmp_path / f"{clip}{suffix}").mkdir()
        for number in range(count):
            cv2.imwrite(
                str(tmp_path / f"{clip}{suffix}" / f"frame_det_00_{number:06}.png"),
                np.full((160, 160, 3), (number, 0, 0), np.uint8),
            )
    encoder = HiCMAE(weights=checkpoint, device="cpu", faces=tmp_path)
    encoder.load()
    assert not capsys.readouterr().err
    for clip, rows in (("a", 1), ("b", 2)):
        media = ArrayClip(frames=moving(3), audio=sound(50_000), id=clip)
        item = next(encoder.items(media))
        blue = (np.minimum(np.arange(0, 61, 4), 4 if clip == "a" else 99) / 255 - 0.406) / 0.225
        assert np.allclose(item[: -256 * 128].reshape(3, 16, 160, 160)[2, :, 0, 0], blue, atol=1e-5)
        assert encoder.encode(media).shape == (rows, 4 * WIDTH)
    with pytest.raises(MediaError, match="no pictures") as caught:
        encoder.encode(ArrayClip(audio=sound(9000), id="c"))
    assert caught.value.kind == "no-faces"
    (tmp_path / "a" / "frame_det_00_000009.png").write_bytes(b"no picture")
    with pytest.raises(MediaError, match="not a picture"):
        list(encoder.items(ArrayClip(audio=sound(9000), id="a")))
    assert encoder.revision.endswith("-faces")


def test_frames_come_with_a_note(checkpoint, capsys):
    encoder = HiCMAE(weights=checkpoint)
    encoder.load()
    assert encoder.revision.endswith("-frames") and "aligned faces" in capsys.readouterr().err


def test_lacking_streams():
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
    """As Kaldi defines it (feature-window.cc, mel-computations.cc), sample by sample and band by band."""

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
            left = low + band * step
            total = 0.0
            for number in range(256):
                at = (mel(number * 16_000 / 512) - left) / step
                total += power[number] * max(0.0, min(at, 2 - at))
            bands.append(math.log(max(total, 2**-23)))
        rows.append(bands)
    return np.array(rows)


@pytest.mark.parametrize("samples", [400, 559, 560, 3000])
@pytest.mark.parametrize("level", [1, 0.001, 0])
def test_fbank_is_kaldis(samples, level):
    wave = sound(samples) * level + 0.1
    expected = kaldi_fbank(wave)
    found = fbank(wave)
    assert found.shape == (256, 128) and found.dtype == np.float32
    assert np.abs(found[: len(expected)] * 2 * 4.5689974 - 4.2677393 - expected).max() < 1e-3
    assert np.allclose(found[len(expected) :], 4.2677393 / (2 * 4.5689974))


@pytest.mark.parametrize("samples", [0, 1, 399])
def test_fbank_of_less_than_a_window(samples):
    assert np.allclose(fbank(sound(samples)), 4.2677393 / (2 * 4.5689974))
