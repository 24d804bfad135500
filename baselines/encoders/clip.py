"""CLIP's image encoder (Radford et al., 2021; https://github.com/openai/CLIP, code MIT).

A row is one frame: the projected image embedding, not normalised. Pixels: the shorter side resized to 224 (bicubic,
antialiased), the centre square, CLIP's mean and deviation. The model is ViT-B/32, unless `weights` names another CLIP;
its sizes then apply.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from transformers import CLIPVisionModelWithProjection

from blemore_baselines.clips.media import Clip
from blemore_baselines.encoders.frames import CLIP_MEAN, CLIP_STD, bicubic, centre, normalise, short_side
from blemore_baselines.encoders.torch_encoder import TorchEncoder
from blemore_baselines.encoders.weights import pretrained


class CLIP(TorchEncoder):
    name = "clip"
    modality = "video"
    dim = 512
    unit = "frame"
    weights = "openai/clip-vit-base-patch32"
    licence = "none stated for the weights; code MIT"
    gpu_batch_size = 256

    def _load(self) -> None:
        model = pretrained(
            CLIPVisionModelWithProjection, self.checkpoint, unused="text_|logit_scale|.*position_ids", dtype=self.dtype
        )
        self.model = model.eval().to(self.device)
        self.dim, self.side = model.config.projection_dim, model.config.image_size

    def items(self, clip: Clip) -> Iterator[np.ndarray]:
        """(side, side, 3) uint8, one per frame."""
        return (centre(bicubic(frame, short_side(frame, self.side)), self.side, int) for frame in clip.frames())

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=normalise(batch, CLIP_MEAN, CLIP_STD)).image_embeds
