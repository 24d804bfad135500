"""One model from several seeds: their scores are pooled, as `decode` pools several models, and decoded together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from blemore.io import to_json, write_atomic
from blemore.labels import EMOTIONS
from blemore_baselines.dataset import Dataset
from blemore_baselines.decoding import decoders
from blemore_baselines.decoding.accounts import METRICS, mean_and_std
from blemore_baselines.decoding.scores import models_of


class SeedRun(NamedTuple):
    """A finished run with one seed."""

    seed: int
    folder: Path
    logits: np.ndarray  # (N, 6), the out-of-fold logits that correspond to its final model
    metrics: dict  # what its metrics.json holds


def pool(
    dataset: Dataset, config: dict, runs: Sequence[SeedRun], decoder: str, options: Mapping[str, float], out: Path
) -> None:
    """Write the model of all seeds (model.json names the seeds and holds their decoder) and its figures, with those of
    each seed (metrics.json).

    config: what the config.json of `out` holds; the runs' folders are inside `out`
    """
    models = models_of(dataset.ids, [run.folder.relative_to(out) for run in runs], [run.logits for run in runs])
    decoded = decoders.fit("thresholds", dataset, models)
    metrics, nested = {**decoded.figures}, {"thresholds": [run.metrics["nested"] for run in runs]}
    if decoder != "thresholds":
        decoded = decoders.fit(decoder, dataset, models, **options)
        metrics[decoder], nested[decoder] = decoded.figures, [run.metrics[decoder]["nested"] for run in runs]
    seeds = [run.seed for run in runs]
    metrics["seeds"] = {name: _over_seeds(seeds, accounts) for name, accounts in nested.items()}
    if "normalise" in config:
        metrics["normalise"] = runs[0].metrics["normalise"]
    spec = {"emotions": list(EMOTIONS), "seeds": seeds, "decoder": decoded.spec, "versions": config["versions"]}
    write_atomic(out / "model.json", to_json(spec))
    write_atomic(out / "metrics.json", to_json(metrics))


def _over_seeds(seeds: Sequence[int], accounts: Sequence[Mapping]) -> dict:
    """Each seed's figures from its nested account of one decoder, and their mean and spread."""
    rows = [{"seed": seed, **{name: account[name] for name in METRICS}} for seed, account in zip(seeds, accounts)]
    return {"by_seed": rows, "over_seeds": mean_and_std(rows)}
