"""HiCMAE: face and voice together (Sun et al., 2024; https://github.com/sunlicai/HiCMAE, code MIT).

A row stands for 16 faces, every 4th of the clip, and their sound. It has four parts of the model's width, layer-normed
together: video | audio | video after attention to the audio | audio after attention to the video. The first two are
means over the tokens, summed over the ten layers of each encoder, weighted by the softmax of learned weights; the last
two are means over the tokens after the fusion.

Preset `published`, as the challenge's features were made: windows of 16 sampled faces that do not overlap. The last
window is filled with zeros after normalisation; a clip with fewer than 16 sampled faces repeats its last one. A
window's sound is a share of the clip's samples: of n frames, from first / (n − 1) to (last + 4) / (n − 1). The original
also scales the sound by an unseeded random gain. It is left out here, so official values can differ by up to 0.09.
`reference`: the last window holds the clip's last 16 sampled faces, and a window's sound is the 2.56 s from the time of
its first face. If the file's sound and video start at different times, that is taken into account.

Faces: the model was trained on aligned faces, as OpenFace 2 writes them with `-simalign`. The folder `faces` holds a
folder per clip, `<clip>` or `<clip>_aligned`, with one picture per frame, in the order of their names. They are resized
to 160 × 160 (PIL, antialiased bilinear). Without `faces`, the encoder takes the centre square of the clip's own frames.
Faces are then smaller than those the model was trained on; the revision says so (`-frames`).

Checkpoint: from pre-training, without its decoders, or fine-tuned. The former lacks the layers' weights, which are then
equal, and the last norm, which is then neutral. HiCMAE-B: 81 M parameters, 92 GFLOP per row.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers.audio_utils import mel_filter_bank, window_function

from blemore_baselines.clips.media import SAMPLE_RATE, Clip, MediaError, spellings
from blemore_baselines.encoders.frames import IMAGENET_MEAN, IMAGENET_STD, centre, normalise, windows
from blemore_baselines.encoders.torch_encoder import TorchEncoder
from blemore_baselines.encoders.weights import State, build, count, fill, read, sizes

FRAMES, EVERY, SIDE = 16, 4, 160
TIMES, BANDS = 256, 128  # of the spectrogram: times of 10 ms, mel bands
WINDOW, HOP, FFT = 400, 160, 512  # samples
EMPHASIS = 0.97  # pre-emphasis
SHORTEST = 1025  # samples; the least sound of a window in the preset `published`
SPECTRUM_MEAN, SPECTRUM_STD = -4.2677393, 4.5689974  # of AudioSet
DEPTH, FUSED = 10, 2  # layers of each modality's encoder, and of the fusion
HEAD_WIDTH = 64
PICTURES = (".bmp", ".jpg", ".jpeg", ".png")


class Face(NamedTuple):
    number: int  # of its frame, from 0
    time: float  # in seconds
    picture: np.ndarray  # (160, 160, 3) uint8


class HiCMAE(TorchEncoder):
    """faces: the folder with the clips' aligned faces; None: the clips' own frames."""

    name = "hicmae"
    modality = "video+audio"
    dim = 2048
    unit = "16 frames, every 4th"
    rows = "⌈⌈frames / 4⌉ / 16⌉"
    weights = "https://github.com/sunlicai/HiCMAE"
    file = "checkpoint-99.pth"
    licence = "code MIT; none stated for the weights"
    presets = ("published", "reference")
    computation = "2"
    cpu_batch_size, gpu_batch_size = 4, 32
    packages = ("torch", "transformers", "soxr", "pillow")

    def __init__(
        self,
        preset: str | None = None,
        weights: str | Path | None = None,
        *,
        faces: str | Path | None = None,
        **options: Any,
    ):
        super().__init__(preset, weights, **options)
        self.faces = Path(faces) if faces else None

    @cached_property
    def revision(self) -> str:
        return super().revision + ("-faces" if self.faces else "-frames")

    def _load(self) -> None:
        if self.faces is None:
            print(
                "note: hicmae uses the clips' own frames instead of aligned faces, on which it was trained;"
                " give the folder of aligned faces with --faces",
                file=sys.stderr,
            )
        path = self.checkpoint
        state = read(path)
        self.sizes = measure(state, path)
        self.dim = 4 * self.sizes.width
        self.model = build(HiCMAEModel, *self.sizes)
        initial = HiCMAEModel.initial(self.sizes.width, self.sizes.depth)
        if not initial.keys() & state.keys():
            state |= initial
        # Other tensors belong to pre-training (decoders, contrastive heads) or to a classifier.
        fill(self.model, state, path, unused=r"(?!encoder(_audio|_fusion)?\.)")
        self.model.eval().to(self.device, self.dtype)

    def items(self, clip: Clip) -> Iterator[np.ndarray]:
        """Each row's pixels (about ±2), then its spectrogram: (3 · 16 · 160 · 160 + 256 · 128,) float32."""
        sound = clip.audio()
        faces, count = self._faces(clip)
        if self.preset == "published":
            rows = published(faces, count, sound)
        else:
            rows = reference(faces, sound, clip.offset)
        return (np.concatenate([pixels(window).ravel(), fbank(part).ravel()]) for window, part in rows)

    def _faces(self, clip: Clip) -> tuple[list[Face], int]:
        """Every 4th face of a clip, and the clip's number of frames."""
        if self.faces is None:
            faces, number = [], -1
            for number, (time, frame) in enumerate(clip.timed_frames()):
                if number % EVERY == 0:
                    faces.append(Face(number, time, resized(centre(frame, min(frame.shape[:2])))))
            return faces, number + 1
        files = face_files(self.faces, clip.id)
        # The preset `published` needs no times, and a sound file has no frame rate.
        fps = clip.fps if self.preset == "reference" else float("nan")
        numbers = range(0, len(files), EVERY)
        return [Face(number, number / fps, resized(read_picture(files[number]))) for number in numbers], len(files)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        video, audio = batch.split([3 * FRAMES * SIDE * SIDE, TIMES * BANDS], dim=1)
        return self.model(video.unflatten(1, (3, FRAMES, SIDE, SIDE)), audio.unflatten(1, (1, TIMES, BANDS)))


