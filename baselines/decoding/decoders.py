"""The decoders by name. A new decoder needs a module here, a line in `DECODERS` and a line in `results/text.py`.

Nothing heavy is imported until a decoder is used. Each module has three functions:

    demand(dataset)                  raises ValidationError if the decoder cannot be fitted on this dataset
    fit(dataset, models, **options)  fits the decoder on out-of-fold scores and returns a `Decoded`
    read(spec, where)                returns the function that decodes the models' logits, from a `Decoded.spec`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from blemore.errors import Problem, ValidationError, show

if TYPE_CHECKING:
    import numpy as np

    from blemore_baselines.dataset import Dataset
    from blemore_baselines.decoding.scores import Models


class Decoder(NamedTuple):
    """module:  its module in this folder
    options: the options of its `fit`, with defaults
    spec:    the contents of its spec, for messages
    """

    module: str
    options: Mapping[str, float]
    spec: str


DECODERS = {
    "thresholds": Decoder("thresholds_decoder", {}, "alpha and beta"),
    "structured": Decoder("structured_decoder", {"weight": 0.5}, "its weight and parameters"),
}


class Answers(NamedTuple):
    """Label indices (N,). If the decoder provides them, also each clip's expected score (N,) and the factor (M,), at
    least 1, by which each model's scores are spread wider than out of fold; the decoder has divided by it.
    """

    labels: np.ndarray
    expected: np.ndarray | None
    excess: np.ndarray | None = None


class Decoded(NamedTuple):
    """A fitted decoder.

    figures: its results, for JSON
    nested:  (N,) each clip's label, from a fit on the other folds
    spec:    what `read` needs to decode the models' logits, for JSON; `name` is the decoder's name
    apply:   decodes the same models' scores of other clips
    """

    figures: dict
    nested: np.ndarray
    spec: dict
    apply: Callable[..., Answers]


def complete(name: str, options: Mapping[str, float]) -> dict[str, float]:
    """A decoder's options, with defaults for the missing ones.

    Raises ValueError: no such decoder or option.
    """
    if name not in DECODERS:
        raise ValueError(f"decoder {name!r}; expected one of {', '.join(DECODERS)}")
    unknown = set(options) - set(DECODERS[name].options)
    if unknown:
        expected = ", ".join(DECODERS[name].options) or "none"
        raise ValueError(f"options {', '.join(sorted(unknown))} for decoder {name!r}; expected {expected}")
    return {**DECODERS[name].options, **options}


def demand(name: str, dataset: Dataset) -> None:
    """ValidationError: the decoder cannot be fitted on this dataset, whatever the scores."""
    _module(name).demand(dataset)


def fit(name: str, dataset: Dataset, models: Models, **options: float) -> Decoded:
    """A decoder fitted on the models' out-of-fold scores, whose clips are in the dataset's order.

    Raises ValueError: see `complete`; ValidationError: see `demand`.
    """
    return _module(name).fit(dataset, models, **complete(name, options))


def read(spec: dict, where: str = "decoder") -> Callable[[np.ndarray], Answers]:
    """The function that decodes logits, from the spec of a decoder: (N, 6) if it was fitted on one model, (M, N, 6) if
    on several.

    Raises ValidationError, with `where`: the spec is damaged, or its decoder is unknown.
    """
    if spec.get("name") not in list(DECODERS):  # a list, because the name may be unhashable
        raise bad_spec(spec, where)
    return _module(spec["name"]).read(spec, where)


def bad_spec(spec: dict, where: str) -> ValidationError:
    """The error for a spec that no decoder wrote."""
    expected = ", or ".join(f"{name} with {decoder.spec}" for name, decoder in DECODERS.items())
    hint = "Was the file copied completely? Copy it again, or train again."
    return ValidationError(Problem("bad-decoder", where, f"found {show(str(spec))}; expected {expected}", hint=hint))


def _module(name: str) -> ModuleType:
    return import_module(f"{__package__}.{DECODERS[name].module}")
