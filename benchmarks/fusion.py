"""Ways to fuse four models for structured decoding, and how two of them cope with unusual models.

    python benchmarks/fusion.py

The four real runs are read from the folder BLEMORE_SHARED (default ../shared). Every clip's posterior comes from a
model that saw nothing of its fold, with temperatures, weights and strengths from the other folds only. The decoder
treats the result of a fusion as one model, and fits one temperature to it. Differences are to the first row, the
decoder's own way, and paired over actors. The last line is one JSON object with the figures.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from blemore.evaluate import Report
from blemore.labels import EMOTIONS
from blemore.report import equals_p, interval_text
from blemore.significance import compare
from blemore_baselines.dataset import TARGETS, Dataset, read_dataset
from blemore_baselines.decoding.accounts import accuracies, scored
from blemore_baselines.decoding.calibration import calibration
from blemore_baselines.decoding.posterior import (
    _CENTRE,
    _PULL,
    N_PAIRS,
    _Regression,
    _relation_regression,
    _set_regression,
    _Term,
    _terms,
    fit,
    inverse_temperature,
    posterior,
)
from blemore_baselines.decoding.scores import log_softmax, read_models, softmax, to_log_probabilities
from blemore_baselines.decoding.structured import STRENGTHS, cross_validate, decide
from blemore_baselines.engines import one_thread_each

REAL = Path(os.environ.get("BLEMORE_SHARED") or Path(__file__).resolve().parents[2] / "shared") / "blemore-real"
RUNS = ("e100_ce", "e100_kl_div", "e50_ce", "e50_kl_div")
USED = "weighted mean of log-probabilities, each at its temperature"
PER_MODEL, PER_EMOTION = (len(RUNS), 1, 1), (len(RUNS), 1, len(EMOTIONS))


# ------------------------------- ways: from logs (M, N, 6) and labels (N,) to a function of new logs, their posterior


def fused(learn, strength, logs, labels):
    """The posterior on a fusion of the logs, treated as one model.

    learn: logs, labels → a function from logs to (N, 6)
    """
    fuse = learn(logs, labels)
    model = fit(fuse(logs), labels, strength)
    return lambda new: posterior(model, fuse(new))


def mean_of_probabilities(logs, labels):
    """The mean of the models' probabilities, each at its temperature."""
    scales = temperatures(logs, labels)
    return lambda new: to_log_probabilities(softmax(scales * new).mean(axis=0))


def weighted(shape, logs, labels):
    weights = learned_weights(shape, logs, labels)
    return lambda new: (weights * new).sum(axis=0)


def alone(model, logs, labels):
    return lambda new: new[model]


def unpulled(logs, labels):
    """The decoder's own way with almost no pull to zero; without any, there may be no maximum."""
    model = fit(logs, labels, strength=1e-3)
    return lambda new: posterior(model, new)


def stacked(strength, logs, labels):
    """The decoder's regressions, each on the concatenated features of all models."""
    scales, models = temperatures(logs, labels), len(logs)
    centre, pull = _CENTRE.repeat(models) / models, _PULL.repeat(models)

    def side_by_side(regressions):
        """One regression with the features of all, each with parameters of its own."""
        shared, shared_columns, own, own_columns = zip(*regressions)
        starts = [m * len(_CENTRE) for m in range(models)]
        return _Regression(
            torch.cat(shared, dim=2),
            torch.cat([columns + start for columns, start in zip(shared_columns, starts)]),
            torch.cat(own, dim=1),
            torch.cat([columns + start for columns, start in zip(own_columns, starts)], dim=1),
        )

    by_model = zip(*(_terms(z, labels) for z in log_softmax(scales * logs)))
    terms = [_Term(side_by_side(term.regression for term in terms), terms[0].truth) for terms in by_model]

    def loss(theta):
        likelihoods = (
            regression.log_chances(theta)[truth, torch.arange(len(truth))].sum() for regression, truth in terms
        )
        return strength * pull @ (theta - centre).square() - sum(likelihoods)

    theta = minimum(loss, centre)

    def predict(new):
        models_logs = log_softmax(scales * new)
        sets = side_by_side(_set_regression(z) for z in models_logs).log_chances(theta)
        pairs = [
            sets[len(EMOTIONS) + pair]
            + side_by_side(_relation_regression(z, np.full(len(z), pair)) for z in models_logs).log_chances(theta)
            for pair in range(N_PAIRS)
        ]
        return torch.cat([sets[: len(EMOTIONS)], *pairs]).exp().T.numpy()

    return predict