def published(faces: list[Face], count: int, sound: np.ndarray) -> Iterator[tuple[list[Face], np.ndarray]]:
    """Windows of at most 16 faces, each with its sound, as the challenge's extraction cut a clip of `count` frames."""
    faces = faces + faces[-1:] * (FRAMES - len(faces))
    for start in range(0, len(faces), FRAMES):
        window = faces[start : start + FRAMES]
        yield window, share_of_sound(sound, window[0].number, window[-1].number + EVERY, count)


def share_of_sound(sound: np.ndarray, first: int, last: int, count: int) -> np.ndarray:
    """The sound of frames `first` to `last` of `count`, by shares of the clip, padded to `SHORTEST` samples or more."""
    length, end = len(sound), max(count - 1, 1)
    part = sound[int(first / end * length) : int(min(last, end) / end * length)]
    return np.pad(part, (0, max(0, SHORTEST - len(part))))


def reference(faces: list[Face], sound: np.ndarray, offset: float) -> Iterator[tuple[list[Face], np.ndarray]]:
    """Windows of 16 faces, each with sound for 256 times of the spectrogram, from the time of the first face.

    offset: time of the first sample, in seconds after the first frame; there is silence before it
    """
    before = round(offset * SAMPLE_RATE)
    sound = np.pad(sound, (before, 0)) if before > 0 else sound[-before:]
    for window in windows(faces, FRAMES, FRAMES):
        begin = round(window[0].time * SAMPLE_RATE)
        yield window, sound[begin : begin + WINDOW + (TIMES - 1) * HOP]


def pixels(window: list[Face]) -> np.ndarray:
    """(3, 16, 160, 160) float32, normalised; zeros in place of missing faces."""
    batch = np.zeros((3, FRAMES, SIDE, SIDE), np.float32)
    pictures = torch.from_numpy(np.stack([face.picture for face in window])).float()
    batch[:, : len(window)] = normalise(pictures, IMAGENET_MEAN, IMAGENET_STD).transpose(0, 1)
    return batch


def resized(picture: np.ndarray, side: int = SIDE) -> np.ndarray:
    """A picture of any size as (side, side, 3) uint8."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def face_files(folder: Path, clip: str) -> list[Path]:
    """The pictures of a clip's aligned faces. Raises MediaError: there are none."""
    names = [form + suffix for form in spellings(clip) for suffix in ("", "_aligned")]
    clip_folder = next((folder / name for name in names if (folder / name).is_dir()), folder / clip)
    files = sorted(path for path in clip_folder.glob("*") if path.suffix.lower() in PICTURES)
    if not files:
        raise MediaError(
            "no-faces",
            clip_folder,
            "no pictures of aligned faces",
            "Expected a folder with this name, or this name and _aligned, that holds one picture per frame.",
        )
    return files


