"""Audio encoders with weights, on random checkpoints as transformers saves them."""

import numpy as np
import pytest
import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from blemore.errors import BlemoreError, ValidationError
from blemore_baselines.clips.media import ArrayClip, Clip, MediaError
from blemore_baselines.encoders import speech
from blemore_baselines.encoders.speech import HFAudio, Hubert, WavLM, normalised, parse_layers, pieces

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}
MODELS = {Hubert: (HubertConfig, HubertModel), WavLM: (WavLMConfig, WavLMModel)}
MEDIA = ["single_face.mp4", "no_face.mp4", "dog_audio.wav"]


pytestmark = pytest.mark.usefixtures("one_thread")


def save(folder, config, model, seed=0, extractor=None):
    torch.manual_seed(seed)
    model = model(config)
    with torch.no_grad():  # norms without effect would hide errors in their order
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    (extractor or Wav2Vec2FeatureExtractor(do_normalize=True)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    return {
        **{cls: save(root / cls.name, config(**TINY), model) for cls, (config, model) in MODELS.items()},
        "ctc": save(root / "ctc", Wav2Vec2Config(**TINY, vocab_size=7), Wav2Vec2ForCTC),
        "whisper": save(
            root / "whisper",
            WhisperConfig(
                d_model=32,
                encoder_layers=2,
                encoder_attention_heads=2,
                encoder_ffn_dim=32,
                decoder_layers=1,
                decoder_attention_heads=2,
                decoder_ffn_dim=32,
                vocab_size=20,
                max_target_positions=8,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
                decoder_start_token_id=1,
            ),
            WhisperModel,
            extractor=WhisperFeatureExtractor(),
        ),
        "ast": save(
            root / "ast",
            ASTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_length=256),
            ASTModel,
            extractor=ASTFeatureExtractor(max_length=256),
        ),
    }


def tiny(cls, folders, **options):
    encoder = cls(weights=folders[cls], device="cpu", **options)
    encoder.dim = TINY["hidden_size"]
    return encoder


def sound(samples: int, level: float = 0.3) -> np.ndarray:
    return np.random.default_rng(samples).uniform(-level, level, samples).astype(np.float32)


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize(
    "seconds, rows", [(1 / 16_000, 1), (0.02, 1), (0.025, 1), (0.1, 4), (1, 49), (5, 249), (30, 1499)]
)
def test_contract(cls, seconds, rows, folders):
    encoder = tiny(cls, folders)
    clip = ArrayClip(audio=sound(round(seconds * 16_000)))
    features = encoder.encode(clip)
    assert features.shape == (rows, 32) and features.dtype == np.float32
    encoder.encode(ArrayClip(audio=sound(700)))
    assert np.array_equal(encoder.encode(clip), features)
    assert np.array_equal(tiny(cls, folders).encode(clip), features)


@pytest.mark.parametrize("cls", MODELS)
def test_equals_the_model_on_its_normalised_sound(cls, folders):
    model = MODELS[cls][1].from_pretrained(folders[cls]).eval()
    wave = sound(20_000) + 0.1
    with torch.inference_mode():
        scaled = torch.nn.functional.layer_norm(torch.from_numpy(wave), wave.shape)
        expected = model(scaled[None]).last_hidden_state[0].numpy()
    assert np.abs(tiny(cls, folders).encode(ArrayClip(audio=wave)) - expected).max() < 1e-5


@pytest.mark.parametrize("preset, deviation", [("published", (1 / 11) ** 0.5), ("reference", (1 / 1.1) ** 0.5)])
def test_quiet_clips(preset, deviation):
    """At rms 0.001, an ε of 1e-5 is ten times the variance, and one of 1e-7 a tenth."""
    wave = np.tile([0.001, -0.001], 8000)
    result = normalised(wave.astype(np.float32), speech.EPSILON[preset])
    assert result.std() == pytest.approx(deviation, rel=1e-4) and result.dtype == np.float32
    by_extractor = Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm([wave.astype(np.float32)], None)[0]
    by_layer_norm = torch.nn.functional.layer_norm(torch.from_numpy(wave.astype(np.float32)), wave.shape).numpy()
    assert np.allclose(result, {"published": by_layer_norm, "reference": by_extractor}[preset], atol=1e-5)


