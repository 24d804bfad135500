"""Any VideoMAE of transformers: `hf-video:ID`, where ID is a hub id or a local folder.

A row stands for the consecutive frames that the model sees together (16), prepared by its own image processor: the
classifier's input if the checkpoint has a classifier, else the mean over the tokens. The last row sees the clip's last
16 frames; a shorter clip repeats its last frame. Only transformers' own code runs, never code from the hub.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from transformers import AutoConfig, VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEModel

from blemore.errors import Problem, ValidationError
from blemore_baselines.clips.media import Clip
from blemore_baselines.encoders.frames import windows
from blemore_baselines.encoders.huggingface_image import HFImage, frame_processor
from blemore_baselines.encoders.weights import loading, pretrained

# In some versions of transformers, attention has a bias for keys, which is 0. No checkpoint has one.
KEY_BIAS = r".*\.attention\.key\.bias"


class HFVideo(HFImage):
    name = "hf-video"
    unit = "16 frames"
    rows = "⌈frames / 16⌉"
    cpu_batch_size, gpu_batch_size = 4, 16

    @cached_property
    def config(self) -> VideoMAEConfig:
        with loading(self.checkpoint):
            config = AutoConfig.from_pretrained(self.checkpoint, trust_remote_code=False)
        if not isinstance(config, VideoMAEConfig):
            message = f"a model of the type {config.model_type}; expected videomae"
            hint = "For models that see one frame at a time, use hf-image:ID."
            raise ValidationError(Problem("bad-weights", str(self.checkpoint), message, hint=hint))
        return config

    @cached_property
    def dim(self) -> int:
        return self.config.hidden_size

    def _load(self) -> None:
        classifies = VideoMAEForVideoClassification.__name__ in (self.config.architectures or [])
        self.processor = frame_processor(self.checkpoint)
        kind = VideoMAEForVideoClassification if classifies else VideoMAEModel
        # Without a classifier, the rest of the checkpoint is the decoder of pre-training.
        unused = "$^" if classifies else ".*"
        model = pretrained(kind, self.checkpoint, unused=unused, optional=KEY_BIAS, dtype=self.dtype)
        if classifies:
            model.classifier = torch.nn.Identity()
        self.model = model.eval().to(self.device)

    def items(self, clip: Clip) -> Iterator[np.ndarray]:
        """(16, 3, height, width) float32."""
        length = self.config.num_frames
        frames = (self.processor([frame], return_tensors="np")["pixel_values"][0, 0] for frame in clip.frames())
        return map(np.stack, windows(frames, length, length))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        output = self.model(pixel_values=batch)
        return output.logits if "logits" in output else output.last_hidden_state.mean(1)
