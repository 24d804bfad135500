"""The paper's tables (Lachmann et al. 2026, arXiv 2601.13225) and its names for encoders. The figures are in
data/published_results.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

# The paper's name → spellings in folder names and in the kit's encoders; case and punctuation are ignored.
SPELLINGS = {
    "CLIP": ("clip",),
    "ImageBind": ("imagebind",),
    "OpenFace": ("openface", "openface2", "openface3"),
    "VideoMAEv2": ("videomae", "videomaev2", "videomaev2giant", "videomaev2base"),
    "VideoSwin": ("videoswin", "videoswinb", "videoswinbase", "videoswintransformer", "swin3d"),
    "HuBERT": ("hubert", "hubertlarge"),
    "WavLM": ("wavlm", "wavlmlarge"),
}


class Published(NamedTuple):
    """A row of the paper's tables, head MLP-512.

    method:     aggregate | subsample
    validation: acc_presence and acc_salience, each as `mean` and `std` over five folds, in [0, 1]
    test:       acc_presence and acc_salience, in [0, 1]
    """

    encoders: tuple[str, ...]
    method: str
    validation: Mapping[str, Mapping[str, float]]
    test: Mapping[str, float]


def read_published() -> list[Published]:
    """The paper's rows in order: single encoders, subsampled encoders, pairs."""
    return [Published(tuple(row["encoders"]), row["method"], row["validation"], row["test"]) for row in _read()["rows"]]


def read_published_trivial() -> dict[str, Mapping[str, Mapping[str, float]]]:
    """The constant answers `single` and `blend`: validation and test, each with acc_presence and acc_salience."""
    return {answer["answer"]: answer for answer in _read()["trivial"]}


def paper_name(encoder: str) -> str:
    """The paper's name for an encoder; encoders that are not in the paper keep their own.

    >>> paper_name("WavLM_large"), paper_name("openface_3"), paper_name("HiCMAE")
    ('WavLM', 'OpenFace', 'HiCMAE')
    """
    plain = re.sub(r"[\W_]", "", encoder.lower())
    return next((name for name, spellings in SPELLINGS.items() if plain in spellings), encoder)


def _read() -> dict:
    package = Path(__file__).parents[1]
    installed = package / "data"
    folder = installed if installed.is_dir() else package.parent / "data"  # a checkout's own
    return json.loads((folder / "published_results.json").read_text(encoding="utf-8"))
