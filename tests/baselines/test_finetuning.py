"""The parts of fine-tuning against plain implementations (frames, rates, groups, updates) and against PIL
(augmentation).
"""

import json
import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as t
from originals import hicmae as plain
from originals import randomise
from originals.videomaev2 import VideoMAEV2
from PIL import Image, ImageEnhance, ImageOps

from blemore.errors import ValidationError
from blemore_baselines.encoders import create
from blemore_baselines.encoders.hicmae import HiCMAE, HiCMAEModel, fbank
from blemore_baselines.encoders.speech import normalised
from blemore_baselines.encoders.videomaev2 import VideoMAEV2Base
from blemore_baselines.finetuning import FAMILIES, family_class
from blemore_baselines.finetuning.augment import OPERATIONS, Plan, augment, draw
from blemore_baselines.finetuning.data import epoch_batches, parts_of, stack
from blemore_baselines.finetuning.family import DropPath, Stored, test_starts
from blemore_baselines.finetuning.hicmae import PUBLISHED, HiCMAEFamily, published_test_frames, published_train_frames
from blemore_baselines.finetuning.loop import divergence
from blemore_baselines.finetuning.recipes import Recipe, parameter_groups
from blemore_baselines.finetuning.speech import SpeechFamily
from blemore_baselines.finetuning.video import VideoFamily

pytestmark = pytest.mark.usefixtures("one_thread")
test_starts.__test__ = False

SMALL = {"width": 128, "depth": 2, "fused": 2, "video_patch": (8, 32, 32), "audio_patch": (32, 32)}
SPEECH = {
    "model_type": "wavlm",
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "do_stable_layer_norm": True,
    "feat_extract_norm": "layer",
}
VIDEO = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "num_frames": 16,
    "patch_size": 16,
    "use_mean_pooling": True,
}
FAMILY = {
    "hicmae": HiCMAEFamily(SMALL),
    "video": VideoFamily({"config": VIDEO, "mean": [0.5] * 3, "std": [0.5] * 3}),
    "speech": SpeechFamily({"config": SPEECH, "normalised": True}),
}
by_family = pytest.mark.parametrize("family", FAMILY.values(), ids=FAMILY)


def stored(n, samples=80_000, side=160):
    """A clip of n frames whose brightness is their number, with noise as sound."""
    frames = np.repeat(np.arange(n) % 256, side * side * 3).reshape(n, side, side, 3).astype(np.uint8)
    sound = np.random.default_rng(n).integers(-9000, 9000, samples).astype(np.int16)
    return Stored(frames, np.arange(n) * 640, sound)


def numbers(view):
    return view["frames"][:, 0, 0, 0].tolist()


class FixedRng:
    """Not random: integers are at the given share of their range, betas are 0.5."""

    def __init__(self, share):
        self.share = share

    def integers(self, low, high=None):
        low, high = (0, low) if high is None else (low, high)
        return low + round(self.share * (high - 1 - low))

    def beta(self, a, b):
        return 0.5


# ----------------------------------------------------------------------------------- frames


def plain_train_frames(n, end):
    if n <= 64:
        points = n // 4
        spread = [min(int(Fraction(k * n, max(points - 1, 1))), n - 1) for k in range(points)]
        return spread + [n - 1] * (16 - points)
    return [min(end - 64 + int(Fraction(k * 64, 15)), end - 1) for k in range(16)]


def plain_test_frames(n):
    every = [k for k in range(n) if k % 4 == 0]
    while len(every) < 16:
        every.append(every[-1])
    views = [every[int(k * (len(every) - 16)) :][:16] for k in (0, 1)]
    return views[:1] if views[0] == views[1] else views


@pytest.mark.parametrize("n", [1, 9, 16, 17, 64, 65, 97, 400])
def test_published_frames(n):
    for end in range(64, n) or [None]:
        share = 0 if end is None or n == 65 else (end - 64) / (n - 1 - 64)
        frames, first = published_train_frames(n, FixedRng(share))
        assert (frames.tolist(), first) == (plain_train_frames(n, end), 0 if n <= 64 else end - 64)
    assert [view.tolist() for view in published_test_frames(n)] == plain_test_frames(n)