def read_picture(file: Path) -> np.ndarray:
    """(height, width, 3) uint8, RGB. Raises MediaError: it is not a picture."""
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # each format fails in its own way
        raise MediaError("unreadable", file, "not a readable picture") from error


def fbank(sound: np.ndarray) -> np.ndarray:
    """Kaldi's log-mel spectrogram, (256, 128) float32, in the scale of the model's training.

    Hann windows of 25 ms every 10 ms, as many as fit, each minus its mean and pre-emphasised; the power in 128 bands
    from 20 Hz. If the sound is too short, the remaining rows are 0 before scaling.
    """
    rows = np.zeros((TIMES, BANDS), np.float32)
    if len(sound) >= WINDOW:
        # transformers' `spectrogram` gives the same numbers, but works window by window, which takes ten times as long.
        parts = np.lib.stride_tricks.sliding_window_view(sound.astype(np.float64), WINDOW)[::HOP][:TIMES]
        parts = parts - parts.mean(1, keepdims=True)
        treble = parts * np.r_[1 - EMPHASIS, np.ones(WINDOW - 1)]
        treble[:, 1:] -= EMPHASIS * parts[:, :-1]
        spectrum = np.fft.rfft(treble * window_function(WINDOW, "hann", periodic=False), FFT).astype(np.complex64)
        power = torch.from_numpy(np.abs(spectrum, dtype=np.float64) ** 2)
        bands = power @ torch.from_numpy(_filters())  # numpy's threads would compete with torch's
        rows[: len(bands)] = bands.clamp(min=float(np.finfo(np.float32).eps)).log().numpy()
    return (rows - SPECTRUM_MEAN) / (2 * SPECTRUM_STD)


@cache
def _filters() -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the lowest bands are narrower than a bin and stay empty, as in Kaldi
        return mel_filter_bank(
            FFT // 2 + 1, BANDS, 20.0, SAMPLE_RATE / 2, SAMPLE_RATE, mel_scale="kaldi", triangularize_in_mel_space=True
        )


# ----------------------------------------------------------------------------------- the model
# Tokens are (B, N, C). In attention, queries and values have biases, keys do not.


class Sizes(NamedTuple):
    """The sizes of a model; the defaults are HiCMAE-B's. Patches: frames × height × width, and times × bands."""

    width: int = 512
    depth: int = DEPTH
    fused: int = FUSED
    video_patch: tuple[int, int, int] = (2, 16, 16)
    audio_patch: tuple[int, int] = (16, 16)


def measure(state: State, path: Path) -> Sizes:
    """The sizes of a checkpoint's model. Raises ValidationError: it is not a HiCMAE checkpoint."""
    width, _, times, height, breadth = sizes(state, "encoder.patch_embed.proj.weight", path, axes=5)
    _, _, rows, bands = sizes(state, "encoder_audio.patch_embed.proj.weight", path, axes=4)
    depth, fused = count(state, r"encoder\.blocks\.(\d+)\."), count(state, r"encoder_fusion\.blocks\.(\d+)\.")
    return Sizes(width, depth, fused, (times, height, breadth), (rows, bands))


