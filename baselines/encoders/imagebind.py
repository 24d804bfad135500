"""ImageBind's image encoder (Girdhar et al., 2023; https://github.com/facebookresearch/ImageBind, CC BY-NC-SA 4.0).

A row is one frame: its embedding, of length 1, in the space that images share with sound and text. Pixels: the shorter
side resized to 224 (bilinear without antialiasing, as ImageBind reads videos), the centre square (half a pixel is
rounded up), CLIP's mean and deviation.

The trunk is CLIP's architecture under other names. Its stem is a convolution over two frames. A still image fills both,
so the kernel is summed over time. The checkpoint's other modalities are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from blemore_baselines.clips.media import Clip
from blemore_baselines.encoders.frames import CLIP_MEAN, CLIP_STD, bilinear, centre, normalise, short_side
from blemore_baselines.encoders.torch_encoder import TorchEncoder
from blemore_baselines.encoders.weights import build, count, fill, read, sizes

HEAD_WIDTH = 80  # of attention: 1280 / 16; it does not follow from any shape in the checkpoint
STEM, TRUNK, HEAD = (f"modality_{part}.vision." for part in ("preprocessors", "trunks", "heads"))
PLACES = STEM + "pos_embedding_helper.pos_embed"
EMBEDDINGS = r"vision_model\.embeddings\."
LAYER, BLOCK = r"vision_model\.encoder\.layers\.(\d+)\.", TRUNK + r"blocks.\1."
RULES = [
    (EMBEDDINGS + "class_embedding", STEM + "cls_token", torch.flatten),
    (EMBEDDINGS + r"patch_embedding\.weight", STEM + "rgbt_stem.proj.1.weight", lambda kernel: kernel.sum(2)),
    (EMBEDDINGS + r"position_embedding\.weight", PLACES, lambda places: places.squeeze(0)),
    (r"vision_model\.pre_layrnorm\.(.*)", TRUNK + r"pre_transformer_layer.0.\1", None),
    (LAYER + r"self_attn\.q_proj\.(.*)", BLOCK + r"attn.in_proj_\2", lambda packed: packed.chunk(3)[0]),
    (LAYER + r"self_attn\.k_proj\.(.*)", BLOCK + r"attn.in_proj_\2", lambda packed: packed.chunk(3)[1]),
    (LAYER + r"self_attn\.v_proj\.(.*)", BLOCK + r"attn.in_proj_\2", lambda packed: packed.chunk(3)[2]),
    (LAYER + r"self_attn\.out_proj\.(.*)", BLOCK + r"attn.out_proj.\2", None),
    (LAYER + r"layer_norm(\d)\.(.*)", BLOCK + r"norm_\2.\3", None),
    (LAYER + r"mlp\.(.*)", BLOCK + r"mlp.\2", None),
    (r"vision_model\.post_layernorm\.(.*)", HEAD + r"0.\1", None),
    (r"visual_projection\.weight", HEAD + "2.weight", None),
]
OTHER_MODALITIES = r"modality_\w+\.(text|audio|depth|thermal|imu)\.|modality_postprocessors\."


class ImageBind(TorchEncoder):
    name = "imagebind"
    modality = "video"
    dim = 1024
    unit = "frame"
    weights = "https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth"
    file = "imagebind_huge.pth"
    licence = "CC BY-NC-SA 4.0"
    computation = "2"
    cpu_batch_size, gpu_batch_size = 8, 64
    packages = ("torch", "transformers", "opencv-python-headless")

    def _load(self) -> None:
        path = self.checkpoint
        state = read(path)
        width, _, _, patch, _ = sizes(state, STEM + "rgbt_stem.proj.1.weight", path, axes=5)
        places = sizes(state, PLACES, path, axes=3)[1]
        self.side = patch * round((places - 1) ** 0.5)
        self.dim = sizes(state, HEAD + "2.weight", path, axes=2)[0]
        config = CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=sizes(state, TRUNK + "blocks.0.mlp.fc1.weight", path, axes=2)[0],
            num_hidden_layers=count(state, TRUNK + r"blocks\.(\d+)\."),
            num_attention_heads=max(1, width // HEAD_WIDTH),
            patch_size=patch,
            image_size=self.side,
            projection_dim=self.dim,
            hidden_act="gelu",
            layer_norm_eps=1e-6,
        )
        self.model = build(CLIPVisionModelWithProjection, config)
        fill(self.model, state, path, RULES, unused=OTHER_MODALITIES)
        self.model.eval().to(self.device, self.dtype)

    def items(self, clip: Clip) -> Iterator[np.ndarray]:
        """(side, side, 3) uint8, one per frame."""
        resized = (bilinear(frame, short_side(frame, self.side)) for frame in clip.frames())
        return (centre(frame, self.side, math.ceil) for frame in resized)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        embedding = self.model(pixel_values=normalise(batch, CLIP_MEAN, CLIP_STD)).image_embeds
        return torch.nn.functional.normalize(embedding.float(), dim=-1)