@pytest.mark.parametrize(
    "n, train, test",
    [
        (1, [0] * 16, [[0] * 16]),
        (9, [0, 8, *[8] * 14], [[0, 4, *[8] * 14]]),  # 9 // 4 = 2 points of 0…9
        (16, [0, 5, 10, 15, *[15] * 12], [[0, 4, 8, *[12] * 13]]),
        (65, [0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63], [range(0, 64, 4), range(4, 65, 4)]),
        (97, None, [range(0, 64, 4), range(36, 97, 4)]),
        (400, None, [range(0, 64, 4), range(336, 400, 4)]),
    ],
)
def test_published_frames_by_hand(n, train, test):
    assert train is None or published_train_frames(n, FixedRng(0))[0].tolist() == train
    assert [view.tolist() for view in published_test_frames(n)] == list(map(list, test))


@pytest.mark.parametrize("n, train, test", [(40, (0, 25_600), [25_600]), (100, (20, 83), [64, 100])])
def test_published_sound(n, train, test):
    """With n frames, the sound from frame a to b is the part of the samples from a / (n − 1) to b / (n − 1)."""
    clip, length = stored(n, samples=n * 640), n * 640
    clip = clip._replace(sound=(clip.sound - clip.sound.mean()).astype(np.int16))
    wave = clip.wave - clip.wave.mean()
    view = FAMILY["hicmae"].train_view(clip, PUBLISHED._replace(gain=False), FixedRng(20 / 35))
    first, last = (0, n - 1) if n <= 64 else (20, 84)
    expected = wave[int(first / (n - 1) * length) : int(last / (n - 1) * length)]
    assert np.allclose(view["spectrum"][0], fbank(expected), atol=1e-5)
    views = FAMILY["hicmae"].test_views(clip, PUBLISHED)
    ends = {40: [(0, 39)], 100: [(0, 64), (36, 99)]}[n]
    for view, (first, last) in zip(views, ends, strict=True):
        expected = wave[int(first / (n - 1) * length) : int(last / (n - 1) * length)]
        assert np.allclose(view["spectrum"][0], fbank(expected), atol=1e-5)


@pytest.mark.parametrize("n", [1, 9, 16, 17, 64, 65, 97, 400])
@pytest.mark.parametrize("name", ["hicmae", "video"])
def test_reference_frames(n, name):
    """Every 4th frame, from any first frame that leaves room for 61; at most five test views cover a clip."""
    family, clip = FAMILY[name], stored(n, side=4)
    recipe = family.recipes["reference"]
    last = max(0, n - 61)
    for share, first in ((0, 0), (1, last)):
        expected = [min(first + 4 * k, n - 1) % 256 for k in range(16)]
        assert numbers(family.train_view(clip, recipe, FixedRng(share))) == expected
    views = [numbers(view) for view in family.test_views(clip, recipe)]
    count = 1 if n <= 61 else min(5, math.ceil(n / 61))
    firsts = [int(k * last / max(count - 1, 1)) for k in range(count)]
    assert views == [[min(first + 4 * k, n - 1) % 256 for k in range(16)] for first in firsts]


def test_reference_sound_begins_with_the_first_frame():
    """25 frames per second. The clip's sound begins 0.1 s after its first frame; before that there is silence."""
    clip = stored(200, side=4)
    clip = clip._replace(at=clip.at - 1600)
    views = FAMILY["hicmae"].test_views(clip, FAMILY["hicmae"].recipes["reference"])
    wave = clip.wave - clip.wave.mean()
    silent = np.concatenate([np.zeros(1600, np.float32), wave])
    for view, first in zip(views, (0, 46, 92, 139)):
        assert numbers(view)[0] == first
        assert np.allclose(view["spectrum"][0], fbank(silent[first * 640 :][:41_200]), atol=1e-5)


def test_speech_views():
    clip = stored(1, samples=100_000)
    family, recipe = FAMILY["speech"], FAMILY["speech"].recipes["reference"]
    whole = normalised(clip.wave, 1e-7)
    assert np.array_equal(family.test_views(clip, recipe)[0]["sound"], whole)
    view = family.train_view(clip, recipe, FixedRng(1))
    assert np.array_equal(view["sound"], whole[36_000:]) and int(view["lengths"]) == 64_000
    short = family.train_view(stored(1, samples=100), recipe, FixedRng(0))
    assert len(short["sound"]) == 400 and not short["sound"][100:].any()


# ------------------------------------------------------------------------- rates and groups


