"""Decoders on scores that are normalised per actor (normalise.py), beside the same decoder without that.

Normalising uses all clips of an actor at once, those that are judged included, though none of their labels. So what
is reached with it is an account of its own, and stands beside the inductive one with their paired difference.
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
    """`decoders.fit` on normalised scores. Its figures have one more entry, `normalise`, with the method and both
    accounts; its `apply` takes the models' scores of new clips and the actor of each.

    method: of `NORMALISATIONS`; with `none` it is `decoders.fit` alone, and actors are not needed
    """
    inductive = decoders.fit(name, dataset, models, **options)
    if method == "none":
        return inductive._replace(apply=lambda new, _=None: inductive.apply(new))
    references = fit_references(models, dataset.actors)
    normalised = normalise_models(models, dataset.actors, method, references)
    decoded = decoders.fit(name, dataset, normalised, **options)
    with_it, without = (scored(dataset, one.nested) for one in (decoded, inductive))
    account = to_dict(with_it, intervals(with_it), {"each clip by itself": compare(with_it, without)})
    nested = dict(decoded.figures["nested"])
    for one in (account, nested):
        if "signature" in one:  # thresholds' own account has none
            one["signature"] += f"|normalise:{method}"
    figures = {
        **decoded.figures,
        "nested": nested,
        "normalise": {"method": method, "transductive": account, "inductive": to_dict(without, intervals(without))},
    }

    def apply(new: Models, actors: Sequence[str] | None) -> Answers:
        if actors is None:
            raise ValueError("scores that are normalised per actor need the actor of each clip")
        return decoded.apply(normalise_models(new, actors, method, references))

    return decoded._replace(figures=figures, apply=apply)
