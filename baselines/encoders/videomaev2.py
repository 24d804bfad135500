"""VideoMAE V2, fine-tuned on Kinetics-710 (Wang et al., 2023; https://github.com/OpenGVLab/VideoMAEv2, code MIT).

A row stands for 16 consecutive frames: the mean over all tokens, layer-normed, which is the classifier's input.

Preset `published`, as the challenge's features were made: channels in the order BGR, frames squashed to 224 × 224,
values in 0…1 without mean and deviation, the last 16 frames completed with black ones. `reference`, as the model was
trained: RGB, the shorter side resized to 224, the centre square, ImageNet's mean and deviation; the last row sees the
clip's last 16 frames, and a shorter clip repeats its last frame. Both resize by bilinear without antialiasing.

The encoder is VideoMAE's, under other names. Queries and values have a bias, keys do not; if transformers gives keys
one (5.17 does), it is zero. Positions are computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from blemore_baselines.clips.media import Clip
from blemore_baselines.encoders.frames import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    bilinear,
    centre,
    filled,
    normalise,
    short_side,
    windows,
)
from blemore_baselines.encoders.torch_encoder import TorchEncoder
from blemore_baselines.encoders.weights import build, count, fill, read, sizes

if TYPE_CHECKING:
    from transformers import VideoMAEConfig

FRAMES, SIDE = 16, 224
LAYER, BLOCK = r"trunk\.encoder\.layer\.(\d+)\.", r"blocks.\1."
RULES = [
    (r"trunk\.embeddings\.patch_embeddings\.projection\.(.*)", r"patch_embed.proj.\1", None),
    (LAYER + r"attention\.attention\.query\.weight", BLOCK + "attn.qkv.weight", lambda packed: packed.chunk(3)[0]),
    (LAYER + r"attention\.attention\.key\.weight", BLOCK + "attn.qkv.weight", lambda packed: packed.chunk(3)[1]),
    (LAYER + r"attention\.attention\.value\.weight", BLOCK + "attn.qkv.weight", lambda packed: packed.chunk(3)[2]),
    (LAYER + r"attention\.attention\.query\.bias", BLOCK + "attn.q_bias", None),
    (LAYER + r"attention\.attention\.key\.bias", BLOCK + "attn.q_bias", torch.zeros_like),
    (LAYER + r"attention\.attention\.value\.bias", BLOCK + "attn.v_bias", None),
    (LAYER + r"attention\.output\.dense\.(.*)", BLOCK + r"attn.proj.\2", None),
    (LAYER + r"layernorm_before\.(.*)", BLOCK + r"norm1.\2", None),
    (LAYER + r"layernorm_after\.(.*)", BLOCK + r"norm2.\2", None),
    (LAYER + r"intermediate\.dense\.(.*)", BLOCK + r"mlp.fc1.\2", None),
    (LAYER + r"output\.dense\.(.*)", BLOCK + r"mlp.fc2.\2", None),
]


class Pooled(torch.nn.Module):
    """The encoder, then the mean over tokens and a norm: pixels (B, 16, 3, 224, 224) to (B, width)."""

    def __init__(self, config: VideoMAEConfig):
        from transformers import VideoMAEModel

        super().__init__()
        self.trunk = VideoMAEModel(config)
        self.fc_norm = torch.nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.fc_norm(self.trunk(pixels).last_hidden_state.mean(1))


class VideoMAEV2(TorchEncoder):
    """The giant model, as in the challenge's released features."""

    name = "videomaev2"
    modality = "video"
    dim = 1408
    unit = "16 frames"
    rows = "⌈frames / 16⌉"
    weights = "https://huggingface.co/OpenGVLab/VideoMAE2"
    file = "vit_g_hybrid_pt_1200e_k710_ft.pth"
    licence = "as stated there (its authors' later models: CC BY-NC 4.0); code MIT"
    presets = ("published", "reference")
    cpu_batch_size, gpu_batch_size = 4, 8
    packages = ("torch", "transformers", "opencv-python-headless")
    head_width = 88  # of attention: 1408 / 16; it does not follow from any shape in the checkpoint

    def _load(self) -> None:
        from transformers import VideoMAEConfig

        path = self.checkpoint
        state = read(path)
        self.dim, _, tubelet, patch, _ = sizes(state, "patch_embed.proj.weight", path, axes=5)
        config = VideoMAEConfig(
            hidden_size=self.dim,
            intermediate_size=sizes(state, "blocks.0.mlp.fc1.weight", path, axes=2)[0],
            num_hidden_layers=count(state, r"blocks\.(\d+)\."),
            num_attention_heads=max(1, self.dim // self.head_width),
            patch_size=patch,
            tubelet_size=tubelet,
            image_size=SIDE,
            num_frames=FRAMES,
            layer_norm_eps=1e-6,
            use_mean_pooling=True,  # no last norm over tokens
        )
        self.model = build(Pooled, config)
        fill(self.model, state, path, RULES, unused=r"head\.(weight|bias)$")
        self.model.eval().to(self.device, self.dtype)

    def items(self, clip: Clip) -> Iterator[np.ndarray]:
        """(16, 224, 224, 3) uint8."""
        published = self.preset == "published"
        frames = (self._squashed(frame) if published else self._cropped(frame) for frame in clip.frames())
        return map(np.stack, windows(filled(frames, FRAMES) if published else frames, FRAMES, FRAMES))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        mean, std = ((0.0,) * 3, (1.0,) * 3) if self.preset == "published" else (IMAGENET_MEAN, IMAGENET_STD)
        return self.model(normalise(batch, mean, std))

    def _squashed(self, frame: np.ndarray) -> np.ndarray:
        return bilinear(frame, (SIDE, SIDE))[..., ::-1]

    def _cropped(self, frame: np.ndarray) -> np.ndarray:
        return centre(bilinear(frame, short_side(frame, SIDE)), SIDE)


class VideoMAEV2Base(VideoMAEV2):
    """The base model, distilled from the giant one. It also reads the small model's file."""

    name = "videomaev2-base"
    dim = 768
    file = "vit_b_k710_dl_from_giant.pth"
    cpu_batch_size, gpu_batch_size = 8, 32
    head_width = 64
