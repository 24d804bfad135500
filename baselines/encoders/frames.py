"""From decoded frames to a model's pixels, and from frames to windows.

A frame is RGB uint8 (height, width, 3). It is resized and cropped when it is decoded, which leaves kilobytes of
megabytes, and stays uint8 until it is in a batch on the model's device, where `normalise` scales it.

The models' authors resize in two ways: `bicubic` is antialiased, as in PIL; `bilinear` is not, as in OpenCV and, by
default, torch. `bicubic` uses torch, which takes a tenth of PIL's time and differs from it by 1 of 255 in a few pixels
per thousand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch.nn.functional import interpolate

T = TypeVar("T")

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def short_side(frame: np.ndarray, side: int) -> tuple[int, int]:
    """The (height, width) at which a frame's shorter side is `side`."""
    height, width = frame.shape[:2]
    return (side, int(side * width / height)) if height <= width else (int(side * height / width), side)


def bicubic(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    pixels = torch.from_numpy(frame).permute(2, 0, 1)[None]
    return interpolate(pixels, size=size, mode="bicubic", antialias=True)[0].permute(1, 2, 0).numpy()


def bilinear(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR)


def centre(frame: np.ndarray, side: int, rounding: Callable[[float], int] = round) -> np.ndarray:
    """The centre square. `rounding` decides if it is off centre by half a pixel: most libraries round to even."""
    top, left = (rounding((length - side) / 2) for length in frame.shape[:2])
    return frame[top : top + side, left : left + side]


def normalise(batch: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """(…, height, width, 3) in 0…255 to (…, 3, height, width): scaled to 0…1, minus the mean, divided by the deviation.

    Computed in float32; the result has the type of the batch. A GPU does it in one pass, whose last bits may differ.
    """
    means, deviations, offsets, factors = _scale(tuple(mean), tuple(std), batch.device)
    if batch.is_cuda:
        scaled = torch.addcmul(offsets, batch.float(), factors)
    else:
        scaled = (batch.float() / 255 - means) / deviations
    return scaled.to(batch.dtype).movedim(-1, -3)


def normalise_(pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """(…, 3, height, width) float32 in 0…255, in place: as `normalise`, up to rounding."""
    _, _, offsets, factors = _scale(tuple(mean), tuple(std), pixels.device)
    return pixels.mul_(factors[:, None, None]).add_(offsets[:, None, None])


@cache
def _scale(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[torch.Tensor, ...]:
    """Means and deviations for 0…1, then offsets and factors for 0…255.

    They are copied to the device once: each copy would stall a GPU.
    """
    with torch.inference_mode(False):  # training may use them later
        means, deviations = torch.tensor([mean, std])
        parts = means, deviations, -means / deviations, 1 / (255 * deviations)
        return tuple(part.to(device) for part in parts)


def windows(frames: Iterable[T], length: int, stride: int) -> Iterator[list[T]]:
    """Windows of `length` frames, a new one every `stride` ≤ `length` frames, until every frame was in one.

    n frames give 1 + ⌈(n − length) / stride⌉ windows, at least 1. The last window starts earlier if frames would be
    missing. A clip with fewer than `length` frames repeats its last frame.
    """
    window: deque[T] = deque(maxlen=length)
    due = length  # frames until the next window is full
    for frame in frames:
        window.append(frame)
        due -= 1
        if not due:
            yield list(window)
            due = stride
    begun = due < stride or len(window) < length
    if begun and window:
        yield [*window, *[window[-1]] * (length - len(window))]


def full_windows(frames: Sequence[T], length: int, stride: int) -> Iterator[Sequence[T]]:
    """As `windows`, but only those that are full by themselves."""
    return (frames[start : start + length] for start in range(0, len(frames) - length + 1, stride))


def filled(frames: Iterable[np.ndarray], multiple: int) -> Iterator[np.ndarray]:
    """The frames, followed by black ones until their number is a multiple of `multiple`."""
    number = 0
    for number, frame in enumerate(frames, start=1):  # noqa: B007  # both are needed after the loop
        yield frame
    yield from (np.zeros_like(frame) for _ in range(-number % multiple))
