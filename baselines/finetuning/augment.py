"""Pictures that vary from epoch to epoch: RandAugment, a crop, a flip, a box of noise; the same for all of a view's.

What is to be done is drawn where a view is (`draw`), from its own random numbers; it is done on the model's device
(`augment`). The operations and their strengths are those of "rand-m7-n4-mstd0.5-inc1" in timm (Cubuk et al. 2020), on
tensors: pixels differ from PIL's by rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from blemore_baselines.encoders.frames import normalise
from blemore_baselines.finetuning.recipes import Recipe

MAGNITUDE, SPREAD = 7.0, 0.5  # of 10; mean and deviation
GRAY = 128.0  # what is beyond the picture

Box = tuple[int, int, int, int]  # top, left, height, width


class Plan(NamedTuple):
    operations: tuple[tuple[str, float], ...]  # names and strengths
    crop: Box
    flip: bool
    hole: Box | None
    seed: int  # of the noise in it


def draw(rng: np.random.Generator, side: int, recipe: Recipe) -> Plan:
    """A plan for square pictures of this side."""
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
    """Of a share of the picture's area and a ratio of width to height; None: ten of them did not fit."""
    for _ in range(10):
        area = rng.uniform(areas[0], areas[1]) * side**2
        ratio = math.exp(rng.uniform(math.log(ratios[0]), math.log(ratios[1])))
        height, width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < height <= side and 0 < width <= side:
            return int(rng.integers(side - height + 1)), int(rng.integers(side - width + 1)), height, width
    return None


def augment(pictures: torch.Tensor, plan: Plan | None, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """(T, side, side, 3) uint8 to (T, 3, side, side) float32, normalised; as they are without a plan."""
    x, side = pictures.movedim(-1, 1).contiguous(), pictures.shape[1]  # what follows is faster so
    if plan is None:
        return normalise(x.movedim(1, -1).float(), mean, std)
    if plan.operations:
        x = x.float()
        for name, strength in plan.operations:
            x = OPERATIONS[name][0](x, strength).round().clamp(0, 255)
    top, left, height, width = plan.crop
    x = normalise(x[:, :, top : top + height, left : left + width].movedim(1, -1).float(), mean, std)
    if plan.crop != (0, 0, side, side):
        x = F.interpolate(x, (side, side), mode="bilinear", align_corners=False)
    x = x.flip(-1) if plan.flip else x
    if plan.hole:
        top, left, height, width = plan.hole
        noise = torch.Generator(x.device).manual_seed(plan.seed)
        x[:, :, top : top + height, left : left + width] = torch.randn(
            (len(x), 3, height, width), generator=noise, device=x.device
        )
    return x


# ------------------------------------------------------------------------- the fifteen operations
# x: (T, 3, height, width) float32 in 0…255. strength: signed where the table below says so.


def _auto_contrast(x: torch.Tensor, strength: float) -> torch.Tensor:
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) * 255 / (high - low).clamp(min=1), x)


def _equalize(x: torch.Tensor, strength: float) -> torch.Tensor:
    """As PIL does: the cumulated histogram, without the last colour that occurs, becomes the new value."""
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
    y[:, :, 1:-1, 1:-1] = inner  # the border stays
    return y


def _towards(other: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor, float], torch.Tensor]:
    """Mixes with another picture: 1 + strength of the one, −strength of the other."""

    def mix(x: torch.Tensor, strength: float) -> torch.Tensor:
        factor = max(0.1, 1 + strength)
        return factor * x + (1 - factor) * other(x)

    return mix


def _moved(matrix: Callable[[float], Sequence[float]]) -> Callable[[torch.Tensor, float], torch.Tensor]:
    """Where each pixel comes from: a, b, c, d, e, f of x' = ax + by + c, y' = dx + ey + f, the picture being −1…1."""

    def move(x: torch.Tensor, strength: float) -> torch.Tensor:
        theta = torch.tensor(matrix(strength), device=x.device, dtype=x.dtype).view(1, 2, 3).expand(len(x), 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x - GRAY, grid, mode="bicubic", padding_mode="zeros", align_corners=False) + GRAY

    return move


def _rotation(degrees: float) -> list[float]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [cos, -sin, 0, sin, cos, 0]


# name → function, strength at level 10, whether it goes both ways
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