def temperatures(logs, labels):
    return np.array([inverse_temperature(run_logs, labels) for run_logs in logs])[:, None, None]


def learned_weights(shape, logs, labels):
    """The non-negative weights that minimise the cross-entropy between the softmax of the weighted sum and the soft
    labels.
    """
    z, targets = torch.from_numpy(logs), torch.from_numpy(TARGETS[labels]).double()

    def loss(roots):
        return -(targets * torch.log_softmax((roots.square() * z).sum(dim=0), dim=1)).sum()

    return minimum(loss, torch.full(shape, len(logs) ** -0.5, dtype=torch.float64)).square().numpy()


def minimum(loss, start):
    theta = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [theta], max_iter=1000, history_size=30, tolerance_change=1e-4, line_search_fn="strong_wolfe"
    )  # nats

    def slope():
        optimiser.zero_grad()
        value = loss(theta)
        value.backward()
        return value

    optimiser.step(slope)
    return theta.detach()


# ------------------------------------------------------------------------------------------------------------- nested


def nested(ways, logs, labels, folds):
    """`cross_validate` for any ways. A fold uses the way with the lowest log loss on the other folds, each of them
    evaluated by fits without both folds.

    Returns the posterior (N, 36), and each fold's lowest log loss (F,).
    """
    names = np.unique(folds)
    losses = {fold: np.zeros(len(ways)) for fold in names}
    for f, g in tqdm(list(combinations(names, 2)) if len(ways) > 1 else [], unit="pair of folds", disable=None):
        inside = (folds != f) & (folds != g)
        for k, way in enumerate(ways):
            predict = way(logs[:, inside], labels[inside])
            for chooser, other in ((f, g), (g, f)):
                on = folds == other
                losses[chooser][k] += on.sum() * calibration(predict(logs[:, on]), labels[on])["log_loss"]
    posteriors = np.empty((len(labels), len(TARGETS)))
    for fold in names:
        way = ways[losses[fold].argmin()]
        posteriors[folds == fold] = way(logs[:, folds != fold], labels[folds != fold])(logs[:, folds == fold])
    return posteriors, np.array([losses[fold].min() for fold in names])


class Record(NamedTuple):
    """The printed table: a row per fusion, with its difference to the first, USED."""

    dataset: Dataset
    rows: dict[str, dict]
    reports: dict[str, Report]

    def add(self, name: str, posteriors: np.ndarray) -> None:
        labels, folds = self.dataset.labels, self.dataset.folds
        share = np.array([(labels[folds != fold] >= len(EMOTIONS)).mean() for fold in folds])
        report = self.reports[name] = scored(self.dataset, decide(posteriors, share)[0])
        gain = compare(report, self.reports[USED]).differences["score"].estimate
        log_loss = calibration(posteriors, labels)["log_loss"]
        row = self.rows[name] = {**accuracies(report.counts), "log_loss": log_loss, "difference": gain._asdict()}
        figures = " ".join(f"{row[figure]:>8.4f}" for figure in ("acc_presence", "acc_salience", "score", "log_loss"))
        interval = interval_text(gain.interval, "+.4f")
        print(f"{name:<68} {figures}  {gain.value:+.4f} {interval}, {equals_p(gain.p)}", flush=True)


