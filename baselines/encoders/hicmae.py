"""HiCMAE: face and voice together (Sun et al., 2024; https://github.com/sunlicai/HiCMAE, code MIT).

A row is 16 frames, every 4th of the clip, and the 2.56 s of sound that begin with the first of them. It is layer-normed
and made of four parts: video | audio | video that has attended to the audio | audio that has attended to the video. The
last row sees the clip's last 16 such frames; a shorter clip's last frame is held, and silence follows a sound that
ends.

Faces: the model was trained on aligned ones, 160 × 160, as OpenFace 2 writes them with `-simalign`. `faces` is the
       folder
that holds one of pictures for each clip: `<clip>` or `<clip>_aligned`, a picture a frame, in the order of their names.
Without it the clip's own frames are taken, shorter side 160 and the centre: a smaller face than the model knows,
which the revision tells (`-frames`). Pixels: ImageNet's mean and deviation. Sound: `fbank`.

Checkpoint: that of the pre-training, whose decoders are left out, or one that was fine-tuned. The former lacks the
            weights
of the layers, which are then even, and the last norm, which is then plain. The model's sizes (81 M parameters, 92 GFLOP
a row) are those of the published HiCMAE-B; its names have not been tried on the published file, and one that names its
parts otherwise is refused.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from functools import cache, cached_property
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from blemore_baselines.clips.media import SAMPLE_RATE, Clip, MediaError
from blemore_baselines.encoders.frames import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    bilinear,
    centre,
    normalise,
    short_side,
    windows,
)
from blemore_baselines.encoders.torch_encoder import TorchEncoder
from blemore_baselines.encoders.weights import build, fill, read, sizes

FRAMES, EVERY, SIDE = 16, 4, 160
TIMES, BANDS = 256, 128  # of the spectrogram: 10 ms each
WINDOW, HOP, FFT = 400, 160, 512  # samples
SPECTRUM_MEAN, SPECTRUM_STD = -4.2677393, 4.5689974  # of AudioSet
DEPTH, FUSED = 10, 2  # layers for one modality, and for both
LAYERS = (3, 6, 9)  # whose outputs make up the first two parts, counted from 0
HEAD_WIDTH = 64
PICTURES = (".bmp", ".jpg", ".jpeg", ".png")


class HiCMAE(TorchEncoder):
    """faces: the folder of the clips' aligned faces; None: the clips' own frames."""

    name = "hicmae"
    modality = "video+audio"
    dim = 2048
    unit = "16 frames, every 4th"
    rows = "⌈⌈frames / 4⌉ / 16⌉"
    weights = "https://github.com/sunlicai/HiCMAE"
    file = "checkpoint-99.pth"
    licence = "code MIT; none stated for the weights"
    batch_size = 4
    packages = ("torch", "transformers", "soxr", "opencv-python-headless")

    def __init__(
        self,
        preset: str | None = None,
        weights: str | Path | None = None,
        device: str = "auto",
        precision: str = "fp32",
        faces: str | Path | None = None,
    ):
        super().__init__(preset, weights, device, precision)
        self.faces = Path(faces) if faces else None

    @cached_property
    def revision(self) -> str:
        return super().revision + ("-faces" if self.faces else "-frames")

    def _load(self) -> None:
        if self.faces is None:
            print(
                "note: hicmae takes the clips' own frames, not the aligned faces that it was trained on; "
                "name the folder that holds these with --faces",
                file=sys.stderr,
            )
        path = self.checkpoint
        state = read(path)
        width = sizes(state, "encoder.patch_embed.proj.weight", path, axes=5)[0]
        self.dim = 4 * width
        self.model = build(HiCMAEModel, width)
        initial = HiCMAEModel.initial(width)
        if not initial.keys() & state.keys():
            state |= initial
        # Whatever else there is belongs to the pre-training (decoders, contrasts) or is a head.
        fill(self.model, state, path, unused=r"(?!encoder(_audio|_fusion)?\.)")
        self.model.eval().to(self.device, self.dtype)

    def stream(self, clip: Clip) -> Clip:
        return clip

    def items(self, clip: Clip) -> Iterator[np.ndarray]:
        """Each row's pixels, in -1…1 or so, and spectrogram, end to end: (3 · 16 · 160 · 160 + 256 · 128,) float32."""
        sound = clip.audio()
        taken = islice(self._timed(clip), 0, None, EVERY)
        small = ((time, centre(bilinear(frame, short_side(frame, SIDE)), SIDE)) for time, frame in taken)
        for window in windows(small, FRAMES, FRAMES, black=False):
            pixels = normalise(
                torch.from_numpy(np.stack([frame for _, frame in window])).float(), IMAGENET_MEAN, IMAGENET_STD
            )
            begin = round(window[0][0] * SAMPLE_RATE)
            heard = fbank(sound[begin : begin + WINDOW + (TIMES - 1) * HOP])
            yield np.concatenate([pixels.transpose(0, 1).numpy().ravel(), heard.ravel()])

    def _timed(self, clip: Clip) -> Iterator[tuple[float, np.ndarray]]:
        """The faces or frames, RGB, each with its time in seconds."""
        if self.faces is None:
            return clip.timed_frames()
        fps = clip.fps
        return ((number / fps, picture) for number, picture in enumerate(face_pictures(self.faces, clip.id)))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        video, audio = batch.split([3 * FRAMES * SIDE * SIDE, TIMES * BANDS], dim=1)
        return self.model(video.unflatten(1, (3, FRAMES, SIDE, SIDE)), audio.unflatten(1, (1, TIMES, BANDS)))


