"""Decoders on scores that are normalised per actor (normalise.py), next to the same decoder without normalising.

Normalising uses all clips of an actor at once, including the clips being judged, but none of their labels. So its
figures form a separate account, reported next to the inductive one with their paired difference.
"""

from __future__ import annotations

from collections.abc import Sequence

from blemore.report import to_dict
from blemore.significance import compare, intervals
from blemore_baselines.dataset import Dataset
from blemore_baselines.decoding import decoders
from blemore_baselines.decoding.accounts import scored
from blemore_baselines.decoding.decoders import Answers, Decoded
from blemore_baselines.decoding.normalise import fit_references, normalise_models
from blemore_baselines.decoding.scores import Models


def fit(name: str, dataset: Dataset, models: Models, method: str, **options: float) -> Decoded:
    """`decoders.fit` on normalised scores. The figures have an extra entry, `normalise`, with the method and both
    accounts; `apply` takes the models' scores of new clips and the actor of each clip.

    method: one of `NORMALISATIONS`; `none` is the same as `decoders.fit`, and needs no actors
    """
    inductive = decoders.fit(name, dataset, models, **options)
    if method == "none":
        return inductive._replace(apply=lambda new, _=None: inductive.apply(new))
    references = fit_references(models, dataset.actors)
    normalised = normalise_models(models, dataset.actors, method, references)
    decoded = decoders.fit(name, dataset, normalised, **options)
    transductive, without = (scored(dataset, decoder.nested) for decoder in (decoded, inductive))
    account = to_dict(transductive, intervals(transductive), {"each clip by itself": compare(transductive, without)})
    nested = dict(decoded.figures["nested"])
    for entry in (account, nested):
        if "signature" in entry:  # the nested account of thresholds has none
            entry["signature"] += f"|normalise:{method}"
    figures = {
        **decoded.figures,
        "nested": nested,
        "normalise": {"method": method, "transductive": account, "inductive": to_dict(without, intervals(without))},
    }

    def apply(new: Models, actors: Sequence[str] | None) -> Answers:
        if actors is None:
            raise ValueError("actors is None; expected the actor of each clip, to normalise scores per actor")
        return decoded.apply(normalise_models(new, actors, method, references))

    return decoded._replace(figures=figures, apply=apply)
