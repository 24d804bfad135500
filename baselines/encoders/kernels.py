"""Faster replacements for parts of models on a GPU, with the same results up to rounding.

On a GPU, passes over memory between the large products take most of the time. On the CPU, models stay unchanged, so
features keep their bytes.
"""

from __future__ import annotations

from math import prod

import torch
from torch import nn
from torch.nn.functional import linear, silu
from torch.nn.utils.parametrize import remove_parametrizations

QUICK = 1.702  # of the quick GELU, x · σ(1.702 x)


class Patches(nn.Module):
    """A convolution with kernels that do not overlap, as one product: (B, C, …) to (B, width, …).

    GPUs have no good kernel for few channels and large strides, and some versions of torch take gigabytes for it.
    """

    def __init__(self, convolution: nn.Conv2d | nn.Conv3d):
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        axes = range(2, x.ndim)
        counts: list[int] = []
        for axis, side in zip(reversed(axes), reversed(self.weight.shape[2:])):
            counts.insert(0, x.shape[axis] // side)
            x = x.narrow(axis, 0, counts[0] * side).unflatten(axis, (-1, side))
        # (B, C, count, side, count, side, …) to (B, patches, C · sides)
        order = [0, *(2 * axis - 2 for axis in axes), 1, *(2 * axis - 1 for axis in axes)]
        x = x.permute(order).reshape(len(x), prod(counts), -1)
        return linear(x, self.weight.flatten(1), self.bias).transpose(1, 2).unflatten(2, counts)


class QuickMLP(nn.Module):
    """Two layers with the quick GELU between them, which is SiLU(1.702 x) / 1.702: the products scale, at no cost."""

    def __init__(self, first: nn.Linear, second: nn.Linear):
        super().__init__()
        self.fc1, self.fc2 = first, second
        self.scaled_bias = nn.Parameter(QUICK * first.bias.detach(), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = silu(torch.addmm(self.scaled_bias, x.flatten(0, -2), self.fc1.weight.T, alpha=QUICK), inplace=True)
        return torch.addmm(self.fc2.bias, hidden, self.fc2.weight.T, alpha=1 / QUICK).unflatten(0, x.shape[:-1])


def accelerate(model: nn.Module) -> None:
    """Replace parts of a model by faster ones, in place."""
    from transformers.activations import QuickGELUActivation
    from transformers.models.clip.modeling_clip import CLIPMLP

    example = next(replace_patching(model).parameters())
    for module in list(model.modules()):
        for name in list(getattr(module, "parametrizations", ())):  # such as weight normalisation: computed once
            remove_parametrizations(module, name)
        for name, part in list(module.named_children()):
            if isinstance(part, CLIPMLP) and isinstance(part.activation_fn, QuickGELUActivation):
                module.add_module(name, QuickMLP(part.fc1, part.fc2))
        table = vars(module).get("position_embeddings")  # neither a parameter nor a buffer
        if isinstance(table, torch.Tensor):
            module.position_embeddings = table.to(example)


def replace_patching(model: nn.Module) -> nn.Module:
    """The model, with every convolution whose kernels do not overlap replaced by `Patches`, in place.

    On the CPU, too, training is faster: the gradient of such a convolution takes longer than a product.
    """
    for module in list(model.modules()):
        for name, part in list(module.named_children()):
            if isinstance(part, (nn.Conv2d, nn.Conv3d)) and _is_patching(part):
                module.add_module(name, Patches(part))
    return model


def _is_patching(convolution: nn.Conv2d | nn.Conv3d) -> bool:
    plain = convolution.groups == 1 and not any(convolution.padding) and set(convolution.dilation) == {1}
    return plain and convolution.kernel_size == convolution.stride
