"""The encoders by name. A new one is one file beside this and one line in `ENCODERS`.

Nothing heavy is imported before an encoder is created or looked at.
"""

from __future__ import annotations

from importlib import import_module

from blemore.errors import Problem, ValidationError
from blemore_baselines.encoders.base import Encoder

# name → module in this folder : class
ENCODERS = {
    "gray_flow": "gray_flow:GrayFlow",
    "logmel": "logmel:LogMel",
    "egemaps": "egemaps:EGeMAPS",
    "openface2": "openface:OpenFace2",
    "openface3": "openface:OpenFace3",
    "clip": "clip:CLIP",
    "imagebind": "imagebind:ImageBind",
    "videomaev2": "videomaev2:VideoMAEV2",
    "videomaev2-base": "videomaev2:VideoMAEV2Base",
    "videoswin": "videoswin:VideoSwinB",
    "videoswin-s": "videoswin:VideoSwinS",
    "videoswin-t": "videoswin:VideoSwinT",
    "hubert": "speech:Hubert",
    "wavlm": "speech:WavLM",
    "hicmae": "hicmae:HiCMAE",
}
# Any model of a kind: `hf-image:ID`, `hf-audio:ID`, where ID is a hub id or a local folder.
FAMILIES = {
    "hf-image": "huggingface_image:HFImage",
    "hf-audio": "speech:HFAudio",
}


def encoder_class(name: str) -> type[Encoder]:
    """The class of an encoder, for what it declares. Raises ValidationError: there is none of that name."""
    family, _, source = name.partition(":")
    place = FAMILIES.get(family) if source else ENCODERS.get(name)
    if place is None:
        known = ", ".join([*ENCODERS, *(f"{family}:ID" for family in FAMILIES)])
        message = f"there is none of that name; expected one of {known}"
        raise ValidationError(Problem("unknown-encoder", f"encoder {name!r}", message))
    module, _, attribute = place.partition(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute)


def create(name: str, preset: str | None = None, **options) -> Encoder:
    """An encoder, not yet loaded; `options` (weights, device, precision, layers, faces) as its class takes them.

    Raises ValidationError: unknown name or preset.
    """
    family, _, source = name.partition(":")
    if source:
        options["weights"] = source
    return encoder_class(name)(preset, **options)