class HiCMAEModel(nn.Module):
    """Pixels (B, 3, 16, 160, 160) and spectrograms (B, 1, 256, 128) to (B, 4 · width). Arguments: see `Sizes`."""

    def __init__(
        self,
        width: int,
        depth: int = DEPTH,
        fused: int = FUSED,
        video_patch: tuple[int, int, int] = Sizes().video_patch,
        audio_patch: tuple[int, int] = Sizes().audio_patch,
    ):
        super().__init__()
        self.encoder = Trunk(nn.Conv3d(3, width, video_patch, video_patch), width, depth)
        self.encoder_audio = Trunk(nn.Conv2d(1, width, audio_patch, audio_patch), width, depth)
        self.encoder_fusion = Fusion(width, fused)
        self.video_layer_weights = nn.Parameter(torch.empty(depth))
        self.audio_layer_weights = nn.Parameter(torch.empty(depth))
        self.fc_norm = nn.LayerNorm(4 * width, eps=1e-6)

    @staticmethod
    def initial(width: int, depth: int = DEPTH) -> dict[str, torch.Tensor]:
        """Values for what a checkpoint from pre-training lacks."""
        even = {f"{kind}_layer_weights": torch.full((depth,), 0.1) for kind in ("video", "audio")}
        return {**even, "fc_norm.weight": torch.ones(4 * width), "fc_norm.bias": torch.zeros(4 * width)}

    def forward(self, video: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        video, video_layers = self.encoder(video)
        audio, audio_layers = self.encoder_audio(audio)
        video_mean = torch.einsum("lbc,l->bc", video_layers, self.video_layer_weights.softmax(0))
        audio_mean = torch.einsum("lbc,l->bc", audio_layers, self.audio_layer_weights.softmax(0))
        video, audio = self.encoder_fusion(video, audio)
        return self.fc_norm(torch.cat([video_mean, audio_mean, video.mean(1), audio.mean(1)], dim=1))


class Trunk(nn.Module):
    """The encoder of one modality: patches to tokens (B, N, width), and each layer's mean token (depth, B, width)."""

    def __init__(self, patches: nn.Module, width: int, depth: int):
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": patches})
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self._positions: dict[tuple, torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x, means = x + self._places(x), []
        for block in self.blocks:
            x = block(x)
            means.append(self.norm(x).mean(1))
        return self.norm(x), torch.stack(means)

    def _places(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width), computed and copied once: each copy would stall a GPU."""
        key = x.shape[1], x.device, x.dtype
        if key not in self._positions:
            with torch.inference_mode(False):  # training may use them later
                self._positions = {key: positions(*x.shape[1:]).to(x.device, x.dtype)}
        return self._positions[key]


class Fusion(nn.Module):
    """In each layer, each modality attends to the other's input to that layer, then to itself."""

    def __init__(self, width: int, fused: int):
        super().__init__()
        self.blocks = nn.ModuleList(CrossBlock(width) for _ in range(fused))
        self.blocks_audio = nn.ModuleList(CrossBlock(width) for _ in range(fused))
        self.norm, self.norm_audio = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)

    def forward(self, video: torch.Tensor, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for block, block_audio in zip(self.blocks, self.blocks_audio):
            video, audio = block(video, audio), block_audio(audio, video)
        return self.norm(video), self.norm_audio(audio)


class Layer(nn.Module):
    """A transformer layer: self-attention, then an MLP."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def among(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))


class Block(Layer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.among(x)


class CrossBlock(Layer):
    """A transformer layer after cross-attention to the other modality."""

    def __init__(self, width: int):
        super().__init__(width)
        self.cross_norm1, self.cross_norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.cross_attn = CrossAttention(width)

    def forward(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return self.among(x + self.cross_attn(self.cross_norm1(x), self.cross_norm2(other)))


class Heads(nn.Module):
    """Multi-head attention of some tokens to others."""

    def __init__(self, width: int):
        super().__init__()
        self.q_bias, self.v_bias = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))
        self.proj = nn.Linear(width, width)

    def attend(self, x: torch.Tensor, other: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        biases = (self.q_bias, None, self.v_bias)
        q, k, v = (
            linear(tokens, weight, bias).unflatten(2, (-1, min(HEAD_WIDTH, x.shape[2]))).transpose(1, 2)
            for tokens, weight, bias in zip((x, other, other), weights, biases)
        )
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Attention(Heads):
    def __init__(self, width: int):
        super().__init__(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attend(x, x, *self.qkv.weight.chunk(3))


class CrossAttention(Heads):
    def __init__(self, width: int):
        super().__init__(width)
        self.q, self.kv = nn.Linear(width, width, bias=False), nn.Linear(width, 2 * width, bias=False)

    def forward(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return self.attend(x, other, self.q.weight, *self.kv.weight.chunk(2))


def positions(tokens: int, width: int) -> torch.Tensor:
    """(tokens, width): sines in even columns, cosines in odd ones (Vaswani et al., "Attention is all you need")."""
    even = torch.arange(width, dtype=torch.float64) // 2 * 2 / width
    angles = torch.arange(tokens, dtype=torch.float64)[:, None] / 10_000**even
    return torch.where(torch.arange(width) % 2 == 0, angles.sin(), angles.cos()).float()
