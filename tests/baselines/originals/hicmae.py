"""HiCMAE with a linear head, and AdamW with a rate for each layer, as plain functions of named tensors.

Written from the model's description: nothing is a module, nothing is fused, and every name is spelt out.
"""

import math

import torch


def norm(x, state, name):
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-6) * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x, state, name):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def attention(x, other, state, name, cross):
    width = x.shape[-1]
    if cross:
        wq, (wk, wv) = state[f"{name}.q.weight"], state[f"{name}.kv.weight"].split(width)
    else:
        wq, wk, wv = state[f"{name}.qkv.weight"].split(width)
    q, k, v = x @ wq.T + state[f"{name}.q_bias"], other @ wk.T, other @ wv.T + state[f"{name}.v_bias"]
    head, outputs = min(64, width), []
    for start in range(0, width, head):
        part = slice(start, start + head)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(head)
        outputs.append(torch.exp(scores) / torch.exp(scores).sum(-1, keepdim=True) @ v[..., part])
    return linear(torch.cat(outputs, -1), state, f"{name}.proj")


def block(x, other, state, name):
    if other is not None:
        y, z = norm(x, state, f"{name}.cross_norm1"), norm(other, state, f"{name}.cross_norm2")
        x = x + attention(y, z, state, f"{name}.cross_attn", cross=True)
    y = norm(x, state, f"{name}.norm1")
    x = x + attention(y, y, state, f"{name}.attn", cross=False)
    y = linear(norm(x, state, f"{name}.norm2"), state, f"{name}.mlp.fc1")
    y = 0.5 * y * (1 + torch.erf(y / math.sqrt(2)))
    return x + linear(y, state, f"{name}.mlp.fc2")


def trunk(x, state, name, depth):
    """Pixels (B, 3, T, H, W) or a spectrogram (B, 1, T, F): tokens, and each layer's normed mean over them."""
    weight = state[f"{name}.patch_embed.proj.weight"]
    for axis, size in enumerate(weight.shape[2:], start=2):
        x = x.unfold(axis, size, size)
    axes = weight.ndim - 2
    tokens = x.permute(0, *range(2, 2 + axes), 1, *range(2 + axes, 2 + 2 * axes)).flatten(1 + axes).flatten(1, axes)
    tokens = tokens @ weight.flatten(1).T + state[f"{name}.patch_embed.proj.bias"]
    count, width = tokens.shape[1:]
    places = torch.zeros(count, width, dtype=torch.float64)
    for column in range(width):
        angle = torch.arange(count, dtype=torch.float64) / 10_000 ** (2 * (column // 2) / width)
        places[:, column] = torch.cos(angle) if column % 2 else torch.sin(angle)
    tokens, means = tokens + places.float().to(tokens.dtype), []  # which are stored so
    for number in range(depth):
        tokens = block(tokens, None, state, f"{name}.blocks.{number}")
        means.append(norm(tokens, state, f"{name}.norm").mean(1))
    return norm(tokens, state, f"{name}.norm"), means


def logits(state, video, audio, depth, fused):
    parts, tokens = [], []
    for x, name, kind in ((video, "encoder", "video"), (audio, "encoder_audio", "audio")):
        last, means = trunk(x, state, name, depth)
        weights = torch.exp(state[f"{kind}_layer_weights"])
        parts.append(sum(weight * mean for weight, mean in zip(weights / weights.sum(), means)))
        tokens.append(last)
    for number in range(fused):
        tokens = [
            block(tokens[0], tokens[1], state, f"encoder_fusion.blocks.{number}"),
            block(tokens[1], tokens[0], state, f"encoder_fusion.blocks_audio.{number}"),
        ]
    parts += [norm(x, state, f"encoder_fusion.{name}").mean(1) for x, name in zip(tokens, ("norm", "norm_audio"))]
    return linear(norm(torch.cat(parts, -1), state, "fc_norm"), state, "head")


def layer_of(name, depth, fused):
    """0 for both patch embeddings, then the trunks' blocks, those of the fusion, and everything else."""
    words = name.split(".")
    if "patch_embed" in words:
        return 0
    if words[0] == "encoder_fusion" and words[1] in ("blocks", "blocks_audio"):
        return depth + 1 + int(words[2])
    if words[0] in ("encoder", "encoder_audio") and words[1] == "blocks":
        return 1 + int(words[2])
    return depth + fused + 1


def divergence(x, targets):
    """The batch's mean of Σ t (log t − log softmax(x)), with 0 log 0 = 0."""
    total = 0.0
    for row, target in zip(x, targets):
        logs = row - torch.log(torch.exp(row).sum())
        total = total + sum(t * (torch.log(t) - p) for t, p in zip(target, logs) if t > 0)
    return total / len(x)


class AdamW:
    """Loshchilov and Hutter 2019: betas 0.9 and 0.999, ε 1e-8, the decay apart from the gradient."""

    def __init__(self, state):
        self.state, self.steps = state, 0
        self.first = {name: torch.zeros_like(value) for name, value in state.items()}
        self.second = {name: torch.zeros_like(value) for name, value in state.items()}

    def step(self, gradients, rates, decays):
        self.steps += 1
        for name, gradient in gradients.items():
            self.first[name] = 0.9 * self.first[name] + 0.1 * gradient
            self.second[name] = 0.999 * self.second[name] + 0.001 * gradient**2
            first = self.first[name] / (1 - 0.9**self.steps)
            second = self.second[name] / (1 - 0.999**self.steps)
            value = self.state[name].detach() * (1 - rates[name] * decays[name])
            self.state[name] = value - rates[name] * first / (torch.sqrt(second) + 1e-8)
