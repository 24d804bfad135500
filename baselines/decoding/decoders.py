"""The decoders by name. A new one is one module beside this, one line in `DECODERS`, and one in `results/text.py`.

Nothing heavy is imported before a decoder is used. Its module has three functions:

    demand(dataset)                  ValidationError: it cannot be fitted on a dataset like this one
    fit(dataset, models, **options)  fitted on out-of-fold scores: a `Decoded`
    read(spec, where)                how to decode logits of the models, from what `Decoded.spec` was
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
    """module:  in this folder
    options: of its `fit`, by name, and their defaults
    spec:    what is in its spec, for messages
    """

    module: str
    options: Mapping[str, float]
    spec: str


DECODERS = {
    "thresholds": Decoder("thresholds_decoder", {}, "alpha and beta"),
    "structured": Decoder("structured_decoder", {"weight": 0.5}, "its weight and parameters"),
}


class Answers(NamedTuple):
    """Label indices (N,), and where the decoder knows them each clip's expected score (N,), and how much wider than out
    of fold each model's scores are spread (M,), at least 1: what the decoder has divided them by.
    """

    labels: np.ndarray
    expected: np.ndarray | None
    excess: np.ndarray | None = None


class Decoded(NamedTuple):
    """A fitted decoder.

    figures: how well it does, for JSON
    nested:  (N,) each clip's label, by what was fitted on the other folds
    spec:    what `read` needs to decode the models' logits, for JSON; its `name` is the decoder's
    apply:   decodes the same models' scores of other clips
    """

    figures: dict
    nested: np.ndarray
    spec: dict
    apply: Callable[..., Answers]


def complete(name: str, options: Mapping[str, float]) -> dict[str, float]:
    """A decoder's options, with defaults for those that are not given.

    Raises ValueError: there is no such decoder, or it has no such option.
    """
    if name not in DECODERS:
        raise ValueError(f"decoder {name!r}; expected one of {', '.join(DECODERS)}")
    unknown = set(options) - set(DECODERS[name].options)
    if unknown:
        expected = ", ".join(DECODERS[name].options) or "none"
        raise ValueError(f"options {', '.join(sorted(unknown))} for decoder {name!r}; expected {expected}")
    return {**DECODERS[name].options, **options}


def demand(name: str, dataset: Dataset) -> None:
    """ValidationError: the decoder cannot be fitted on out-of-fold scores of this dataset, however good."""
    _module(name).demand(dataset)


def fit(name: str, dataset: Dataset, models: Models, **options: float) -> Decoded:
    """A decoder fitted on the models' out-of-fold scores of the dataset's clips, in its order.

    Raises ValueError as `complete`; ValidationError as `demand`.
    """
    return _module(name).fit(dataset, models, **complete(name, options))


def read(spec: dict, where: str = "decoder") -> Callable[[np.ndarray], Answers]:
    """How a decoder that was fitted before decodes the logits of what it was fitted on: (N, 6) of one model, or
    (M, N, 6) of several.

    Raises ValidationError, with `where`: the spec is damaged, or of a decoder that is not known.
    """
    if spec.get("name") not in list(DECODERS):  # a name that cannot be hashed is no name either
        raise bad_spec(spec, where)
    return _module(spec["name"]).read(spec, where)


def bad_spec(spec: dict, where: str) -> ValidationError:
    """For a spec that no decoder has written."""
    expected = ", or ".join(f"{name} with {decoder.spec}" for name, decoder in DECODERS.items())
    hint = "Was the file copied whole? Copy it again, or train again."
    return ValidationError(Problem("bad-decoder", where, f"found {show(str(spec))}; expected {expected}", hint=hint))


def _module(name: str) -> ModuleType:
    return import_module(f"{__package__}.{DECODERS[name].module}")