def test_rates_of_the_published_recipe():
    steps, rates = 60, PUBLISHED.rates(60)
    assert len(rates) == 80 * 60 and PUBLISHED.peak == pytest.approx(1.25e-4, rel=1e-12)
    for step in range(80 * steps):
        if step < 5 * steps:
            expected = 1.25e-4 * step / (5 * steps - 1)
        else:
            share = (step - 5 * steps) / (75 * steps)
            expected = 1.25e-7 + (1.25e-4 - 1.25e-7) / 2 * (1 + math.cos(math.pi * share))
        assert rates[step] == pytest.approx(expected, rel=1e-9, abs=1e-18)
    assert rates[0] == 0 and rates[299] == rates[300] == pytest.approx(1.25e-4)
    assert rates[0] * 0.75**13 == 0 and rates[300] * 0.75**13 == pytest.approx(2.97e-6, rel=1e-3)


@pytest.mark.parametrize("epochs, warmup, steps", [(1, 0, 1), (2, 5, 3), (3, 1, 4), (4, 0.5, 3)])
def test_rates_of_short_schedules(epochs, warmup, steps):
    rates = PUBLISHED._replace(epochs=epochs, warmup=warmup).rates(steps)
    assert len(rates) == epochs * steps and np.isfinite(rates).all() and rates.max() <= PUBLISHED.peak * (1 + 1e-12)


def test_at_most_a_quarter_of_the_epochs_are_warmup():
    assert PUBLISHED.changed(epochs=8).warmup == 2 and PUBLISHED.changed(epochs=50, batch_size=None).warmup == 5
    assert PUBLISHED.changed(batch_size=64).peak == 2.5e-4 and PUBLISHED.changed(learning_rate=2e-3).peak == 2.5e-4
    assert PUBLISHED.changed(epochs=None, batch_size=None, learning_rate=None) == PUBLISHED


def test_groups_of_the_published_recipe():
    """All parameters of HiCMAE-B by name: layers 0 to 13; only tensors with at least two axes decay."""
    family = HiCMAEFamily({"width": 512})
    with torch.device("meta"):
        model = family.build()
    assert sum(parameter.numel() for parameter in model.parameters()) == 80_792_602
    groups = parameter_groups(model, PUBLISHED, family.layer, family.last_layer)
    group_of = {name: group for group in groups for name in group["names"]}
    assert set(group_of) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        layer = plain.layer_of(name, 10, 2)
        assert group_of[name]["scale"] == pytest.approx(0.75 ** (13 - layer), rel=1e-12), name
        assert group_of[name]["weight_decay"] == (0.05 if parameter.ndim > 1 else 0), name
    assert {plain.layer_of(name, 10, 2) for name in group_of} == set(range(14)) and len(groups) == 28


def test_names_are_those_of_a_fine_tuned_checkpoint(shared):
    with torch.device("meta"):
        own = {name: list(value.shape) for name, value in HiCMAEFamily({"width": 512}).build().state_dict().items()}
    assert own == json.loads((shared / "oracle" / "hicmae_keys.json").read_text())["finetuned"]


@pytest.mark.parametrize("name", ["video", "speech"])
def test_groups_of_the_other_families(name):
    family = FAMILY[name]
    model = family.build()
    groups = parameter_groups(model, family.recipes["reference"], family.layer, family.last_layer)
    layers = {part: family.layer(part) for group in groups for part in group["names"]}
    assert set(layers.values()) == set(range(5)) and len({id(p) for g in groups for p in g["params"]}) == len(layers)
    assert layers["head.weight"] == layers["head.bias"] == 4
    inner = "trunk.encoder.layer.2.output.dense.weight"
    if name == "speech":
        inner = "trunk.encoder.layers.2.feed_forward.output_dense.weight"
        assert not any(part.startswith("trunk.feature_extractor") for part in layers), "the convolutions are frozen"
        assert layers["trunk.encoder.pos_conv_embed.conv.bias"] == 0 and layers["layer_weights"] == 4
    assert layers[inner] == 3


# ------------------------------------------------------------------------------ forward and backward


