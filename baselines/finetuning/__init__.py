"""Trains encoders end to end: from clips to a run folder like that of `train`.

Encoders have the same names as for `extract`. A new family is a module in this folder with a subclass of
`family.Family`, and a line in `FAMILIES`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from blemore.errors import Problem, ValidationError

if TYPE_CHECKING:
    from blemore_baselines.finetuning.family import Family

# An encoder's name (before the colon) → module in this folder : class
FAMILIES = {
    "hicmae": "hicmae:HiCMAEFamily",
    "videomaev2-base": "video:VideoFamily",
    "hf-video": "video:VideoFamily",
    "hubert": "speech:SpeechFamily",
    "wavlm": "speech:SpeechFamily",
    "hf-audio": "speech:SpeechFamily",
}
RECIPES = ("reference", "published", "last-layer")


def family_class(encoder: str) -> type[Family]:
    """The class that trains an encoder. Raises ValidationError: there is none."""
    place = FAMILIES.get(encoder.partition(":")[0])
    if place is None:
        names = ", ".join(f"{name}:ID" if name.startswith("hf-") else name for name in FAMILIES)
        message = f"cannot be fine-tuned; expected one of {names}"
        raise ValidationError(Problem("unknown-encoder", f"encoder {encoder!r}", message))
    module, _, attribute = place.partition(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute)
