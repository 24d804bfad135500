"""HiCMAE's two encoders, their fusion and what stands on them; attention head by head, one clip at a time."""

import math

import torch
from torch.nn.functional import conv2d, conv3d, layer_norm

LAYERS = (3, 6, 9)


def place(tokens, width):
    """(tokens, width): sine at the even columns, cosine at the odd ones."""
    table = [
        [
            (math.cos if column % 2 else math.sin)(token / 10_000 ** ((column - column % 2) / width))
            for column in range(width)
        ]
        for token in range(tokens)
    ]
    return torch.tensor(table)


def checkpoint_shapes(width=512, depth=10, fused=2):
    """Every key of a fine-tuned checkpoint with its shape."""

    def norm(name, size=width):
        return {f"{name}.weight": (size,), f"{name}.bias": (size,)}

    def attention(name, packed):
        return {
            f"{name}.q_bias": (width,),
            f"{name}.v_bias": (width,),
            **{f"{name}.{key}.weight": (times * width, width) for key, times in packed.items()},
            f"{name}.proj.weight": (width, width),
            f"{name}.proj.bias": (width,),
        }

    def block(name):
        return {
            **norm(f"{name}.norm1"),
            **attention(f"{name}.attn", {"qkv": 3}),
            **norm(f"{name}.norm2"),
            f"{name}.mlp.fc1.weight": (4 * width, width),
            f"{name}.mlp.fc1.bias": (4 * width,),
            f"{name}.mlp.fc2.weight": (width, 4 * width),
            f"{name}.mlp.fc2.bias": (width,),
        }

    shapes = {
        "video_layer_weights": (len(LAYERS),),
        "audio_layer_weights": (len(LAYERS),),
        **norm("fc_norm", 4 * width),
    }
    for name, patch in (("encoder", (width, 3, 2, 16, 16)), ("encoder_audio", (width, 1, 16, 16))):
        shapes |= {
            f"{name}.patch_embed.proj.weight": patch,
            f"{name}.patch_embed.proj.bias": (width,),
            **norm(f"{name}.norm"),
        }
        for number in range(depth):
            shapes |= block(f"{name}.blocks.{number}")
    for suffix in ("", "_audio"):
        shapes |= norm(f"encoder_fusion.norm{suffix}")
        for number in range(fused):
            name = f"encoder_fusion.blocks{suffix}.{number}"
            shapes |= {
                **block(name),
                **norm(f"{name}.cross_norm1"),
                **norm(f"{name}.cross_norm2"),
                **attention(f"{name}.cross_attn", {"q": 1, "kv": 2}),
            }
    return shapes


def random_checkpoint(width=512, seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in checkpoint_shapes(width).items():
        scale = math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.2
        state[key] = torch.randn(shape, generator=generator) * scale + (0.5 if len(shape) == 1 else 0)
    return state


class Reader:
    """The part of a checkpoint under a prefix."""

    def __init__(self, state, prefix=""):
        self.state, self.prefix = state, prefix

    def __truediv__(self, name):
        return Reader(self.state, f"{self.prefix}{name}.")

    def __getitem__(self, name):
        return self.state[self.prefix + name]

    def norm(self, x):
        return layer_norm(x, x.shape[-1:], self["weight"], self["bias"], 1e-6)

    def linear(self, x):
        return x @ self["weight"].T + self["bias"]


def attend(part, q, k, v, head=64):
    q, v = q + part["q_bias"], v + part["v_bias"]
    heads = []
    for at in range(0, q.shape[1], head):
        mine = slice(at, at + head)
        weights = (q[:, mine] @ k[:, mine].T / math.sqrt(min(head, q.shape[1]))).softmax(-1)
        heads.append(weights @ v[:, mine])
    return (part / "proj").linear(torch.cat(heads, 1))


def self_attention(part, x):
    width = x.shape[1]
    packed = x @ part["qkv.weight"].T
    return attend(part, packed[:, :width], packed[:, width : 2 * width], packed[:, 2 * width :])


def cross_attention(part, x, other):
    packed = other @ part["kv.weight"].T
    return attend(part, x @ part["q.weight"].T, packed[:, : x.shape[1]], packed[:, x.shape[1] :])


def block(part, x):
    x = x + self_attention(part / "attn", (part / "norm1").norm(x))
    hidden = (part / "mlp" / "fc1").linear((part / "norm2").norm(x))
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return x + (part / "mlp" / "fc2").linear(hidden)


def cross_block(part, x, other):
    x = x + cross_attention(part / "cross_attn", (part / "cross_norm1").norm(x), (part / "cross_norm2").norm(other))
    return block(part, x)


def trunk(part, tokens):
    x, after = tokens + place(*tokens.shape), []
    for number in range(10):
        x = block(part / "blocks" / number, x)
        after.append(x.mean(0))
    return (part / "norm").norm(x), [after[layer] for layer in LAYERS]


@torch.no_grad()
def hicmae(state, pixels, spectrum):
    """One clip: pixels (3, 16, 160, 160), spectrum (256, 128) → (4 · width,)."""
    whole = Reader(state)
    width = (
        whole["fc_norm.weight"].shape[0] // 4 if "fc_norm.weight" in state else whole["encoder.norm.weight"].shape[0]
    )
    patch = whole / "encoder" / "patch_embed" / "proj"
    video = conv3d(pixels[None], patch["weight"], patch["bias"], (2, 16, 16))[0].reshape(width, -1).T
    patch = whole / "encoder_audio" / "patch_embed" / "proj"
    audio = conv2d(spectrum[None, None], patch["weight"], patch["bias"], 16)[0].reshape(width, -1).T
    (video, seen), (audio, heard) = trunk(whole / "encoder", video), trunk(whole / "encoder_audio", audio)
    fusion = whole / "encoder_fusion"
    for number in range(2):
        video, audio = (
            cross_block(fusion / "blocks" / number, video, audio),
            cross_block(fusion / "blocks_audio" / number, audio, video),
        )
    parts = []
    for name, means in (("video", seen), ("audio", heard)):
        weights = state.get(f"{name}_layer_weights", torch.full((3,), 1 / 3))
        parts.append(sum(weight * mean for weight, mean in zip(weights, means)))
    together = torch.cat([*parts, (fusion / "norm").norm(video).mean(0), (fusion / "norm_audio").norm(audio).mean(0)])
    if "fc_norm.weight" in state:
        return (whole / "fc_norm").norm(together)
    return layer_norm(together, together.shape, eps=1e-6)