def test_six_updates_agree_with_a_plain_implementation():
    """Losses, gradient norms and weights, in float64, with the published schedule."""
    family, recipe = FAMILY["hicmae"], PUBLISHED._replace(epochs=3, warmup=1, drop_path=0)
    model = randomise(family.build()).double().requires_grad_(True)
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    groups = parameter_groups(model, recipe, family.layer, family.last_layer)
    optimizer, oracle = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8), plain.AdamW(state)
    rates, rng = recipe.rates(2), np.random.default_rng(0)
    targets = torch.tensor([[0, 0.3, 0, 0.7, 0, 0], [0, 0, 0, 0, 0, 1.0]], dtype=torch.float64)
    for rate in rates:
        video = torch.from_numpy(rng.normal(size=(2, 3, 16, 160, 160)))
        audio = torch.from_numpy(rng.normal(size=(2, 1, 256, 128)))
        loss = divergence(model(video=video, audio=audio), targets).mean()
        loss.backward()
        leaves = {name: value.requires_grad_(True) for name, value in oracle.state.items()}
        logits = plain.logits(leaves, video, audio, depth=2, fused=2)
        expected = plain.divergence(logits, targets)
        gradients = dict(zip(leaves, torch.autograd.grad(expected, list(leaves.values()))))
        assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
        for name, parameter in model.named_parameters():
            assert parameter.grad.norm().item() == pytest.approx(gradients[name].norm().item(), rel=1e-6, abs=1e-12)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        optimizer.step()
        optimizer.zero_grad()
        layers = {name: plain.layer_of(name, 2, 2) for name in leaves}
        own_rates = {name: rate * 0.75 ** (5 - layer) for name, layer in layers.items()}
        oracle.step(gradients, own_rates, {name: 0.05 * (leaves[name].ndim > 1) for name in leaves})
        for name, parameter in model.named_parameters():
            assert torch.allclose(parameter.detach(), oracle.state[name], rtol=0, atol=1e-9), name


def head_inputs(encoder, name, inputs):
    """The inputs of the head of a model with an encoder's weights."""
    encoder.load()
    family, state = family_class(name).pretrained(encoder, family_class(name).recipes["reference"])
    model = family.build()
    head = {f"head.{key}": value for key, value in model.head.state_dict().items()}
    model.load_state_dict({**state, **head})
    captured = []
    model.head.register_forward_hook(lambda module, arguments, output: captured.append(arguments[0]))
    model.eval()(**inputs)
    return captured[0]


def test_videomae_v2_weights_are_loaded(tmp_path):
    torch.save(randomise(VideoMAEV2(128, 64, 2, 2, 56, 7)).state_dict(), tmp_path / "tiny.pth")
    encoder = VideoMAEV2Base("reference", weights=tmp_path / "tiny.pth", device="cpu")
    pixels = torch.randn(1, 16, 3, 224, 224)
    features = head_inputs(encoder, "videomaev2-base", {"pixels": pixels})
    assert torch.allclose(features, encoder.model(pixels), atol=1e-5)


@pytest.mark.parametrize("pooled", [True, False])
def test_videomae_weights_are_loaded(pooled, tmp_path):
    """A classifier's own norm is used if it has one; the norm of unpooled tokens is not."""
    model = randomise(t.VideoMAEForVideoClassification(t.VideoMAEConfig(**{**VIDEO, "use_mean_pooling": pooled})))
    model.save_pretrained(tmp_path)
    t.VideoMAEImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        tmp_path
    )
    pixels = torch.randn(2, 16, 3, 32, 32)
    features = head_inputs(create(f"hf-video:{tmp_path}", device="cpu"), "hf-video", {"pixels": pixels})
    model.videomae.layernorm = None
    tokens = model.videomae(pixels).last_hidden_state.mean(1)
    if pooled:
        assert torch.allclose(features, model.fc_norm(tokens), atol=1e-5)
    else:
        assert torch.allclose(features, torch.nn.functional.layer_norm(tokens, (32,), eps=1e-12), atol=1e-4)


def test_hicmae_weights_are_loaded(tmp_path):
    trunk = randomise(HiCMAEModel(*HiCMAEFamily(SMALL).sizes))
    torch.save({"model": trunk.state_dict()}, tmp_path / "tiny.pth")
    encoder = HiCMAE(weights=tmp_path / "tiny.pth", device="cpu")
    inputs = {"video": torch.randn(1, 3, 16, 160, 160), "audio": torch.randn(1, 1, 256, 128)}
    assert torch.allclose(head_inputs(encoder, "hicmae", inputs), trunk(**inputs), atol=1e-5)


