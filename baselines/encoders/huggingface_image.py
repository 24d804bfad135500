"""Any vision model of transformers: `hf-image:ID`, where ID is a hub id or a local folder.

A row is one frame, prepared by the model's own image processor: the image embedding if the model has one (CLIP,
SigLIP), else its pooled output (DINOv2, ConvNeXt), else the mean over the tokens of its last layer. A pooler that is
not in the checkpoint would be random and is not used. Only transformers' own code runs, never code from the hub.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from blemore_baselines.clips.media import ArrayClip, Clip
from blemore_baselines.encoders.torch_encoder import TorchEncoder
from blemore_baselines.encoders.weights import folder_name, loading, pretrained


def frame_processor(folder: Path) -> Callable:
    """A model's own image processor. Its pixels do not depend on whether torchvision is installed."""
    with loading(folder):
        return AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False)


class HFImage(TorchEncoder):
    name = "hf-image"
    modality = "video"
    unit = "frame"
    weights = "https://huggingface.co/models"
    licence = "see the model's page"
    cpu_batch_size, gpu_batch_size = 16, 64
    packages = ("torch", "transformers", "pillow")

    def __init__(self, preset: str | None = None, *, weights: str | Path, **options: Any):
        super().__init__(preset, weights, **options)
        self.name = f"{self.name}_{folder_name(weights)}"
        self.weights = str(weights)

    @cached_property
    def dim(self) -> int:
        """The length of the loaded model's output for one black frame: its name in configurations varies."""
        self.load()
        with torch.inference_mode():
            item = next(self.items(ArrayClip(np.zeros((1, 64, 64, 3), np.uint8))))
            return self.forward(torch.from_numpy(item)[None].to(self.device, self.dtype)).shape[-1]

    def _load(self) -> None:
        with loading(self.checkpoint):
            config = AutoConfig.from_pretrained(self.checkpoint, trust_remote_code=False)
        self.processor = frame_processor(self.checkpoint)
        if hasattr(config, "mask_ratio"):  # masked autoencoders would see a random part of the frame
            config.mask_ratio = 0.0
        # The heads of the model's training tasks are not used.
        model = pretrained(
            AutoModel, self.checkpoint, unused=".*", optional=r"(.*\.)?pooler\.", config=config, dtype=self.dtype
        )
        self.model = model.eval().to(self.device)
        self.pooled = not model.lacking

    def items(self, clip: Clip) -> Iterator[np.ndarray]:
        """(3, height, width) float32, one per frame."""
        for frame in clip.frames():
            yield self.processor(frame, return_tensors="np", input_data_format="channels_last")["pixel_values"][0]

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        call = getattr(self.model, "get_image_features", self.model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # masked autoencoders shuffle their tokens
            output = call(pixel_values=batch)
        pooled = getattr(output, "pooler_output", None) if self.pooled else None
        if pooled is None:
            hidden = output.last_hidden_state  # (B, tokens, width) or (B, width, height, width)
            pooled = hidden.mean(1) if hidden.ndim == 3 else hidden.mean((2, 3))
        return pooled.flatten(1)