def compare_ways(record: Record, logs: np.ndarray) -> list[str]:
    """Adds a row per way. Returns the best single model by fold."""
    labels, folds = record.dataset.labels, record.dataset.folds

    def decoded(logs):
        return cross_validate(logs, labels, folds).posterior

    def over_strengths(way: Callable, *arguments):
        return nested([partial(way, *arguments, strength) for strength in STRENGTHS], logs, labels, folds)

    record.add(USED, decoded(logs))
    record.add("mean of log-probabilities", decoded(logs.mean(axis=0)))
    record.add("mean of probabilities, each at its temperature", over_strengths(fused, mean_of_probabilities)[0])
    record.add("mean of probabilities", decoded(to_log_probabilities(np.exp(logs).mean(axis=0))))
    record.add(
        "log-probabilities with weights learned together, none below 0",
        over_strengths(fused, partial(weighted, PER_MODEL))[0],
    )
    record.add(
        "the same with a weight for each model and emotion", over_strengths(fused, partial(weighted, PER_EMOTION))[0]
    )
    posteriors, losses = map(
        np.stack, zip(*(over_strengths(fused, partial(alone, model)) for model in range(len(RUNS))))
    )
    best = losses.argmin(axis=0)  # (F,)
    record.add("mean of the four posteriors", posteriors.mean(axis=0))
    record.add("mean of the four posteriors' logarithms", softmax(np.log(posteriors).mean(axis=0)))
    record.add(
        "the best model alone", posteriors[best[np.searchsorted(np.unique(folds), folds)], np.arange(len(labels))]
    )
    record.add("mean of probabilities, themselves the features", decoded(np.exp(logs).mean(axis=0)))
    record.add("the first, with next to no pull to zero", nested([unpulled], logs, labels, folds)[0])
    record.add("stacking: one posterior with every model's features", over_strengths(stacked)[0])
    return [RUNS[model] for model in best]


def compare_odd_models(record: Record, logs: np.ndarray) -> None:
    """Two ways, if a model is sharper than the others, knows nothing, or does not know all clips."""
    labels, folds, rng = record.dataset.labels, record.dataset.folds, np.random.default_rng(0)
    sharp = np.stack([log_softmax(10 * logs[0]), *logs[1:]])
    # As confident as real models, but about other clips.
    noise = np.stack([*logs, *(log[rng.permutation(len(labels))] for log in logs[:2])])
    mask = rng.random(logs.shape[:2]) < 0.2
    mask[:, mask.all(axis=0)] = False  # a clip that no model knows cannot be decoded
    missing = np.where(mask[:, :, None], np.nan, logs)
    cases = {
        "one model ten times as sharp": sharp,
        "two models of noise added": noise,
        "a fifth of clips missing from each": missing,
    }
    for case, models in cases.items():
        record.add(f"{case}: at temperatures", cross_validate(models, labels, folds).posterior)
        mean = np.nanmean(models, axis=0)
        record.add(f"{case}: mean of log-probabilities", cross_validate(mean, labels, folds).posterior)


def main():
    if not REAL.is_dir():
        sys.exit(f"{REAL} does not exist: set BLEMORE_SHARED to the folder that holds blemore-real")
    dataset = read_dataset(REAL / "train_metadata.csv")
    labels, folds = dataset.labels, dataset.folds
    logs = read_models([REAL / "hicmae" / f"{run}_train_oof_logits.csv" for run in RUNS], dataset.ids).logs
    record = Record(dataset, {}, {})
    print(f"{len(labels):,} clips, {len(set(dataset.actors))} actors, {len(RUNS)} models\n")
    print(f"{'fusion':<68} presence salience    score log loss  difference in score, 95 % interval")
    best = compare_ways(record, logs)
    compare_odd_models(record, logs)
    weights = np.stack(
        [learned_weights(PER_MODEL, logs[:, folds != fold], labels[folds != fold]).ravel() for fold in np.unique(folds)]
    )
    weights /= weights.sum(axis=1, keepdims=True)
    ranges = ", ".join(f"{run} {column.min():.2f} to {column.max():.2f}" for run, column in zip(RUNS, weights.T))
    print(
        f"\nlearned weights over folds, parts of their sum: {ranges}\nthe best model alone, by fold: {', '.join(best)}"
    )
    print(json.dumps({"clips": len(labels), "rows": record.rows, "weights": weights.tolist(), "best": best}))


if __name__ == "__main__":
    with one_thread_each():
        main()