def test_the_loss_is_cross_entropy_minus_the_entropy_of_the_targets():
    logits, targets = torch.randn(5, 6), torch.tensor([[0.3, 0.7, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]])[[0, 1, 1, 0, 1]]
    entropy = -torch.tensor([0.3 * math.log(0.3) + 0.7 * math.log(0.7), 0])[[0, 1, 1, 0, 1]]
    cross_entropy = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    assert torch.allclose(divergence(logits, targets), cross_entropy - entropy, atol=1e-6)


@by_family
def test_drop_path_skips_branches_per_clip(family):
    """A clip's result depends only on its own random numbers; high numbers skip nothing."""
    model = randomise(family.build()).train()
    clips = [stored(3, samples=9000 + 400 * k, side=family.side or 4) for k in (0, 1, 1)]
    views = stack([family.test_views(clip, next(iter(family.recipes.values())))[0] for clip in clips])
    inputs = family.inputs(views, [None] * 3)
    whole = model(**inputs)
    model.paths = paths = DropPath(family.branches(model), rate=0.5)
    assert paths.branches == len(family.branches(model)) > 0
    assert torch.equal(model(**inputs), whole)
    paths.rows = torch.zeros(3, paths.branches)
    dropped = model(**inputs)
    assert not torch.isclose(dropped, whole).any(1).all()
    paths.rows = torch.stack([torch.zeros(paths.branches), torch.ones(paths.branches), torch.zeros(paths.branches)])
    mixed = model(**inputs)
    assert torch.allclose(mixed[[0, 2]], dropped[[0, 2]], atol=1e-5) and not torch.allclose(mixed[1], dropped[1])


def test_drop_path_grows_from_layer_to_layer():
    """HiCMAE-B: the first block of each trunk and of the fusion is never skipped, the last with probability 0.1."""
    family = HiCMAEFamily({"width": 64})
    with torch.device("meta"):
        model = family.build()
    shares = {id(part): share for part, share in family.branches(model)}
    rates = {name: 0.1 * shares[id(part)] for name, part in model.named_modules() if id(part) in shares}
    for number in range(10):
        for name in ("encoder", "encoder_audio"):
            for part in ("attn", "mlp.fc2"):
                assert rates.pop(f"{name}.blocks.{number}.{part}") == pytest.approx(0.1 * number / 9)
    for number in range(2):
        for name in ("blocks", "blocks_audio"):
            for part in ("cross_attn", "attn", "mlp.fc2"):
                assert rates.pop(f"encoder_fusion.{name}.{number}.{part}") == pytest.approx(0.1 * number)
    assert not rates


def test_the_batch_does_not_affect_sounds_of_different_length():
    family = FAMILY["speech"]
    model, recipe = randomise(family.build()), family.recipes["reference"]
    views = [family.test_views(stored(1, samples=samples), recipe)[0] for samples in (5000, 900, 2000, 900)]
    together = model(**stack(views))
    alone = torch.cat([model(**stack([view])) for view in views])
    assert torch.allclose(together, alone, atol=1e-5)


def test_layers_are_weighted_by_a_softmax():
    """Computed from the model's hidden states; the last one after its norm."""
    family = FAMILY["speech"]
    model = randomise(family.build())
    sound = torch.randn(1, 2000)
    output = model.trunk(sound, output_hidden_states=True)
    layers = [*output.hidden_states[:-1], output.last_hidden_state]
    weights = torch.exp(model.layer_weights) / torch.exp(model.layer_weights).sum()
    expected = model.head(sum(w * layer.mean(1) for w, layer in zip(weights, layers)))
    assert torch.allclose(model(sound=sound, lengths=torch.tensor([2000])), expected, atol=1e-5)


def test_the_last_layer_only_on_request():
    """No other layer is used, and there are no layer weights for the optimiser."""
    encoder = SimpleNamespace(load=lambda: None, model=t.WavLMModel(t.WavLMConfig(**SPEECH)))
    family, state = SpeechFamily.pretrained(encoder, SpeechFamily.recipes["last-layer"])
    model = randomise(family.build())
    names = {name for name, _ in model.named_parameters()}
    assert "layer_weights" not in names | set(state)
    assert set(state) == {name for name in model.state_dict() if not name.startswith("head.")}
    sounds, lengths = torch.randn(2, 2000), torch.tensor([2000, 1300])
    parts = [model.trunk(sound[None, :length]).last_hidden_state for sound, length in zip(sounds, lengths)]
    expected = torch.cat([model.head(part.mean(1)) for part in parts])
    assert torch.allclose(model(sound=sounds, lengths=lengths), expected, atol=1e-5)
    again = SpeechFamily(json.loads(json.dumps(family.settings)))
    assert again.build().state_dict().keys() == model.state_dict().keys(), "model.json records the recipe"


