"""The encoders by name. A new one is one file beside this and one line in `ENCODERS`.

Nothing heavy is imported before an encoder is created or looked at.
"""

from __future__ import annotations

from importlib import import_module
from typing import Optional

from blemore.errors import Problem, ValidationError
from blemore_baselines.encoders.base import Encoder

# name → module in this folder : class
ENCODERS = {
    "gray_flow": "gray_flow:GrayFlow",
    "logmel": "logmel:LogMel",
}


def encoder_class(name: str) -> type[Encoder]:
    """The class of an encoder, for what it declares. Raises ValidationError: there is none of that name."""
    if name not in ENCODERS:
        raise ValidationError(Problem(
            "unknown-encoder", f"encoder {name!r}", f"there is none of that name; expected one of {', '.join(ENCODERS)}",
        ))
    module, _, attribute = ENCODERS[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute)


def create(name: str, preset: Optional[str] = None) -> Encoder:
    """An encoder, not yet loaded. Raises ValidationError: unknown name or preset."""
    return encoder_class(name)(preset)
