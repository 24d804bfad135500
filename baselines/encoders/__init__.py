"""The encoders by name: the kit's own, those of installed packages, and any class in a file.

Each of the kit's own has a file in this folder and a line in `ENCODERS`. README.md shows how to write another. Nothing
heavy is imported until an encoder's class is needed.
"""

from __future__ import annotations

from importlib import import_module

from blemore.errors import Problem, ValidationError
from blemore_baselines.encoders import elsewhere
from blemore_baselines.encoders.base import Encoder

# name → module in this folder : class
ENCODERS = {
    "gray_flow": "gray_flow:GrayFlow",
    "looks": "looks:Looks",
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
# Any model of a family: `hf-image:ID` and so on, where ID is a hub id or a local folder.
FAMILIES = {
    "hf-image": "huggingface_image:HFImage",
    "hf-video": "huggingface_video:HFVideo",
    "hf-audio": "speech:HFAudio",
}


def installed() -> list[str]:
    """The names of encoders from other packages: entry points of the group `blemore.encoders`."""
    return sorted(set(elsewhere.entry_points()) - ENCODERS.keys() - FAMILIES.keys())


def module_name(name: str) -> str | None:
    """The module of one of the kit's own encoders; None: the name is not one of theirs. Imports nothing."""
    place = _place(name)
    return f"{__name__}.{place.partition(':')[0]}" if place else None


def _place(name: str) -> str | None:
    family, _, source = name.partition(":")
    return FAMILIES.get(family) if source else ENCODERS.get(name)


def encoder_class(name: str) -> type[Encoder]:
    """The class of an encoder.

    Raises ValidationError: no encoder has this name, or it cannot be imported; FileError: its file cannot be read.
    """
    if place := _place(name):
        module, _, attribute = place.partition(":")
        return getattr(import_module(f"{__name__}.{module}"), attribute)
    if elsewhere.is_file(name):
        return elsewhere.from_file(name)
    if name in installed():
        return elsewhere.from_package(name)
    names = ", ".join([*ENCODERS, *installed(), *(f"{family}:ID" for family in FAMILIES), "FILE.py:CLASS"])
    raise ValidationError(
        Problem("unknown-encoder", f"encoder {name!r}", f"no encoder has this name; expected one of {names}")
    )


def create(name: str, preset: str | None = None, **options) -> Encoder:
    """An encoder, not yet loaded. `options` (weights, device, precision, layers, faces) are those that its class takes.

    Raises ValidationError: the name or preset is unknown, or the encoder cannot be created; FileError: see
    `encoder_class`.
    """
    family, _, source = name.partition(":")
    if family in FAMILIES:
        options["weights"] = source
    kind = encoder_class(name)
    with elsewhere.blamed_on(kind):
        return kind(preset, **options)