def test_training_mode_is_deterministic():
    """The layer drop, time masks and dropout of the pre-training are off: training and test mode give the same."""
    config = t.WavLMConfig(**SPEECH, layerdrop=0.5, mask_time_prob=0.5, hidden_dropout=0.5).to_dict()
    encoder = SimpleNamespace(load=lambda: None, model=t.WavLMModel(t.WavLMConfig(**config)))
    family, state = SpeechFamily.pretrained(encoder, SpeechFamily.recipes["reference"])
    model = randomise(family.build())
    assert {name for name in model.state_dict() if not name.startswith("head.")} == set(state)
    inputs = {"sound": torch.randn(2, 9000), "lengths": torch.tensor([9000, 9000])}
    still = model.eval()(**inputs)
    assert torch.equal(model.train()(**inputs), still) and torch.equal(model(**inputs), still)


# ------------------------------------------------------------------------------- augmentation


@pytest.fixture(scope="module")
def pictures():
    """Three frames (3, 40, 40, 3) uint8: smooth, noisy, and with few colours."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :40]
    smooth = np.stack([3 * x + 60, 2 * y + 90, x + y + 50], -1)
    return np.stack([smooth, smooth + rng.integers(-40, 40, smooth.shape), smooth // 64 * 64 + 5]).astype(np.uint8)


PIL = {
    "auto-contrast": lambda image, strength: ImageOps.autocontrast(image),
    "equalize": lambda image, strength: ImageOps.equalize(image),
    "invert": lambda image, strength: ImageOps.invert(image),
    "posterize": lambda image, strength: ImageOps.posterize(image, 4 - int(strength)),
    "solarize": lambda image, strength: ImageOps.solarize(image, 256 - int(strength)),
    "colour": lambda image, strength: ImageEnhance.Color(image).enhance(1 + strength),
    "contrast": lambda image, strength: ImageEnhance.Contrast(image).enhance(1 + strength),
    "brightness": lambda image, strength: ImageEnhance.Brightness(image).enhance(1 + strength),
    "sharpness": lambda image, strength: ImageEnhance.Sharpness(image).enhance(1 + strength),
}


def applied(name, strength, pictures):
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    return OPERATIONS[name][0](x, strength).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("name", PIL)
@pytest.mark.parametrize("level", [0.4, 0.7, 0.9])
def test_colours_change_as_in_pil(name, level, pictures):
    _, scale, signed = OPERATIONS[name]
    for strength in (level * scale, -level * scale)[: 1 + signed]:
        expected = np.stack([PIL[name](Image.fromarray(picture), strength) for picture in pictures])
        # PIL truncates gray and mixed values, which are rounded here.
        assert np.abs(applied(name, strength, pictures) - expected).max() <= 2


def test_solarize_add():
    picture = np.full((1, 2, 2, 3), 100, np.uint8)
    picture[0, 0, 0] = 128
    assert (applied("solarize-add", 77.9, picture)[0, :, :, 0] == [[128, 177], [177, 177]]).all()


@pytest.mark.parametrize(
    "name, strength, matrix",
    [
        ("shear-x", 0.2, (1, 0.2, -0.2 * 20, 0, 1, 0)),
        ("shear-y", -0.2, (1, 0, 0, -0.2, 1, 0.2 * 20)),
        ("translate-x", 0.25, (1, 0, 10, 0, 1, 0)),
        ("translate-y", -0.25, (1, 0, 0, 0, 1, -10)),
        ("rotate", 20, None),
    ],
)
def test_pictures_move_as_in_pil(name, strength, matrix, pictures):
    """Around the centre, with gray beyond the border. Bicubic kernels differ slightly, mostly at edges."""
    image, fill = Image.fromarray(pictures[0]), (128, 128, 128)
    if matrix:
        expected = image.transform((40, 40), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=fill)
    else:
        expected = image.rotate(strength, Image.Resampling.BICUBIC, fillcolor=fill)
    errors = np.abs(applied(name, strength, pictures[:1])[0] - np.asarray(expected))
    assert np.median(errors) <= 1 and (errors > 8).mean() < 0.1


def augmented(frames, plan):
    return augment(frames[None], [plan], (0.5,) * 3, (0.25,) * 3)[0]


def test_all_frames_get_the_same_plan_and_are_normalised():
    frames = torch.from_numpy(
        np.repeat(np.random.default_rng(0).integers(0, 256, (1, 24, 24, 3)), 4, 0).astype(np.uint8)
    )
    rng = np.random.default_rng(3)
    for _ in range(20):
        plan = draw(rng, 24, PUBLISHED)
        out = augmented(frames, plan)
        assert out.shape == (4, 3, 24, 24) and torch.equal(augmented(frames, plan), out)
        whole = augmented(frames, plan._replace(hole=None))
        assert all(torch.equal(whole[0], frame) for frame in whole)
        if plan.hole:
            top, left, height, width = plan.hole
            noise = out[:, :, top : top + height, left : left + width]
            assert not torch.equal(noise[0], noise[1]) and 0.02 * 24**2 * 0.7 < height * width < 24**2 / 3 * 1.3
            noise[:] = whole[:, :, top : top + height, left : left + width]
            assert torch.equal(out, whole)
    still = augmented(frames, None)
    assert torch.allclose(still[0].permute(1, 2, 0), (frames[0] / 255 - 0.5) / 0.25, atol=1e-6)
    flipped = augmented(frames, Plan((), (0, 0, 24, 24), True, None, 0))
    assert torch.equal(flipped.flip(-1), still)


def test_each_clip_of_a_batch_gets_its_own_plan():
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 2, 24, 24, 3)).astype(np.uint8))
    plans = [draw(np.random.default_rng(1), 24, PUBLISHED), None, draw(np.random.default_rng(2), 24, PUBLISHED)]
    batch = augment(frames, plans, (0.5,) * 3, (0.25,) * 3)
    assert all(torch.equal(row, augmented(*pair)) for row, *pair in zip(batch, frames, plans))


def test_frequencies_of_operations():
    """RandAugment: 4 draws, each applied with probability 0.5; flip 0.5; hole 0.25; crops from 8 % of the area."""
    rng = np.random.default_rng(0)
    plans = [draw(rng, 160, PUBLISHED) for _ in range(2000)]
    assert np.mean([len(plan.operations) for plan in plans]) == pytest.approx(2, abs=0.1)
    assert np.mean([plan.flip for plan in plans]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([plan.hole is not None for plan in plans]) == pytest.approx(0.25, abs=0.05)
    areas = np.array([plan.crop[2] * plan.crop[3] / 160**2 for plan in plans])
    assert areas.min() >= 0.078 and areas.min() < 0.1 and areas.max() > 0.9
    assert {name for plan in plans for name, _ in plan.operations} == set(OPERATIONS) and len(OPERATIONS) == 15
    degrees = np.array([strength for plan in plans for name, strength in plan.operations if name == "rotate"])
    assert np.abs(degrees).mean() == pytest.approx(21, abs=0.5) and (degrees < 0).mean() == pytest.approx(0.5, abs=0.15)


# ------------------------------------------------------------------------------------- batches


def test_every_clip_of_a_batch_is_in_one_part():
    recipe = PUBLISHED._replace(batch_size=7)
    first, second = (epoch_batches(30, recipe, 0, epoch) for epoch in (0, 1))
    assert [len(batch) for batch in first] == [7] * 4 and len(set(np.concatenate(first))) == 28
    assert not np.array_equal(first[0], second[0])
    for count in (1, 2, 3):
        parts = [part for i in range(count) for part in parts_of(first[0], (i, count), at_once=2)]
        assert sorted(np.concatenate(parts)) == sorted(first[0]) and max(map(len, parts)) == 2


def test_shorter_sounds_are_padded_with_zeros():
    batch = stack([{"sound": torch.ones(2)}, {"sound": torch.ones(4)}])
    assert batch["sound"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_a_reference_recipe(name):
    recipe = family_class(name).recipes["reference"]
    assert isinstance(recipe, Recipe) and not recipe.published and recipe.rates(3).max() == pytest.approx(recipe.peak)


def test_other_encoders_are_refused():
    with pytest.raises(ValidationError, match=r"logmel.*cannot be fine-tuned; expected one of hicmae"):
        family_class("logmel")


def test_initial_layer_weights_are_as_published():
    initial = HiCMAEModel.initial(64, 10)
    assert torch.equal(initial["video_layer_weights"], torch.full((10,), 0.1))