def face_pictures(folder: Path, clip: str) -> Iterator[np.ndarray]:
    """A clip's aligned faces, RGB. Raises MediaError: there are none, or one cannot be read."""
    own = next((path for path in (folder / clip, folder / f"{clip}_aligned") if path.is_dir()), folder / clip)
    files = sorted(path for path in own.glob("*") if path.suffix.lower() in PICTURES)
    if not files:
        raise MediaError(
            "no-faces",
            own,
            "no pictures of aligned faces",
            "Expected a folder of this name, or with _aligned behind it, with a picture a frame.",
        )
    for file in files:
        picture = cv2.imread(str(file))
        if picture is None:
            raise MediaError("unreadable", file, "not a picture that can be read")
        yield picture[..., ::-1]


def fbank(sound: np.ndarray) -> np.ndarray:
    """Kaldi's log-mel spectrogram, (256, 128) float32, in the scale that the model was trained with.

    Windows of 25 ms (Hann) every 10 ms, as many as fit; each less its mean and with its treble raised; the power in 128
    bands from 20 Hz. Where sound lacks, rows are 0, before they are scaled.
    """
    rows = np.zeros((TIMES, BANDS), np.float32)
    if len(sound) >= WINDOW:
        found = spectrogram(
            sound,
            window_function(WINDOW, "hann", periodic=False),
            WINDOW,
            HOP,
            FFT,
            power=2.0,
            center=False,
            preemphasis=0.97,
            remove_dc_offset=True,
            mel_filters=_filters(),
            mel_floor=np.finfo(np.float32).eps,
            log_mel="log",
        ).T[:TIMES]
        rows[: len(found)] = found
    return (rows - SPECTRUM_MEAN) / (2 * SPECTRUM_STD)


@cache
def _filters() -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the lowest bands are narrower than a bin and stay empty, in Kaldi, too
        return mel_filter_bank(
            FFT // 2 + 1, BANDS, 20.0, SAMPLE_RATE / 2, SAMPLE_RATE, mel_scale="kaldi", triangularize_in_mel_space=True
        )


# ----------------------------------------------------------------------------------- the model
# Tokens are (B, N, C). Attention has biases for queries and values, none for keys.