def test_a_short_sound_is_normalised_then_padded():
    result = normalised(np.array([1, 3] * 100, np.float32), 1e-5)
    assert len(result) == 400 and np.allclose(result[:200], [-1, 1] * 100, atol=1e-4) and not result[200:].any()


@pytest.mark.parametrize("cls", MODELS)
def test_layers(cls, folders):
    """The output of a layer is taken as it is; even the last one is not normalised again."""
    clip, outputs = ArrayClip(audio=sound(8000)), []
    encoder = tiny(cls, folders)
    encoder.load()
    for layer in encoder.model.encoder.layers:
        layer.register_forward_hook(
            lambda module, inputs, output: outputs.append((output[0] if isinstance(output, tuple) else output)[0])
        )
    final = encoder.encode(clip)
    for first, last in [(1, 1), (2, 3), (3, 3)]:
        selection = tiny(cls, folders, layers=f"{first}-{last}")
        expected = torch.stack(outputs[first - 1 : last]).mean(dim=0).numpy()
        assert np.abs(selection.encode(clip) - expected).max() < 1e-5
        assert np.abs(selection.encode(clip) - final).max() > 0.1
    assert {tiny(cls, folders, layers=layers).revision for layers in (None, "2-3", "3", "3-3")} >= {encoder.revision}
    assert len({tiny(cls, folders, layers=layers).revision for layers in (None, "2-3", "3", "3-3")}) == 3


@pytest.mark.parametrize("text", ["0-3", "5-2", "a", "", "-2", "1-2-3", "6,7"])
def test_invalid_layers(text):
    with pytest.raises(ValidationError, match="6-12"):
        parse_layers(text)


def test_a_layer_beyond_the_model(folders):
    with pytest.raises(ValidationError, match="no layer 4; expected 1 to 3"):
        tiny(Hubert, folders, layers="2-4").load()


