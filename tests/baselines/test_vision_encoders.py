"""The vision encoders that need weights, on random weights in each original's layout; their pixels and windows.

With `--long`, the models have their full size.
"""

import argparse
import json
import math
import re
import tempfile
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as t
from originals import randomise
from originals.imagebind import ImageBind
from originals.swin3d import Swin3D
from originals.videomaev2 import VideoMAEV2
from safetensors.torch import save_file
from torch.nn.functional import interpolate
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

from blemore.errors import FileError, ValidationError
from blemore_baselines.clips.media import ArrayClip, Clip, MediaError
from blemore_baselines.encoders import ENCODERS, create, encoder_class, frames, videomaev2, videoswin, weights

t.utils.logging.set_verbosity_error()
t.utils.logging.disable_progress_bar()
CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711])
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

LAYERS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
# Small sizes that keep the structure of a model. The defaults of each original are the full size.
TINY = {
    "imagebind": {"width": 160, "hidden": 48, "depth": 3, "heads": 2, "patch": 8, "side": 32, "out": 24},
    "videomaev2": {"width": 176, "hidden": 96, "depth": 3, "heads": 2, "patch": 32, "classes": 5},
    "videomaev2-base": {"width": 128, "hidden": 96, "depth": 3, "heads": 2, "patch": 32, "classes": 5},
    "videoswin": {"width": 12, "depths": (2, 2, 1), "heads": (1, 2, 3), "classes": 5},
    "videoswin-s": {"width": 8, "depths": (1, 2, 4, 1), "heads": (1, 1, 2, 2), "classes": 5},
    "videoswin-t": {"width": 8, "depths": (2, 1), "heads": (1, 2), "classes": 5},
}
FULL = {
    "imagebind": {},
    "videomaev2": {"depth": 8},  # of 40, which would take 4 minutes and 12 GiB; all layers are mapped in the same way
    "videomaev2-base": {"width": 768, "hidden": 3072, "depth": 12, "heads": 12, "patch": 16},
    "videoswin": {"width": 128, "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32)},
    "videoswin-s": {"depths": (2, 2, 18, 2)},
    "videoswin-t": {},
}
ORIGINALS = {name: Swin3D if "swin" in name else VideoMAEV2 if "mae" in name else ImageBind for name in TINY}
NAMES = ["clip", *TINY]
# The documented number of rows, from the number of frames.
ROWS = {
    "clip": lambda n: n, "imagebind": lambda n: n, "hf-image": lambda n: n,
    **{name: lambda n: -(-n // 16) for name in NAMES if "mae" in name},
    **{name: lambda n: 1 + max(0, -(-(n - 32) // 16)) for name in NAMES if "swin" in name},
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


def clip_model(**sizes):
    config = CLIPVisionConfig(**({**LAYERS, "image_size": 32, "patch_size": 8, "projection_dim": 16} | sizes))
    return randomise(CLIPVisionModelWithProjection(config))


def whole_clip_model(vision):
    """CLIP with a text part, and the weights of this vision part."""
    tokens = {"vocab_size": 9, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = t.CLIPConfig(
        vision_config=vision.config.to_dict(), text_config={**LAYERS, **tokens}, projection_dim=16, **tokens
    )
    model = t.CLIPModel(config)
    model.load_state_dict(vision.state_dict(), strict=False)
    return model


def original(name, sizes=TINY):
    return clip_model() if name == "clip" else randomise(ORIGINALS[name](**sizes[name]))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """name → path of a tiny random checkpoint, in the original's layout."""
    folder = tmp_path_factory.mktemp("checkpoints")
    paths = {}
    for name in NAMES:
        model, paths[name] = original(name), folder / f"{name}.pth"
        if name == "clip":
            paths[name] = folder / name
            model.save_pretrained(paths[name])
        else:
            state, wrapper = model.state_dict(), {"videomaev2": "module", "videomaev2-base": "model"}.get(name)
            torch.save({wrapper: state, "epoch": 3} if wrapper else state, paths[name])
    return paths


def noise(n, height=36, width=48, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def reference_rows(name, model, items, preset):
    """The original's output for an encoder's items."""
    pixels = torch.from_numpy(np.stack(items)).double() / 255
    mean, std = (CLIP_MEAN, CLIP_STD) if name in ("clip", "imagebind") else (MEAN, STD)
    if "mae" in name and preset == "published":
        mean, std = np.zeros(3), np.ones(3)
    pixels = ((pixels - torch.tensor(mean)) / torch.tensor(std)).float()
    if name in ("clip", "imagebind"):
        rows = model(pixels.permute(0, 3, 1, 2))
        return rows.image_embeds if name == "clip" else rows
    videos = pixels.permute(0, 4, 1, 2, 3)
    return model(videos) if "mae" in name else torch.stack([model(video) for video in videos])


# ------------------------------------------------------------------------------- key maps


# Swin's presets differ only in how items are made.
@pytest.mark.parametrize("name, preset", [(name, "reference") for name in NAMES] + [
    ("videomaev2", "published"), ("videomaev2-base", "published"),
])  # fmt: skip
def test_equals_the_original(name, preset, checkpoints):
    encoder = create(name, preset, weights=checkpoints[name], device="cpu")
    encoder.load()
    items = list(encoder.items(ArrayClip(noise(32 if "swin" in name else 17))))
    expected = reference_rows(name, original(name), items, preset).numpy()
    assert expected.std(axis=-1).min() > 1e-2, "constant activations would prove nothing"
    error = np.abs(encoder.encode_items(items) - expected).max()
    print(f"{name} {preset}: max abs error {error:.1e}, deviation {expected.std():.2f}")
    assert error <= 1e-5


@pytest.mark.parametrize("name", TINY)
def test_equals_the_original_at_full_size(name, long, tmp_path):
    if not long:
        pytest.skip("minutes and gigabytes: --long")
    model, path = original(name, FULL), tmp_path / "full.pth"
    torch.save(model.state_dict(), path)
    encoder = create(name, weights=path, device="cpu")
    items = [*encoder_items(encoder, noise(32, 240, 320))][:1]
    expected = reference_rows(name, model, items, encoder.preset).numpy()
    del model
    encoder.load()
    path.unlink()
    rows = encoder.encode_items(items)
    error = np.abs(rows - expected).max()
    print(f"{name}, full size: max abs error {error:.1e}, deviation {expected.std():.2f}")
    assert rows.shape == (1, encoder_class(name).dim) and error <= 1e-5


def encoder_items(encoder, clip):
    encoder.side = 224
    return encoder.items(ArrayClip(clip))


# Keys that can be missing, extra or misshapen without making the model's sizes unknown.
@pytest.mark.parametrize("name, key", [
    ("imagebind", "modality_trunks.vision.blocks.1.attn.in_proj_weight"),
    ("imagebind", "modality_preprocessors.vision.cls_token"),
    ("imagebind", "modality_preprocessors.vision.rgbt_stem.proj.1.weight"),
    ("imagebind", "modality_heads.vision.2.weight"),
    ("videomaev2", "blocks.1.attn.q_bias"),
    ("videomaev2", "patch_embed.proj.weight"),
    ("videomaev2", "fc_norm.weight"),
    ("videomaev2-base", "blocks.2.attn.qkv.weight"),
    ("videoswin-t", "features.0.1.attn.relative_position_index"),
    ("videoswin-t", "features.0.0.attn.relative_position_bias_table"),
    ("videoswin-t", "features.1.reduction.weight"),
])  # fmt: skip
def test_wrong_keys_are_refused_by_name(name, key, tmp_path):
    state, path = original(name).state_dict(), tmp_path / "wrong.pth"
    for kind, changed in {
        "missing": {k: v for k, v in state.items() if k != key},
        "misshapen": {**state, key: torch.zeros(3, 2)},
        "extra": {**state, key + "_more": torch.zeros(3)},
    }.items():
        torch.save(changed, path)
        with pytest.raises(ValidationError, match=f"{kind}: .*{re.escape(key)}"):
            create(name, weights=path).load()


def test_wrong_keys_of_clip_are_refused_by_name(checkpoints, tmp_path):
    state, key = clip_model().state_dict(), "vision_model.encoder.layers.1.mlp.fc1.weight"
    for kind, changed in {
        "missing": {k: v for k, v in state.items() if k != key},
        "misshapen": {**state, key: torch.zeros(3, 2)},
        "extra": {**state, key + "_more": torch.zeros(3)},
    }.items():
        folder = tmp_path / kind
        clip_model().config.save_pretrained(folder)
        save_file({k: v.contiguous() for k, v in changed.items()}, folder / "model.safetensors")
        with pytest.raises(ValidationError, match=f"{kind}: .*{re.escape(key)}"):
            create("clip", weights=folder).load()


def test_imagebind_ignores_other_modalities(checkpoints, tmp_path):
    keys = [f"modality_{part}.{name}.x" for part in ("trunks", "heads") for name in ("text", "audio", "imu")]
    torch.save(original("imagebind").state_dict() | dict.fromkeys(keys, torch.zeros(2)), tmp_path / "all.pth")
    paths = tmp_path / "all.pth", checkpoints["imagebind"]
    a, b = (create("imagebind", weights=path).encode(ArrayClip(noise(3))) for path in paths)
    assert np.array_equal(a, b)


def test_clip_from_every_kind_of_folder(checkpoints, tmp_path):
    """With or without the text part; safetensors, or torch's own format with a key of older versions."""
    full = whole_clip_model(clip_model())
    full.save_pretrained(tmp_path / "full")
    full.config.save_pretrained(tmp_path / "old")
    older = {"vision_model.embeddings.position_ids": torch.arange(17)[None]}
    torch.save(full.state_dict() | older, tmp_path / "old" / "pytorch_model.bin")
    expected = create("clip", weights=checkpoints["clip"]).encode(ArrayClip(noise(3)))
    for folder in ("full", "old"):
        assert np.array_equal(create("clip", weights=tmp_path / folder).encode(ArrayClip(noise(3))), expected)


# ------------------------------------------------------------------------------- the contract


@pytest.fixture
def small(monkeypatch):
    """Small pictures take a fraction of the time. Swin's maps then do not divide evenly into windows."""
    monkeypatch.setattr(videomaev2, "SIDE", 64)
    monkeypatch.setattr(videoswin, "RESIZED", 72)
    monkeypatch.setattr(videoswin, "SIDE", 64)


@pytest.mark.parametrize(
    "name",
    # The smaller Swins are the same class with fewer layers.
    [pytest.param(name, marks=pytest.mark.long if name in ("videoswin-s", "videoswin-t") else ()) for name in NAMES],
)
def test_contract(name, checkpoints, small):
    encoder = create(name, "reference", weights=checkpoints[name])
    for n in (1, 15, 16, 17, 200):
        clip = ArrayClip(noise(n, seed=n))
        features = encoder.encode(clip)
        assert features.dtype == np.float32 and features.shape == (ROWS[name](n), encoder.dim)
        assert np.isfinite(features).all()
        if n in (17, 200):
            assert np.array_equal(encoder.encode(clip), features)
            encoder.batch_size = {17: 1, 200: 5}[n]
            assert np.abs(encoder.encode(clip) - features).max() <= 1e-5
    second = create(name, "reference", weights=checkpoints[name])
    second.batch_size = encoder.batch_size
    assert np.array_equal(second.encode(clip), encoder.encode(clip))
    assert second.revision == encoder.revision


@pytest.mark.parametrize("name", NAMES)
def test_declares_what_it_is(name):
    encoder = encoder_class(name)
    assert encoder.name == name and encoder.modality == "video" and encoder.dim > 0
    assert encoder.unit and encoder.rows and encoder.weights and encoder.licence
    assert set(encoder.presets) == ({"reference", "published"} if "video" in name else {"reference"})


@pytest.mark.parametrize("name", NAMES)
def test_memory_does_not_grow_with_the_length_of_a_clip(name, checkpoints, small):
    """Frames are freed as they are read: few are alive at any time."""
    encoder = create(name, "reference", weights=checkpoints[name])
    encoder.load()
    alive, peak = 0, 0

    class Frame(np.ndarray):
        def __del__(self):
            nonlocal alive
            alive -= 1

    class Counted(ArrayClip):
        def timed_frames(self):
            nonlocal alive, peak
            for frame in noise(100, 40, 40):
                alive += 1
                peak = max(peak, alive)
                yield 0.0, frame.copy().view(Frame)

    encoder.encode(Counted())
    assert peak <= 4


def test_bf16_is_near(checkpoints):
    for name in ("clip", "imagebind", "videomaev2"):
        encoders = [create(name, weights=checkpoints[name], precision=precision) for precision in ("fp32", "bf16")]
        exact, coarse = (encoder.encode(ArrayClip(noise(2))) for encoder in encoders)
        assert coarse.dtype == np.float32 and not np.array_equal(exact, coarse)
        assert ((exact * coarse).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(coarse, axis=1)).min() > 0.99


def test_real_clips(shared, checkpoints, small):
    for file in ("single_face.mp4", "no_face.mp4"):
        clip = Clip(shared / "media" / file)
        decoded = np.stack([*clip.frames()])
        for name in NAMES:
            encoder = create(name, "reference", weights=checkpoints[name])
            features = encoder.encode(clip if name == "clip" else ArrayClip(decoded))
            assert len(features) == ROWS[name](len(decoded))
            assert np.ptp(features, axis=0).max() > 0, "different frames must give different rows"


def test_a_missing_stream_is_reported(checkpoints):
    for name in NAMES:
        with pytest.raises(MediaError) as caught:
            create(name, weights=checkpoints[name]).encode(ArrayClip())
        assert caught.value.kind == "no-video"


# ------------------------------------------------------------------------------- pixels


def photo(height, width):
    """Smooth shapes with sharp edges and some noise."""
    y, x = np.mgrid[:height, :width] / min(height, width)
    waves = [np.sin(9 * x + 3 * y), np.sign(np.sin(40 * x)) * np.cos(5 * y), np.sin(60 * x * y)]
    grain = np.random.default_rng(0).normal(0, 12, (height, width, 3))
    return np.clip(128 + 90 * np.stack(waves, -1) + grain, 0, 255).astype(np.uint8)


SHAPES = [(1080, 1920), (720, 1280), (480, 641), (641, 480), (224, 224), (100, 90), (224, 301)]


@pytest.mark.parametrize("shape", SHAPES)
def test_clip_pixels_equal_its_processor(shape):
    frame = photo(*shape)
    processor = CLIPImageProcessorPil()
    expected = processor(frame, do_normalize=False, do_rescale=False, return_tensors="np")["pixel_values"][0]
    pixels = frames.centre(frames.bicubic(frame, frames.short_side(frame, 224)), 224, int)
    apart = np.abs(pixels.astype(int) - expected.transpose(1, 2, 0).astype(int))
    assert apart.max() <= 1 and (apart > 0).mean() < 0.02
    whole = processor(frame, return_tensors="pt")["pixel_values"]
    normal = frames.normalise(torch.from_numpy(pixels)[None].float(), frames.CLIP_MEAN, frames.CLIP_STD)
    assert (normal - whole).abs().max() <= 1.01 / 255 / CLIP_STD.min()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", [224, 256])
def test_bilinear_equals_torch(shape, side):
    frame = photo(*shape)
    size = frames.short_side(frame, side)
    assert min(size) == side
    pixels = torch.from_numpy(frame).permute(2, 0, 1)[None].double()
    exact = interpolate(pixels, size=size, mode="bilinear", antialias=False)
    assert np.abs(frames.bilinear(frame, size) - exact[0].permute(1, 2, 0).numpy()).max() <= 1


def test_centre():
    ramp = np.arange(15)[:, None, None] + np.zeros((15, 10, 3))
    assert frames.centre(ramp, 4)[0, 0, 0] == 6 and frames.centre(ramp, 4, int)[0, 0, 0] == 5
    assert frames.centre(ramp, 4, math.ceil)[0, 0, 0] == 6 and frames.centre(ramp[:13], 4, math.ceil)[0, 0, 0] == 5
    assert frames.centre(ramp, 10).shape == (10, 10, 3)


def test_imagebind_rounds_its_crop_up(checkpoints):
    """699 × 500 becomes 313 × 224, of which 45 rows are cut off above and 44 below."""
    encoder = encoder_loaded(create("imagebind", weights=checkpoints["imagebind"]))
    encoder.side = 224
    frame = photo(699, 500)
    [item] = encoder.items(ArrayClip(frame[None]))
    assert np.array_equal(item, frames.bilinear(frame, (313, 224))[45 : 45 + 224])


def test_published_videomae_sees_blue_first_squashed_and_black_at_the_end(checkpoints):
    encoder = create("videomaev2", "published", weights=checkpoints["videomaev2"])
    clip = np.zeros((17, 100, 300, 3), np.uint8)
    clip[..., 0], clip[:, :, :10] = 200, 90  # red, with a grey bar at the left edge that a crop would lose
    first, last = encoder.items(ArrayClip(clip))
    assert first.shape == (16, 224, 224, 3)
    assert (first[:, 100, 100] == (0, 0, 200)).all() and (first[:, :, 0] == 90).all()
    assert (last[0] == first[0]).all() and not last[1:].any()
    default = create("videomaev2", weights=checkpoints["videomaev2"])
    assert np.array_equal(encoder.encode(ArrayClip(clip)), default.encode(ArrayClip(clip)))


def test_reference_videomae_sees_rgb_cropped_and_no_black(checkpoints):
    encoder = create("videomaev2", "reference", weights=checkpoints["videomaev2"])
    clip = np.zeros((17, 100, 300, 3), np.uint8)
    clip[..., 0], clip[:, :, :10], clip[16] = 200, 90, 30
    first, last = encoder.items(ArrayClip(clip))
    assert (first == (200, 0, 0)).all()
    assert (last[:15] == first[1:]).all() and (last[15] == 30).all()


@pytest.mark.parametrize("n, fps, rows", [
    (70, 25, 14), (225, 25, 14), (250, 25, 14), (251, 25, 28), (300, 25, 28), (1, 29.97, 17), (100, 4, 3), (33, 1, 2),
])  # fmt: skip
def test_published_videoswin_has_the_full_windows_of_ten_seconds(n, fps, rows, checkpoints, small):
    """One row per full window, in chunks of 10 s (or of one window, if that is longer), completed with black."""
    encoder = create("videoswin-t", "published", weights=checkpoints["videoswin-t"])
    chunk = max(32, round(10 * fps))
    clip = np.full((n, 72, 72, 3), 1, np.uint8) * np.arange(1, n + 1).astype(np.uint8)[:, None, None, None]
    filled = [*(np.arange(1, n + 1) % 256), *[0] * (-n % chunk)]
    starts = [start for first in range(0, len(filled), chunk) for start in range(first, first + chunk - 31, 16)]
    items = list(encoder.items(ArrayClip(clip, fps=fps)))
    assert len(items) == len(starts) == rows
    assert [item[:, 0, 0, 0].tolist() for item in items] == [filled[start : start + 32] for start in starts]


@pytest.mark.parametrize("length, stride", [(16, 16), (32, 16), (4, 3), (1, 1)])
def test_windows(length, stride):
    for n in range(1, 4 * length + 3):
        clip = list(range(1, n + 1))
        number = 1 + max(0, -(-(n - length) // stride))
        starts = [i * stride for i in range(number)]
        if n < length:
            expected = [clip + [n] * (length - n)]
        else:
            expected = [clip[start : start + length] for start in [*starts[:-1], n - length]]
        windows = list(frames.windows(clip, length, stride))
        assert windows == expected and len(windows) == number
        assert list(frames.full_windows(clip, length, stride)) == [
            clip[start : start + length] for start in starts if start + length <= n
        ]
    assert list(frames.windows([], length, stride)) == []


def test_filled_with_black():
    frame = np.ones((2, 2, 3), np.uint8)
    for n, multiple, black in ((1, 4, 3), (4, 4, 0), (5, 4, 3), (0, 4, 0), (3, 1, 0)):
        assert [image.max() for image in frames.filled([frame] * n, multiple)] == [1] * n + [0] * black


# ------------------------------------------------------------------------------- weights


def test_missing_weights_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("BLEMORE_WEIGHTS", str(tmp_path / "here"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        with pytest.raises(FileError) as caught:
            create(name).load()
        encoder, message = encoder_class(name), str(caught.value)
        assert encoder.weights in message and encoder.licence in message and "--weights" in message
        assert encoder.file is None or str(tmp_path / "here") in message and encoder.file in message
        with pytest.raises(FileError, match="no-such-file.pth"):
            create(name, weights="no-such-file.pth").load()


def test_finds_a_known_file_in_the_weights_folder(checkpoints, monkeypatch, tmp_path):
    monkeypatch.setenv("BLEMORE_WEIGHTS", str(tmp_path))
    (tmp_path / encoder_class("imagebind").file).symlink_to(checkpoints["imagebind"])
    a, b = create("imagebind"), create("imagebind", weights=checkpoints["imagebind"])
    assert np.array_equal(a.encode(ArrayClip(noise(2))), b.encode(ArrayClip(noise(2))))
    assert a.revision == b.revision, "the revision does not depend on the path"


@pytest.mark.parametrize("best", ["model.safetensors", "pytorch_model.bin"])
def test_fetches_settings_and_weights_in_one_format_from_the_hub(best, checkpoints, monkeypatch, tmp_path):
    """From a folder in place of the hub: safetensors if there are any, else torch's own format."""
    hub, cache = tmp_path / "hub", tmp_path / "cache"
    clip_model().save_pretrained(hub)
    torch.save(clip_model().state_dict(), hub / "pytorch_model.bin")
    for name in {"model.safetensors"} - {best}:
        (hub / name).unlink()

    def fetch(hub_id, allow_patterns, ignore_patterns, local_files_only):
        assert hub_id == "openai/clip-vit-base-patch32" and not local_files_only
        for file in hub.iterdir():
            if any(file.match(pattern) for pattern in allow_patterns):
                cache.mkdir(exist_ok=True)
                (cache / file.name).write_bytes(file.read_bytes())
        return str(cache)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    monkeypatch.chdir(tmp_path)
    expected = create("clip", weights=checkpoints["clip"]).encode(ArrayClip(noise(2)))
    assert np.array_equal(create("clip").encode(ArrayClip(noise(2))), expected)
    assert {file.name for file in cache.iterdir()} == {"config.json", best}


def test_revisions_of_different_weights_differ(tmp_path):
    revisions = set()
    for seed in (0, 1):
        torch.save(randomise(ImageBind(**TINY["imagebind"]), seed).state_dict(), tmp_path / f"{seed}.pth")
        revisions.add(create("imagebind", weights=tmp_path / f"{seed}.pth").revision)
        clip_model(projection_dim=16 + seed).save_pretrained(tmp_path / f"clip{seed}")
        revisions.add(create("clip", weights=tmp_path / f"clip{seed}").revision)
    assert len(revisions) == 4


def test_safetensors_and_wrapped_checkpoints_are_read(checkpoints, tmp_path):
    state = original("videomaev2").state_dict()
    save_file(state, tmp_path / "a.safetensors")
    torch.save({"state_dict": {"model": state}, "args": argparse.Namespace(lr=1)}, tmp_path / "b.pt")
    expected = create("videomaev2", weights=checkpoints["videomaev2"]).encode(ArrayClip(noise(2)))
    for file in ("a.safetensors", "b.pt"):
        assert np.array_equal(create("videomaev2", weights=tmp_path / file).encode(ArrayClip(noise(2))), expected)


@pytest.mark.parametrize("name", ["imagebind", "videoswin-t", "clip", "hubert"])
def test_names_with_the_prefix_of_parallel_training(name, checkpoints, tmp_path):
    if name == "hubert":
        whole = t.HubertModel(t.HubertConfig(**LAYERS, num_feat_extract_layers=2, conv_dim=(8, 8), conv_kernel=(400, 1),
                                             conv_stride=(320, 1), num_conv_pos_embeddings=4,
                                             num_conv_pos_embedding_groups=2)).eval()  # fmt: skip
    else:
        whole = original(name)
    state = {f"module.{key}": value for key, value in whole.state_dict().items()}
    paths = tmp_path / "plain", tmp_path / "parallel"
    if name in ("clip", "hubert"):
        for path in paths:
            whole.save_pretrained(path)
        save_file({key: value.contiguous() for key, value in state.items()}, paths[1] / "model.safetensors")
    else:
        torch.save(whole.state_dict(), paths[0])
        torch.save(state, paths[1])
    clip = ArrayClip(noise(3), np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32))
    encoders = [create(name, weights=path, device="cpu") for path in paths]
    for encoder in encoders:
        encoder.dim = 32 if name == "hubert" else encoder.dim
    plain, parallel = (encoder.encode(clip) for encoder in encoders)
    assert np.array_equal(plain, parallel)


def mmaction_names(state):
    """torchvision's names replaced by those of the authors' own code: the inverse of the encoder's rules."""
    names = {}
    for key in state:
        stage = re.match(r"features\.(\d+)\.(.*)", key)
        name = key
        if stage and int(stage[1]) % 2:
            name = f"layers.{int(stage[1]) // 2}.downsample.{stage[2]}"
        elif stage:
            name = f"layers.{int(stage[1]) // 2}.blocks.{stage[2]}".replace("mlp.0.", "mlp.fc1.").replace(
                "mlp.3.", "mlp.fc2."
            )
        names[name] = state[key]
    return names


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.backbone."])
@pytest.mark.parametrize("name", ["videoswin-t", "videoswin-s", "videoswin"])
def test_videoswin_of_mmaction(name, prefix, checkpoints, small, tmp_path):
    state = {key: value for key, value in original(name).state_dict().items() if not key.startswith("head.")}
    renamed = {prefix + key: value for key, value in mmaction_names(state).items()}
    if prefix:
        renamed[prefix.replace("backbone", "cls_head") + "fc_cls.weight"] = torch.zeros(13, 4)
    torch.save({"state_dict": renamed, "meta": {"epoch": 30}}, tmp_path / "swin.pth")
    expected = create(name, weights=checkpoints[name]).encode(ArrayClip(noise(33)))
    assert np.array_equal(create(name, weights=tmp_path / "swin.pth").encode(ArrayClip(noise(33))), expected)
    absent = next(key for key in renamed if key.endswith("layers.0.blocks.0.mlp.fc2.bias"))
    torch.save({"state_dict": {key: value for key, value in renamed.items() if key != absent}}, tmp_path / "swin.pth")
    with pytest.raises(ValidationError, match=f"missing: {re.escape(absent.removeprefix('module.'))}\n"):
        create(name, weights=tmp_path / "swin.pth").load()


BOMB = Path(tempfile.gettempdir(), "a-checkpoint-ran-code")


class Bomb:
    def __reduce__(self):
        return (open, (str(BOMB), "w"))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_an_invalid_checkpoint_is_refused_and_its_code_never_run(suffix, tmp_path):
    path = tmp_path / f"bad{suffix}"
    torch.save({"model": Bomb()}, path)
    for content in (b"", b"not a checkpoint", path.read_bytes(), path.read_bytes()[:200]):
        path.write_bytes(content)
        with pytest.raises(ValidationError, match="not a readable checkpoint"):
            create("imagebind", weights=path).load()
    assert not BOMB.exists()


def test_loads_once_and_is_sent_unloaded(checkpoints):
    encoder = create("videomaev2", weights=checkpoints["videomaev2"])
    rows = encoder.encode(ArrayClip(noise(3)))
    model = encoder.model
    encoder.encode(ArrayClip(noise(3)))
    assert encoder.model is model
    payload = bytes(ForkingPickler.dumps(encoder))
    assert len(payload) < 10_000
    assert np.array_equal(ForkingPickler.loads(payload).encode(ArrayClip(noise(3))), rows)


# ------------------------------------------------------------------------------- any model of transformers

# Kind, configuration, image processor, side of the image, and whether only the shorter side is resized to it.
HF_MODELS = [
    ("dinov2", t.Dinov2Config(**LAYERS, image_size=28, patch_size=14), t.BitImageProcessorPil, 28, True),
    ("vit", t.ViTConfig(**LAYERS, image_size=32), t.ViTImageProcessorPil, 32, False),
    ("vit_mae", t.ViTMAEConfig(**LAYERS, image_size=64), t.ViTImageProcessorPil, 64, False),
    ("convnext", t.ConvNextConfig(hidden_sizes=[8, 32], depths=[1, 1], num_stages=2),
     t.ConvNextImageProcessorPil, 64, True),
    ("siglip", t.SiglipVisionConfig(**LAYERS, image_size=32, patch_size=8), t.SiglipImageProcessorPil, 32, False),
]  # fmt: skip


@pytest.mark.parametrize("kind, config, processor, side, by_short_side", HF_MODELS, ids=[row[0] for row in HF_MODELS])
def test_any_vision_model(kind, config, processor, side, by_short_side, tmp_path):
    model = randomise(t.AutoModel.from_config(config))
    square = {"height": side, "width": side}
    prepare = processor(size={"shortest_edge": side} if by_short_side else square, crop_size=square)
    folder = tmp_path / f"my {kind}"
    model.save_pretrained(folder)
    prepare.save_pretrained(folder)
    encoder = create(f"hf-image:{folder}")
    assert encoder.name == f"hf-image_my_{kind}" and encoder.dim == 32
    clip = noise(17)
    features = encoder.encode(ArrayClip(clip))
    assert features.shape == (17, encoder.dim) and np.array_equal(encoder.encode(ArrayClip(clip)), features)
    pixels = prepare([*clip], return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    if kind != "vit_mae":
        expected = model(pixel_values=pixels).pooler_output.flatten(1)
        assert (expected - torch.from_numpy(features)).abs().max() <= 1e-5
    encoder.batch_size = 1
    assert np.abs(encoder.encode(ArrayClip(clip)) - features).max() <= 1e-5


def test_hf_image_of_clip_is_near_the_encoder_clip(checkpoints, tmp_path):
    vision = clip_model(image_size=224, patch_size=56)
    whole_clip_model(vision).save_pretrained(tmp_path)
    CLIPImageProcessorPil().save_pretrained(tmp_path)
    clip = ArrayClip(np.stack([photo(480, 640), photo(480, 640)[::-1].copy()]))
    general, special = create(f"hf-image:{tmp_path}").encode(clip), create("clip", weights=tmp_path).encode(clip)
    cosine = (general * special).sum(1) / np.linalg.norm(general, axis=1) / np.linalg.norm(special, axis=1)
    assert general.shape == special.shape and cosine.min() > 1 - 1e-3


def test_a_pooler_missing_from_the_checkpoint_is_not_used(tmp_path):
    model = randomise(t.ViTForImageClassification(t.ViTConfig(**LAYERS, image_size=32)))
    model.save_pretrained(tmp_path)
    t.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    encoder = create(f"hf-image:{tmp_path}")
    pixels = torch.from_numpy(np.stack([*encoder_loaded(encoder).items(ArrayClip(noise(3)))]))
    expected = model.vit(pixel_values=pixels).last_hidden_state.mean(1)
    assert np.abs(encoder.encode(ArrayClip(noise(3))) - expected.numpy()).max() <= 1e-5


def encoder_loaded(encoder):
    encoder.load()
    return encoder


def test_code_in_a_models_folder_is_never_run(tmp_path):
    auto_map = {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": auto_map}))
    (tmp_path / "mine.py").write_text("raise SystemExit('was run')")
    with pytest.raises(ValidationError, match="contains custom code"):
        create(f"hf-image:{tmp_path}").load()


def test_names():
    assert set(NAMES) < set(ENCODERS)
    with pytest.raises(ValidationError, match="hf-image:ID"):
        create("hf-imag:x/y")
    with pytest.raises(ValidationError, match="hf-image:ID"):
        create("hf-image:")
    assert create("hf-image:facebook/dinov2-base").name == "hf-image_facebook_dinov2-base"
    assert weights.folder_name("/a/b c") == "b_c"


# ------------------------------------------------------------------------------- any VideoMAE

VIDEOMAE = {**LAYERS, "image_size": 32, "patch_size": 16, "num_frames": 16, "decoder_num_hidden_layers": 1,
            "decoder_hidden_size": 16, "decoder_num_attention_heads": 1, "decoder_intermediate_size": 16}  # fmt: skip
SQUARE = {"height": 32, "width": 32}


def videomae_folder(model, folder):
    model.save_pretrained(folder)
    t.VideoMAEImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE).save_pretrained(folder)
    return create(f"hf-video:{folder}", device="cpu")


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("kind", [t.VideoMAEForVideoClassification, t.VideoMAEForPreTraining, t.VideoMAEModel])
def test_any_videomae(kind, pooled, tmp_path):
    """The classifier's input, else the mean over the tokens, of 16 frames at a time; the windows overlap."""
    model = randomise(kind(t.VideoMAEConfig(**VIDEOMAE, num_labels=4, use_mean_pooling=pooled)))
    encoder = videomae_folder(model, tmp_path / "my VideoMAE")
    clip = noise(17)
    features = encoder.encode(ArrayClip(clip))
    assert encoder.name == "hf-video_my_VideoMAE" and encoder.dim == 32
    assert features.shape == (2, 32) and np.array_equal(encoder.encode(ArrayClip(clip)), features)
    processor = t.VideoMAEImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE)
    pixels = [processor(list(clip[part]), return_tensors="pt")["pixel_values"] for part in (slice(16), slice(1, 17))]
    expected = []
    if kind is t.VideoMAEForVideoClassification:
        model.classifier.register_forward_hook(lambda module, inputs, output: expected.append(inputs[0]))
        [model(part) for part in pixels]
    else:
        trunk = model if kind is t.VideoMAEModel else model.videomae
        expected = [trunk(part).last_hidden_state.mean(1) for part in pixels]
    assert np.abs(features - torch.cat(expected).numpy()).max() <= 1e-5
    assert len(encoder.encode(ArrayClip(clip[:3]))) == 1


def test_hf_video_refuses_other_models(tmp_path):
    randomise(t.AutoModel.from_config(t.ViTConfig(**LAYERS, image_size=32))).save_pretrained(tmp_path)
    with pytest.raises(ValidationError, match="a model of the type vit; expected videomae"):
        create(f"hf-video:{tmp_path}").load()


def test_wrong_keys_of_hf_video_are_refused_by_name(tmp_path):
    model = randomise(t.VideoMAEForVideoClassification(t.VideoMAEConfig(**VIDEOMAE, num_labels=4)))
    state = {key: value for key, value in model.state_dict().items() if key != "fc_norm.weight"}
    encoder = videomae_folder(model, tmp_path)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValidationError, match=r"missing: fc_norm\.weight"):
        encoder.load()