class HiCMAEModel(nn.Module):
    """Pixels (B, 3, 16, 160, 160) and spectrograms (B, 1, 256, 128) to (B, 4 · width)."""

    def __init__(self, width: int):
        super().__init__()
        self.encoder = Trunk(nn.Conv3d(3, width, (2, 16, 16), (2, 16, 16)), width)
        self.encoder_audio = Trunk(nn.Conv2d(1, width, 16, 16), width)
        self.encoder_fusion = Fusion(width)
        for name, start in self.initial(width).items():
            if name.endswith("layer_weights"):
                self.register_parameter(name, nn.Parameter(start))
        self.fc_norm = nn.LayerNorm(4 * width, eps=1e-6)

    @staticmethod
    def initial(width: int) -> dict[str, torch.Tensor]:
        """What a checkpoint of the pre-training lacks."""
        even = {f"{kind}_layer_weights": torch.full((len(LAYERS),), 1 / len(LAYERS)) for kind in ("video", "audio")}
        return {**even, "fc_norm.weight": torch.ones(4 * width), "fc_norm.bias": torch.zeros(4 * width)}

    def forward(self, video: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        video, of_video = self.encoder(video)
        audio, of_audio = self.encoder_audio(audio)
        seen = torch.einsum("lbc,l->bc", of_video, self.video_layer_weights)
        heard = torch.einsum("lbc,l->bc", of_audio, self.audio_layer_weights)
        video, audio = self.encoder_fusion(video, audio)
        return self.fc_norm(torch.cat([seen, heard, video.mean(1), audio.mean(1)], dim=1))


class Trunk(nn.Module):
    """One modality: patches to tokens, and the mean over tokens after each of `LAYERS`."""

    def __init__(self, patches: nn.Module, width: int):
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": patches})
        self.blocks = nn.ModuleList(Block(width) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x, means = x + positions(*x.shape[1:]).to(x), []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in LAYERS:
                means.append(x.mean(1))
        return self.norm(x), torch.stack(means)


class Fusion(nn.Module):
    """Each modality attends to the other as it was before the layer, then to itself."""

    def __init__(self, width: int):
        super().__init__()
        self.blocks = nn.ModuleList(CrossBlock(width) for _ in range(FUSED))
        self.blocks_audio = nn.ModuleList(CrossBlock(width) for _ in range(FUSED))
        self.norm, self.norm_audio = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)

    def forward(self, video: torch.Tensor, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for block, block_audio in zip(self.blocks, self.blocks_audio):
            video, audio = block(video, audio), block_audio(audio, video)
        return self.norm(video), self.norm_audio(audio)


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))


class CrossBlock(Block):
    def __init__(self, width: int):
        super().__init__(width)
        self.cross_norm1, self.cross_norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.cross_attn = CrossAttention(width)

    def forward(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return super().forward(x + self.cross_attn(self.cross_norm1(x), self.cross_norm2(other)))


class Attention(nn.Module):
    """Among the tokens."""

    def __init__(self, width: int):
        super().__init__()
        self.q_bias, self.v_bias = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._attend(x, x, *self.qkv.weight.chunk(3))

    def _attend(self, x: torch.Tensor, other: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        biases = (self.q_bias, None, self.v_bias)
        q, k, v = (
            linear(tokens, weight, bias).unflatten(2, (-1, min(HEAD_WIDTH, x.shape[2]))).transpose(1, 2)
            for tokens, weight, bias in zip((x, other, other), weights, biases)
        )
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class CrossAttention(Attention):
    """From the tokens to others."""

    def __init__(self, width: int):
        super().__init__(width)
        del self.qkv
        self.q, self.kv = nn.Linear(width, width, bias=False), nn.Linear(width, 2 * width, bias=False)

    def forward(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return self._attend(x, other, self.q.weight, *self.kv.weight.chunk(2))


def positions(tokens: int, width: int) -> torch.Tensor:
    """The tokens' places as sines (even columns) and cosines (odd ones), as in "Attention is all you need": (tokens,
    width).
    """
    even = torch.arange(width, dtype=torch.float64) // 2 * 2 / width
    angles = torch.arange(tokens, dtype=torch.float64)[:, None] / 10_000**even
    return torch.where(torch.arange(width) % 2 == 0, angles.sin(), angles.cos()).float()
