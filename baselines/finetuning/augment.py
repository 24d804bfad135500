"""Augmentation of frames: RandAugment, a crop, a flip and a box of noise, the same for all frames of a view.

`draw` plans it with the random numbers of the view, and `augment` applies it on the model's device. The operations and
strengths are those of "rand-m7-n4-mstd0.5-inc1" in timm (Cubuk et al. 2020), on tensors: pixels differ from PIL's by
rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from blemore_baselines.encoders.frames import normalise_
from blemore_baselines.finetuning.recipes import Recipe

MAGNITUDE, SPREAD = 7.0, 0.5  # mean and deviation of the level, out of 10
GRAY = 128.0  # beyond the border

Box = tuple[int, int, int, int]  # top, left, height, width


class Plan(NamedTuple):
    operations: tuple[tuple[str, float], ...]  # names and strengths
    crop: Box
    flip: bool
    hole: Box | None
    seed: int  # of the noise in the hole


def draw(rng: np.random.Generator, side: int, recipe: Recipe) -> Plan:
    """A random plan for square frames."""
    names = [str(name) for name in rng.choice(list(OPERATIONS), recipe.operations) if rng.random() < 0.5]
    operations = tuple((name, _strength(name, rng)) for name in names)
    crop = _box(rng, side, (recipe.area, 1), (3 / 4, 4 / 3)) if recipe.area < 1 else None
    hole = _box(rng, side, (0.02, 1 / 3), (0.3, 1 / 0.3)) if rng.random() < recipe.erasing else None
    return Plan(operations, crop or (0, 0, side, side), bool(rng.random() < 0.5), hole, int(rng.integers(2**63)))


def _strength(name: str, rng: np.random.Generator) -> float:
    level = float(np.clip(rng.normal(MAGNITUDE, SPREAD), 0, 10)) / 10
    sign = rng.choice([-1.0, 1.0])
    _, scale, is_signed = OPERATIONS[name]
    return level * scale * (sign if is_signed else 1)


def _box(rng: np.random.Generator, side: int, areas: tuple[float, float], ratios: tuple[float, float]) -> Box | None:
    """A random box with an area (share of the picture) and a width : height in these ranges; None: ten did not fit."""
    for _ in range(10):
        area = rng.uniform(areas[0], areas[1]) * side**2
        ratio = math.exp(rng.uniform(math.log(ratios[0]), math.log(ratios[1])))
        height, width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < height <= side and 0 < width <= side:
            return int(rng.integers(side - height + 1)), int(rng.integers(side - width + 1)), height, width
    return None


def augment(
    frames: torch.Tensor, plans: Sequence[Plan | None], mean: Sequence[float], std: Sequence[float]
) -> torch.Tensor:
    """Clips (B, T, side, side, 3) uint8 to (B, T, 3, side, side) float32, normalised and augmented by their plans.

    Every clip is written to its place in the batch: on the CPU, large temporary tensors cost more than arithmetic.
    """
    batch = torch.empty(frames.movedim(-1, 2).shape, device=frames.device)
    for pixels, pictures, plan in zip(batch, frames.movedim(-1, 2), plans):
        pixels.copy_(_changed(pictures, plan) if plan else pictures)
        normalise_(pixels, mean, std)
        if plan and plan.hole:
            top, left, height, width = plan.hole
            noise = torch.Generator(pixels.device).manual_seed(plan.seed)
            pixels[:, :, top : top + height, left : left + width].normal_(generator=noise)
    return batch


def _changed(x: torch.Tensor, plan: Plan) -> torch.Tensor:
    """The plan's operations, crop and flip on (T, 3, side, side) in 0…255."""
    side = x.shape[-1]
    for name, strength in plan.operations:
        x = OPERATIONS[name][0](x.float(), strength).round_().clamp_(0, 255)
    if plan.crop != (0, 0, side, side):
        top, left, height, width = plan.crop
        x = x[:, :, top : top + height, left : left + width].float()
        x = F.interpolate(x, (side, side), mode="bilinear", align_corners=False)
    return x.flip(-1) if plan.flip else x


