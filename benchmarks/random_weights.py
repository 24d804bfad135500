"""Checkpoints of the encoders with random weights: each in the layout of its original, at full size or tiny."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    HubertConfig,
    HubertModel,
    WavLMConfig,
    WavLMModel,
)

from blemore_baselines.encoders.hicmae import HiCMAEModel
from blemore_baselines.encoders.videoswin import Swin3D

Shapes = Mapping[str, tuple[int, ...]]

SPEECH = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def write_checkpoint(name: str, folder: Path, tiny: bool = False) -> Path:
    """The path of a checkpoint for the encoder of that name, written under `folder`."""
    torch.manual_seed(0)
    path = folder / f"{name}{'-tiny' if tiny else ''}"
    if name == "clip":
        sizes = {**SMALL, "image_size": 32, "patch_size": 8, "projection_dim": 16} if tiny else {}
        CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes)).save_pretrained(path)
    elif name in ("hubert", "wavlm"):
        config, model = (HubertConfig, HubertModel) if name == "hubert" else (WavLMConfig, WavLMModel)
        sizes = {**LARGE, "num_hidden_layers": 1, "intermediate_size": 64, "conv_dim": (16,) * 7} if tiny else LARGE
        model(config(**SPEECH, **sizes)).save_pretrained(path)
    else:
        path = path.with_suffix(".safetensors")
        save_file(_tensors(_SHAPES[name](tiny)), path)
    return path


def _tensors(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Cut from one strip of random numbers, over and over: a billion of them would take too long to draw."""
    strip = 0.02 * torch.randn(1_000_003)
    tensors = {}
    for name, shape in shapes.items():
        size = torch.Size(shape).numel()
        if name.endswith("relative_position_index"):
            tensors[name] = torch.zeros(shape, dtype=torch.long)
        else:
            tensors[name] = strip.repeat(size // len(strip) + 1)[:size].view(shape) + (len(shape) == 1)
    return tensors


def _imagebind(tiny: bool) -> Shapes:
    width, hidden, depth, patch, places, out = (80, 96, 2, 8, 17, 24) if tiny else (1280, 5120, 32, 14, 257, 1024)
    stem, trunk, head = (f"modality_{part}.vision." for part in ("preprocessors", "trunks", "heads"))
    shapes = {
        stem + "cls_token": (1, 1, width),
        stem + "rgbt_stem.proj.1.weight": (width, 3, 2, patch, patch),
        stem + "pos_embedding_helper.pos_embed": (1, places, width),
        **_pair(trunk + "pre_transformer_layer.0", width),
        **_pair(head + "0", width),
        head + "2.weight": (out, width),
    }
    for block in (f"{trunk}blocks.{number}." for number in range(depth)):
        shapes |= {block + "attn.in_proj_weight": (3 * width, width), block + "attn.in_proj_bias": (3 * width,)}
        shapes |= _pair(block + "attn.out_proj", width, width) | _pair(block + "norm_1", width)
        shapes |= _pair(block + "norm_2", width)
        shapes |= _pair(block + "mlp.fc1", hidden, width) | _pair(block + "mlp.fc2", width, hidden)
    return shapes


def _videomae(width: int, hidden: int, depth: int, patch: int) -> Shapes:
    shapes = {**_pair("patch_embed.proj", width, 3, 2, patch, patch), **_pair("fc_norm", width)}
    for block in (f"blocks.{number}." for number in range(depth)):
        shapes |= {block + "attn.qkv.weight": (3 * width, width)}
        shapes |= {block + "attn.q_bias": (width,), block + "attn.v_bias": (width,)}
        shapes |= (
            _pair(block + "attn.proj", width, width) | _pair(block + "norm1", width) | _pair(block + "norm2", width)
        )
        shapes |= _pair(block + "mlp.fc1", hidden, width) | _pair(block + "mlp.fc2", width, hidden)
    return shapes


def _pair(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _of(build, *sizes) -> Shapes:
    """Of a model of the kit whose names are its original's."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in build(*sizes).state_dict().items()}


_SHAPES = {
    "imagebind": _imagebind,
    "videomaev2": lambda tiny: _videomae(*((88, 96, 2, 32) if tiny else (1408, 6144, 40, 14))),
    "videomaev2-base": lambda tiny: _videomae(*((64, 96, 2, 32) if tiny else (768, 3072, 12, 16))),
    "videoswin": lambda tiny: _of(Swin3D, *((8, [1, 1], [1, 2]) if tiny else (128, [2, 2, 18, 2], [4, 8, 16, 32]))),
    "hicmae": lambda tiny: _of(HiCMAEModel, *((16, 2, 1) if tiny else (512,))),
}