def test_long_sounds_are_cut_without_losing_or_repeating_a_row(folders, monkeypatch):
    monkeypatch.setattr(speech, "PIECE", 20)
    for samples in (400, 6400 + 79, 6400 + 80, 6400 + 400, 100_000):
        parts = list(pieces(np.arange(samples)))
        firsts = [part[0] + 320 * row for part in parts for row in range(1 + (len(part) - 400) // 320)]
        assert firsts == [320 * row for row in range(1 + (samples - 400) // 320)]
        assert all(1 <= 1 + (len(part) - 400) // 320 <= 20 for part in parts)
    wave = sound(100_000)
    assert tiny(Hubert, folders).encode(ArrayClip(audio=wave)).shape == (312, 32)


def test_sounds_up_to_40_s_are_whole():
    assert len(list(pieces(np.zeros(640_000)))) == 1 and len(list(pieces(np.zeros(642_000)))) == 2


@pytest.mark.parametrize("cls", MODELS)
def test_the_layout_of_the_published_files(cls, folders, tmp_path):
    """torch's own format, in which the parts of the positional convolution have the names of older torch versions."""
    config, model = MODELS[cls]
    instance = model.from_pretrained(folders[cls])
    older = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = {name: value.clone() for name, value in instance.state_dict().items()}
    for new, old in older.items():
        state[f"encoder.pos_conv_embed.conv.{old}"] = state.pop(f"encoder.pos_conv_embed.conv.{new}")
    instance.config.save_pretrained(tmp_path)
    torch.save(state, tmp_path / "pytorch_model.bin")
    clip = ArrayClip(audio=sound(5000))
    assert np.array_equal(tiny(cls, {cls: tmp_path}).encode(clip), tiny(cls, folders).encode(clip))


@pytest.mark.parametrize("cls", MODELS)
def test_wrong_checkpoints_are_refused_by_name(cls, folders, tmp_path):
    config, model = MODELS[cls]

    def encoder_with(change):
        instance = model(config(**TINY))
        state = instance.state_dict()
        change(state)
        instance.save_pretrained(tmp_path, state_dict=state)
        return cls(weights=tmp_path, device="cpu")

    with pytest.raises(ValidationError, match=r"missing: .*layers\.1\.final_layer_norm\.weight"):
        encoder_with(lambda state: state.pop("encoder.layers.1.final_layer_norm.weight")).load()
    with pytest.raises(ValidationError, match="extra: surplus"):
        encoder_with(lambda state: state.update(surplus=torch.zeros(2))).load()
    with pytest.raises(ValidationError, match=r"misshapen: .*feature_projection\.projection\.bias"):
        encoder_with(lambda state: state.update({"feature_projection.projection.bias": torch.zeros(5)})).load()


@pytest.mark.parametrize("cls", [*MODELS, HFAudio])
def test_missing_weights_name_source_and_licence(cls, tmp_path):
    encoder = cls(weights=tmp_path / "none", device="cpu")
    with pytest.raises(BlemoreError) as caught:
        _ = encoder.revision
    assert (
        encoder.weights in str(caught.value)
        and encoder.licence in str(caught.value)
        and "--weights" in str(caught.value)
    )


def test_revisions_of_different_weights_differ(folders, tmp_path):
    folder = save(tmp_path, HubertConfig(**TINY), HubertModel, seed=1)
    assert (
        Hubert(weights=folders[Hubert]).revision
        == Hubert(weights=folders[Hubert]).revision
        != Hubert(weights=folder).revision
    )


def test_bf16_is_near(folders):
    clip = ArrayClip(audio=sound(16_000))
    for cls in MODELS:
        exact, rough = tiny(cls, folders).encode(clip), tiny(cls, folders, precision="bf16").encode(clip)
        assert rough.dtype == np.float32 and 0 < np.abs(exact - rough).max() < 0.3


# ----------------------------------------------------------------------- sounds in batches

# 20 lengths: the shortest, some around the boundary of a row, equal ones, and some far from all others.
LENGTHS = [400, 719, 720, 721, 1000, 4000, 4100, 8000, 8000, 9999, 16_000, 16_000, 16_319, 16_320, 17_000, 18_500,
           20_000, 31_000, 40_000, 47_123]  # fmt: skip


@pytest.mark.parametrize("layers", [None, "1-2"])
@pytest.mark.parametrize("accelerated", [False, True])
@pytest.mark.parametrize("cls", MODELS)
def test_rows_of_a_batch_equal_those_of_each_sound_alone(cls, accelerated, layers, folders):
    """As on a GPU, in fp32: no row sees the padding or other sounds."""
    encoder = tiny(cls, folders, layers=layers)
    encoder.load()
    sounds = [normalised(sound(length), 1e-5) for length in np.random.default_rng(0).permutation(LENGTHS)]
    expected = [encoder.encode_items([wave]) for wave in sounds]
    if accelerated:
        encoder.accelerate()
    masks = []
    encoder.model.register_forward_pre_hook(
        lambda module, inputs, options: masks.append(options["attention_mask"]), with_kwargs=True
    )
    rows = encoder.encode_batch([torch.from_numpy(wave) for wave in sounds])
    assert 1 < len(masks) < 15 and any(mask is not None for mask in masks), "sounds are batched, and some are padded"
    for batched, single in zip(rows, expected, strict=True):
        assert batched.shape == single.shape and batched.dtype == torch.float32
        assert np.abs(batched.numpy() - single).max() < 1e-5


def test_models_that_normalise_over_time_take_one_sound_at_a_time(tmp_path):
    save(tmp_path, HubertConfig(**TINY | {"feat_extract_norm": "group", "do_stable_layer_norm": False}), HubertModel)
    encoder = tiny(Hubert, {Hubert: tmp_path})
    encoder.load()
    sounds = [normalised(sound(length), 1e-5) for length in (4000, 4100, 4000)]
    rows = encoder.encode_batch([torch.from_numpy(wave) for wave in sounds])
    for batched, wave in zip(rows, sounds):
        assert np.array_equal(batched.numpy(), encoder.encode_items([wave]))


def test_any_model_gives_the_same_in_a_batch_and_alone(folders):
    encoder = HFAudio(weights=folders["ctc"], device="cpu")
    encoder.load()
    sounds = [sound(4000), sound(6000)]
    for batched, wave in zip(encoder.encode_batch([torch.from_numpy(wave) for wave in sounds]), sounds):
        assert np.array_equal(batched.numpy(), encoder.encode_items([wave]))


def test_groups_of_similar_lengths():
    """Within a fifth of the longest, and no more at a time than attention has memory for."""
    groups = speech.like_lengths([80_000] * 40 + [30_000, 64_000, 63_999])
    assert sorted(index for group in groups for index in group) == list(range(43))
    assert [41] not in groups and any(41 in group and 0 in group for group in groups), "64,000 is exactly four fifths"
    assert not any(42 in group and group[0] < 40 for group in groups) and [40] in groups
    longest = 400 + 320 * 1999
    assert [len(group) for group in speech.like_lengths([longest] * 5)] == [2, 2, 1]
    assert speech.like_lengths([]) == []


# ------------------------------------------------------------------------------- any model


@pytest.mark.parametrize(
    "name, rows", [("ctc", {0.02: 1, 1: 49, 2.5: 124}), ("whisper", {0.02: 1, 1: 50, 30: 1500}), (Hubert, {1: 49})]
)
def test_any_model(name, rows, folders):
    encoder = HFAudio(weights=folders[name], device="cpu")
    assert encoder.dim == 32 and encoder.name.startswith("hf-audio_") and "/" not in encoder.name
    for seconds, expected in rows.items():
        clip = ArrayClip(audio=sound(round(16_000 * seconds)))
        assert encoder.encode(clip).shape == (expected, 32)
        assert np.array_equal(encoder.encode(clip), HFAudio(weights=folders[name], device="cpu").encode(clip))


def test_hubert_as_any_model_equals_the_preset_reference(folders):
    clip = ArrayClip(audio=sound(9000, level=0.001))
    hubert, general = (
        tiny(Hubert, folders, preset="reference", layers="2"),
        HFAudio(weights=folders[Hubert], device="cpu", layers="2"),
    )
    assert np.abs(hubert.encode(clip) - general.encode(clip)).max() < 1e-4


@pytest.mark.parametrize("name, seconds", [("whisper", 30.1), ("ast", 2.6)])
def test_a_sound_beyond_the_models_limit_is_refused(name, seconds, folders):
    with pytest.raises(MediaError, match="the model's limit") as caught:
        HFAudio(weights=folders[name], device="cpu").encode(ArrayClip(audio=sound(round(16_000 * seconds))))
    assert caught.value.kind == "too-long"
    assert len(HFAudio(weights=folders[name], device="cpu").encode(ArrayClip(audio=sound(16_000))))


def test_another_sampling_rate(folders, tmp_path):
    save(tmp_path, Wav2Vec2Config(**TINY), Wav2Vec2ForCTC, extractor=Wav2Vec2FeatureExtractor(sampling_rate=24_000))
    assert HFAudio(weights=tmp_path, device="cpu").encode(ArrayClip(audio=sound(16_000))).shape == (74, 32)


def test_a_folder_without_an_audio_model(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValidationError, match="not a usable audio model"):
        _ = HFAudio(weights=tmp_path).dim


# ------------------------------------------------------------------------------- real sounds


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize("file", MEDIA)
def test_real_sounds(cls, file, shared, folders):
    clip = Clip(shared / "media" / file)
    assert len(tiny(cls, folders).encode(clip)) == 1 + (len(clip.audio()) - 400) // 320


@pytest.mark.parametrize("cls", MODELS)
def test_full_size(cls, long, tmp_path, shared):
    if not long:
        pytest.skip("1.3 GB of random weights: with --long")
    config, model = MODELS[cls]
    encoder = cls(weights=save(tmp_path, config(**LARGE), model), device="cpu")
    for seconds, rows in ((0.02, 1), (1, 49), (5, 249), (30, 1499)):
        assert encoder.encode(ArrayClip(audio=sound(round(16_000 * seconds)))).shape == (rows, 1024)
    assert encoder.encode(Clip(shared / "media" / "dog_audio.wav")).shape[1] == 1024