# ------------------------------------------------------------------------- the fifteen operations
# x: (T, 3, height, width) float32 in 0…255. strength: signed if the table below says so.


def _auto_contrast(x: torch.Tensor, strength: float) -> torch.Tensor:
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) * 255 / (high - low).clamp(min=1), x)


def _equalize(x: torch.Tensor, strength: float) -> torch.Tensor:
    """As in PIL: the new value is the cumulative histogram, without the brightest value that occurs."""
    values = x.flatten(2).flatten(0, 1).long()
    counts = torch.zeros(len(values), 256, device=x.device, dtype=torch.long)
    counts.scatter_add_(1, values, torch.ones_like(values))
    step = (values.shape[1] - counts.gather(1, values.amax(1, keepdim=True))) // 255
    table = (counts.cumsum(1) - counts + step // 2) // step.clamp(min=1)
    equal = table.clamp(0, 255).gather(1, values)
    return torch.where(step > 0, equal, values).view(x.shape).float()


def _posterize(x: torch.Tensor, strength: float) -> torch.Tensor:
    step = 2 ** (8 - (4 - int(strength)))
    return x.div(step, rounding_mode="floor") * step


def _gray(x: torch.Tensor) -> torch.Tensor:
    red, green, blue = x.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[:, None].round()


def _smooth(x: torch.Tensor) -> torch.Tensor:
    kernel = torch.tensor([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]], device=x.device).div(13).expand(3, 1, 3, 3)
    inner, y = F.conv2d(x, kernel, groups=3), x.clone()
    y[:, :, 1:-1, 1:-1] = inner  # the border is unchanged
    return y


def _towards(other: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor, float], torch.Tensor]:
    """Mixes with another picture: 1 + strength of the original, −strength of the other."""

    def mix(x: torch.Tensor, strength: float) -> torch.Tensor:
        factor = max(0.1, 1 + strength)
        return factor * x + (1 - factor) * other(x)

    return mix


def _moved(matrix: Callable[[float], Sequence[float]]) -> Callable[[torch.Tensor, float], torch.Tensor]:
    """Moves pixels: (x, y) gets the pixel at (ax + by + c, dx + ey + f), in coordinates from −1 to 1."""

    def move(x: torch.Tensor, strength: float) -> torch.Tensor:
        theta = torch.tensor(matrix(strength), device=x.device, dtype=x.dtype).view(1, 2, 3).expand(len(x), 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x - GRAY, grid, mode="bicubic", padding_mode="zeros", align_corners=False) + GRAY

    return move


def _rotation(degrees: float) -> list[float]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [cos, -sin, 0, sin, cos, 0]


# name → function, strength at level 10, whether the strength is signed
OPERATIONS: dict[str, tuple[Callable[[torch.Tensor, float], torch.Tensor], float, bool]] = {
    "auto-contrast": (_auto_contrast, 0, False),
    "equalize": (_equalize, 0, False),
    "invert": (lambda x, strength: 255 - x, 0, False),
    "rotate": (_moved(_rotation), 30, True),
    "posterize": (_posterize, 4, False),
    "solarize": (lambda x, strength: torch.where(x < 256 - int(strength), x, 255 - x), 256, False),
    "solarize-add": (lambda x, strength: torch.where(x < 128, x + int(strength), x), 110, False),
    "colour": (_towards(_gray), 0.9, True),
    "contrast": (_towards(lambda x: _gray(x).mean((1, 2, 3), keepdim=True).round()), 0.9, True),
    "brightness": (_towards(torch.zeros_like), 0.9, True),
    "sharpness": (_towards(_smooth), 0.9, True),
    "shear-x": (_moved(lambda s: [1, s, 0, 0, 1, 0]), 0.3, True),
    "shear-y": (_moved(lambda s: [1, 0, 0, s, 1, 0]), 0.3, True),
    "translate-x": (_moved(lambda s: [1, 0, 2 * s, 0, 1, 0]), 0.45, True),
    "translate-y": (_moved(lambda s: [1, 0, 0, 0, 1, 2 * s]), 0.45, True),
}
