"""The fine-tuned vision transformer of VideoMAE V2, up to its classifier."""

import numpy as np
import torch
from torch import nn


def sinusoids(places, width):
    """(1, places, width): sine at the even columns, cosine at the odd ones."""
    rates = 10000.0 ** (-2 * (np.arange(width) // 2) / width)
    angles = np.arange(places)[:, None] * rates
    return torch.tensor(np.where(np.arange(width) % 2 == 0, np.sin(angles), np.cos(angles)), dtype=torch.float32)[None]


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        b, n, c = x.shape
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        q, k, v = (self.qkv(x) + bias).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q * (c // self.heads) ** -0.5 @ k.transpose(-2, -1)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))


class MLP(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width, hidden, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width, heads), MLP(width, hidden)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, width, patch):
        super().__init__()
        self.proj = nn.Conv3d(3, width, (2, patch, patch), (2, patch, patch))


class VideoMAEV2(nn.Module):
    """Pixels (B, 3, 16, 224, 224) to (B, width)."""

    def __init__(self, width=1408, hidden=6144, depth=40, heads=16, patch=14, classes=710):
        super().__init__()
        self.patch_embed = PatchEmbed(width, patch)
        self.blocks = nn.Sequential(*(Block(width, hidden, heads) for _ in range(depth)))
        self.fc_norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, video):
        x = self.patch_embed.proj(video).flatten(2).transpose(1, 2)
        x = self.blocks(x + sinusoids(*x.shape[1:]))
        return self.fc_norm(x.mean(1))
