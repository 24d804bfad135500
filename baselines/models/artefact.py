"""The artefact, the model for new clips on disk: model.safetensors has its tensors, model.json everything else.

An artefact may be damaged or come from elsewhere, so every part is checked when it is read, and nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import nn

from blemore.errors import FileError, Problem, ValidationError, show
from blemore.io import read_bytes, to_json, write_atomic
from blemore.labels import EMOTIONS
from blemore_baselines.decoding.normalise import Reference
from blemore_baselines.models.heads import Scaler, build_head
from blemore_baselines.models.recipes import HEADS, NORMALISATIONS, PRESETS
from blemore_baselines.sources.folder import unfinished

FROM_CONFIG = ("head", "method", "features", "test_protocol", "recipe", "seed", "versions")
COPY_AGAIN = "Was the run copied completely? Copy it again, or train again."


class Model(NamedTuple):
    """A head, the scaler in front of it, and the reference to which actors are normalised, if they are."""

    head: nn.Module
    scaler: Scaler
    reference: Reference | None


def save_model(model: Model, config: Mapping, decoder: dict, folds: Sequence[int], epochs: int, out: Path) -> None:
    """Write the artefact.

    config:  what config.json holds (run_folder.py)
    decoder: the spec of the decoder (decoding/decoders.py)
    folds:   the folds that the model was trained on, for so many `epochs`
    """
    tensors = {f"head.{name}": tensor.cpu().contiguous() for name, tensor in model.head.state_dict().items()}
    for part, arrays in (("scaler", model.scaler), ("normalise", model.reference)):
        if arrays:
            tensors |= {f"{part}.{name}": torch.from_numpy(array) for name, array in arrays._asdict().items()}
    write_atomic(out / "model.safetensors", safetensors.torch.save(tensors))
    spec = {
        **{key: config[key] for key in FROM_CONFIG},
        **({"normalise": config["normalise"]} if model.reference else {}),
        "emotions": list(EMOTIONS),
        "decoder": decoder,
        "folds": list(folds),
        "epochs": epochs,
    }
    write_atomic(out / "model.json", to_json(spec))


# ------------------------------------------------------------------------------------ reading


def read_artefact(folder: Path) -> dict:
    """The contents of model.json, of a model of features, of several seeds or of clips; only `decoder` is checked.

    Raises FileError: the folder has no model; ValidationError: model.json is damaged.
    """
    _demand_artefact(folder)
    return parse_or_refuse(folder / "model.json", _parse_artefact)


def read_spec(run: Path) -> dict:
    """The contents of model.json of a model of features, checked as far as `read_model` and `predict` need.

    Raises FileError: it cannot be opened; ValidationError: it is damaged.
    """
    return parse_or_refuse(run / "model.json", _parse_spec)


def read_model(run: Path, spec: dict) -> Model:
    """The model, with its head in float64. spec: from `read_spec`. Raises as `read_spec`."""
    return parse_or_refuse(run / "model.safetensors", lambda raw: _parse_tensors(raw, spec))


def _demand_artefact(folder: Path) -> None:
    """FileError: the path exists, but is no folder with a model."""
    if not folder.exists() or (folder / "model.json").exists():
        return
    content = "no model.json in it" if folder.is_dir() else "a file"
    hint = "Give the run folder itself to --model, and folders of features to --features."
    raise FileError(
        unfinished(folder)
        or Problem("no-model", str(folder), f"{content}; expected a run folder, as `train` writes it", hint=hint)
    )


def parse_or_refuse(path: Path, parse: Callable[[bytes], Any]) -> Any:
    """The parsed contents of a file of the artefact. ValidationError: it is damaged, or something else."""
    raw = read_bytes(path)
    try:
        return parse(raw)
    except (ValueError, KeyError, RecursionError, safetensors.SafetensorError) as error:
        raise ValidationError(Problem("bad-model", str(path), f"cannot be read: {error}", hint=COPY_AGAIN)) from None


def _parse_artefact(raw: bytes) -> dict:
    """What all artefacts have in common. ValueError says what is wrong. The decoder itself checks its spec."""
    spec = json.loads(raw, parse_constant=int)  # int refuses NaN and Infinity
    if not isinstance(spec, dict) or spec.get("emotions") != list(EMOTIONS):
        raise ValueError("not an artefact of `train`, whose emotions are " + ", ".join(EMOTIONS))
    _demand_parts(spec, {"decoder": isinstance(spec.get("decoder"), dict)})
    return spec


def _parse_spec(raw: bytes) -> dict:
    """The spec of a model of features. ValueError says what is wrong."""
    spec = _parse_artefact(raw)
    features = spec.get("features")
    sound = {
        "head": spec.get("head") in tuple(HEADS),
        "method": spec.get("method") in tuple(PRESETS["published"]),
        "features": isinstance(features, list) and bool(features) and all(map(_is_source, features)),
        "normalise": spec.get("normalise", "none") in NORMALISATIONS,
    }
    _demand_parts(spec, sound)
    return spec


def _demand_parts(spec: dict, sound: Mapping[str, bool]) -> None:
    """ValueError names the parts of a spec that are not sound."""
    wrong = [
        f"{key} is {show(str(spec[key])) if key in spec else 'missing'}" for key, fine in sound.items() if not fine
    ]
    if wrong:
        raise ValueError(f"{'; '.join(wrong)}; expected what `train` writes")


def _is_source(entry: object) -> bool:
    """Whether an entry of `features` has what `predict` needs of what `run_folder.describe` writes."""
    if not isinstance(entry, dict) or not isinstance(entry.get("encoder", ""), str):
        return False
    return isinstance(entry.get("path"), str) and isinstance(entry.get("dim"), int) and 0 < entry["dim"] < 2**31


def _parse_tensors(raw: bytes, spec: dict) -> Model:
    """ValueError: there are other arrays than the spec says, or arrays of other shapes."""
    tensors, dim = safetensors.torch.load(raw), sum(source["dim"] for source in spec["features"])
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    with torch.device("meta"):  # shapes only, because a damaged `dim` may be too large for the memory
        head = build_head(spec["head"], dim, seed=0)
    is_normalised = spec.get("normalise", "none") != "none"
    expected = {
        **({f"normalise.{name}": (dim,) for name in Reference._fields} if is_normalised else {}),
        **{f"scaler.{name}": (dim,) for name in Scaler._fields},
        **{f"head.{name}": tuple(parameter.shape) for name, parameter in head.state_dict().items()},
    }
    if shapes != expected:
        raise ValueError(f"found the arrays {show(str(shapes), 300)}; expected {expected}, according to model.json")
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    scaler = Scaler(*(tensors.pop(f"scaler.{name}").numpy() for name in Scaler._fields))
    reference = None
    if is_normalised:
        reference = Reference(*(tensors.pop(f"normalise.{name}").numpy() for name in Reference._fields))
    head.load_state_dict({name.removeprefix("head."): tensor for name, tensor in tensors.items()}, assign=True)
    return Model(head, scaler, reference)
