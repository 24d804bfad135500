"""ImageBind's image tower."""

import torch
from torch import nn


class Stem(nn.Module):
    def __init__(self, width, patch):
        super().__init__()
        self.proj = nn.Sequential(nn.Identity(), nn.Conv3d(3, width, (2, patch, patch), (2, patch, patch), bias=False))


class Positions(nn.Module):
    def __init__(self, places, width):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.empty(1, places, width))


class Preprocessor(nn.Module):
    def __init__(self, width, patch, side):
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.rgbt_stem = Stem(width, patch)
        self.pos_embedding_helper = Positions((side // patch) ** 2 + 1, width)

    def forward(self, images):
        video = torch.stack([images, images], dim=2)  # a still, twice
        tokens = self.rgbt_stem.proj(video).flatten(2).transpose(1, 2)
        return torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], 1) + self.pos_embedding_helper.pos_embed


class MLP(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width, hidden, heads):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm_1, self.norm_2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, hidden)

    def forward(self, x):
        y = self.norm_1(x)
        x = x + self.attn(y, y, y, need_weights=True)[0]
        return x + self.mlp(self.norm_2(x))


class Trunk(nn.Module):
    def __init__(self, width, hidden, depth, heads):
        super().__init__()
        self.pre_transformer_layer = nn.Sequential(nn.LayerNorm(width, eps=1e-6))
        self.blocks = nn.Sequential(*(Block(width, hidden, heads) for _ in range(depth)))

    def forward(self, x):
        return self.blocks(self.pre_transformer_layer(x))


class ImageBind(nn.Module):
    """Normalised pixels (B, 3, side, side) to (B, out), of length 1."""

    def __init__(self, width=1280, hidden=5120, depth=32, heads=16, patch=14, side=224, out=1024):
        super().__init__()
        self.modality_preprocessors = nn.ModuleDict({"vision": Preprocessor(width, patch, side)})
        self.modality_trunks = nn.ModuleDict({"vision": Trunk(width, hidden, depth, heads)})
        head = nn.Sequential(nn.LayerNorm(width, eps=1e-6), nn.Identity(), nn.Linear(width, out, bias=False))
        self.modality_heads = nn.ModuleDict({"vision": head})

    def forward(self, images):
        tokens = self.modality_trunks["vision"](self.modality_preprocessors["vision"](images))
        embedding = self.modality_heads["vision"](tokens[:, 0])
        return embedding / embedding.norm(dim=-1, keepdim=True)
