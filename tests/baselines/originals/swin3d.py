"""Video Swin with torchvision's names, up to its classifier.

Windows are made from each token's coordinates, one window after the other, without rolling or reshaping the map.
"""

from itertools import product

import torch
from torch import nn

WINDOW = (8, 7, 7)


class Attention(nn.Module):
    def __init__(self, width, heads, shift):
        super().__init__()
        self.heads, self.shift = heads, shift
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        spans = [2 * side - 1 for side in WINDOW]
        self.relative_position_bias_table = nn.Parameter(torch.empty(spans[0] * spans[1] * spans[2], heads))
        places = torch.tensor(list(product(*map(range, WINDOW))))
        offsets = places[:, None] - places[None] + torch.tensor(WINDOW) - 1
        index = (offsets[..., 0] * spans[1] + offsets[..., 1]) * spans[2] + offsets[..., 2]
        self.register_buffer("relative_position_index", index)

    def forward(self, x):  # (T, H, W, C), sides that are multiples of the window's
        shift = [0 if length <= side else side // 2 if self.shift else 0 for length, side in zip(x.shape, WINDOW)]
        grid = torch.stack(torch.meshgrid(*map(torch.arange, x.shape[:3]), indexing="ij"), -1).flatten(0, 2)
        moved = (grid - torch.tensor(shift)) % torch.tensor(x.shape[:3])
        came_around = grid < torch.tensor(shift)
        of_window = moved // torch.tensor(WINDOW)
        place = moved % torch.tensor(WINDOW)
        order = (place[:, 0] * WINDOW[1] + place[:, 1]) * WINDOW[2] + place[:, 2]
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        tokens, result = x.flatten(0, 2), torch.empty(x.shape).flatten(0, 2)
        for window in torch.unique(of_window, dim=0):
            members = (of_window == window).all(1).nonzero()[:, 0]
            members = members[order[members].argsort()]
            apart = (came_around[members][:, None] != came_around[members][None]).any(-1)
            q, k, v = self.qkv(tokens[members]).chunk(3, -1)
            outputs = []
            for head in range(self.heads):
                part = slice(head * q.shape[1] // self.heads, (head + 1) * q.shape[1] // self.heads)
                logits = q[:, part] @ k[:, part].T / (part.stop - part.start) ** 0.5 + bias[head] - 100.0 * apart
                outputs.append(logits.softmax(-1) @ v[:, part])
            result[members] = self.proj(torch.cat(outputs, -1))
        return result.view(x.shape)


class Block(nn.Module):
    def __init__(self, width, heads, shift):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads, shift)
        up, down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(up, nn.GELU(), nn.Identity(), down, nn.Identity())

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Merging(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.reduction, self.norm = nn.Linear(4 * width, 2 * width, bias=False), nn.LayerNorm(4 * width)

    def forward(self, x):
        corners = (x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2])
        return self.reduction(self.norm(torch.cat(corners, -1)))


class PatchEmbed(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.proj, self.norm = nn.Conv3d(3, width, (2, 4, 4), (2, 4, 4)), nn.LayerNorm(width)


class Swin3D(nn.Module):
    """Pixels (3, T, H, W) to (width of the last stage,)."""

    def __init__(self, width=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24), classes=400):
        super().__init__()
        self.patch_embed = PatchEmbed(width)
        layers = []
        for stage, (depth, n) in enumerate(zip(depths, heads)):
            if stage:
                layers.append(Merging(width))
                width *= 2
            layers.append(nn.Sequential(*(Block(width, n, shift=bool(i % 2)) for i in range(depth))))
        self.features = nn.Sequential(*layers)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, video):
        x = self.patch_embed.norm(self.patch_embed.proj(video[None])[0].permute(1, 2, 3, 0))
        return self.norm(self.features(x)).mean((0, 1, 2))
