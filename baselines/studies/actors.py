"""How do wrong groups affect scores that are normalised per actor?

Each fold in turn plays the test partition. The reference for normalising and the structured decoder come from the other
folds with their true actors. The fold's own groups are then given errors (group_errors.py), and its scores are
normalised by these groups and decoded. Random errors are drawn DRAWS times; a clip's record is the mean over draws.

A further step after normalising is also measured. Each actor was asked for all labels, so the labels predicted for an
actor should be about as frequent as in the training set. The posterior of an actor's clips is scaled until they are
(columns and rows in turn, as in Sinkhorn and Knopp 1967), before labels are decided.

Everything here except `no groups` is transductive (`decoding.normalise`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from blemore.labels import LABELS
from blemore.tables import Cell, Table
from blemore_baselines.dataset import Dataset
from blemore_baselines.decoding import posterior as posteriors
from blemore_baselines.decoding.normalise import fit_reference, normalise
from blemore_baselines.decoding.scores import FLOOR, log_softmax
from blemore_baselines.decoding.structured import cross_validate, decide
from blemore_baselines.results import plots
from blemore_baselines.results.study_files import Study
from blemore_baselines.studies.group_errors import ERRORS, NO_ERRORS
from blemore_baselines.studies.intervals import (
    COLUMNS,
    Estimate,
    cells,
    compare,
    draw,
    estimate_figures,
    in_words,
    outcomes,
)
from blemore_baselines.studies.study import check_folds

METHODS = ("centre", "standardise")
DRAWS = 10
ROUNDS = 100  # of scaling; a few dozen suffice
NO_GROUPS, MATCHED = "no groups", "no errors, labels matched"

Records = Mapping[str, Mapping[str, np.ndarray]]  # method → condition → (N, 4), as `outcomes`


class Result(NamedTuple):
    """A condition's figures, and the difference of its score to that without errors."""

    figures: Mapping[str, Estimate]
    difference: Estimate


def actors(dataset: Dataset, probabilities: np.ndarray, seed: int, signature: str, draws: int = DRAWS) -> Study:
    """The cost of errors in the groups, and the gain from matching labels.

    probabilities: (N, 6) of the dataset's clips, in its order, each from a model that saw none of the clip's fold

    Raises ValidationError: fewer than four folds, or a fold without blends.
    """
    check_folds(dataset, 4)
    records = measure(dataset, np.log(np.maximum(probabilities, FLOOR)), seed, draws)
    results = {
        method: {name: _result(rows, by_name[NO_ERRORS], dataset.actors) for name, rows in by_name.items()}
        for method, by_name in records.items()
    }
    gains = {
        method: compare(by_name[NO_ERRORS], by_name[NO_GROUPS], dataset.actors) for method, by_name in records.items()
    }
    values = {
        "draws": draws,
        "gained": {method: gain._asdict() for method, gain in gains.items()},
        "methods": {
            method: {
                name: {
                    **{figure: estimate._asdict() for figure, estimate in result.figures.items()},
                    "difference": result.difference._asdict(),
                }
                for name, result in by_name.items()
            }
            for method, by_name in results.items()
        },
    }
    tables = {method: _table(method, by_name) for method, by_name in results.items()}
    return Study(
        "actors",
        "The cost of wrong groups",
        tables,
        {"errors": _draw(results)},
        [finding for method, by_name in results.items() for finding in _findings(method, by_name, gains[method])],
        values,
        signature,
    )


def measure(dataset: Dataset, logs: np.ndarray, seed: int, draws: int) -> Records:
    """The nested records of every condition. logs: (N, 6) log-probabilities."""
    names = np.array(dataset.actors)
    conditions = [NO_GROUPS, NO_ERRORS, MATCHED, *ERRORS]
    records = {method: {name: np.zeros((len(logs), 4)) for name in conditions} for method in METHODS}
    for fold in tqdm(np.unique(dataset.folds), desc="folds", unit="fold", disable=None):
        inside = dataset.folds == fold
        labels = dataset.labels[inside]
        for method in METHODS:
            rng = np.random.default_rng([seed, int(fold)])  # the same errors for both methods
            read = _reader(dataset, logs, ~inside, method)
            own = {MATCHED: outcomes(read(logs[inside], names[inside], True), labels)}
            own[NO_ERRORS] = outcomes(read(logs[inside], names[inside]), labels)
            for name, spoil in ERRORS.items():
                groups = [spoil(names[inside], rng) for _ in range(draws)]
                own[name] = np.mean([outcomes(read(logs[inside], group), labels) for group in groups], axis=0)
            for name, rows in own.items():
                records[method][name][inside] = rows
        plain = outcomes(_reader(dataset, logs, ~inside, "none")(logs[inside], names[inside]), labels)
        for method in METHODS:
            records[method][NO_GROUPS][inside] = plain
    return records


def _reader(dataset: Dataset, logs: np.ndarray, others: np.ndarray, method: str) -> Callable[..., np.ndarray]:
    """A function from logs (n, 6), groups (n,) and whether to match labels to labels (n,); fitted only on `others`."""
    names, labels = np.array(dataset.actors), dataset.labels[others]
    reference = fit_reference(logs[others], names[others].tolist())
    normal = log_softmax(normalise(logs[others], names[others].tolist(), method, reference))
    model = cross_validate(normal[None], labels, dataset.folds[others]).final
    frequencies = np.bincount(labels, minlength=len(LABELS)) / len(labels)

    def read(own: np.ndarray, groups: np.ndarray, is_matched: bool = False) -> np.ndarray:
        chances = posteriors.posterior(
            model, log_softmax(normalise(own, groups.astype(str).tolist(), method, reference))[None]
        )
        if is_matched:
            for group in np.unique(groups):
                chances[groups == group] = match(chances[groups == group], frequencies)
        return decide(chances, model.share)[0]

    return read


def match(chances: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Posteriors (n, 36), scaled by label until their mean is `frequencies` (36,). Rows still sum to 1.

    A label stays at 0 if its frequency or its probability for every clip is 0.
    """
    scaled = chances.copy()
    for _ in range(ROUNDS):
        mean = scaled.mean(axis=0)
        scaled *= np.divide(frequencies, mean, out=np.zeros_like(mean), where=mean > 0)
        scaled /= scaled.sum(axis=1, keepdims=True)
    return scaled


# -------------------------------------------------------------------------------- results


def _result(rows: np.ndarray, right: np.ndarray, owners: Sequence[str]) -> Result:
    return Result(estimate_figures(rows, owners), compare(rows, right, owners))


def _table(method: str, results: Mapping[str, Result]) -> Table:
    rows: list[list[Cell]] = []
    for name, (figures, difference) in results.items():
        rows.append([name, *cells(figures), *([None] * 4 if name == NO_ERRORS else difference[:4])])
    return Table(
        f"--normalise {method}, nested, structured decoder; difference in score to no errors, intervals over actors",
        ("groups", *COLUMNS, "difference", "low", "high", "p"),
        rows,
    )


def _findings(method: str, results: Mapping[str, Result], gain: Estimate) -> Iterator[str]:
    yield f"--normalise {method}, true actors compared with no groups: {in_words(gain)}."
    costs = [f"{name}: {in_words(results[name].difference)}" for name in ERRORS]
    yield f"--normalise {method}, errors compared with no errors: {'; '.join(costs)}."
    worse = [
        name for name in ERRORS if results[name].figures["score"].value <= results[NO_GROUPS].figures["score"].value
    ]
    yield (
        f"--normalise {method}: groups with these errors are no better than none: {', '.join(worse)}."
        if worse
        else f"--normalise {method}: groups with any of these errors score higher than none."
    )
    yield f"--normalise {method}, matching each actor's labels: {in_words(results[MATCHED].difference)}."


def _draw(results: Mapping[str, Mapping[str, Result]]) -> plots.Picture:
    names = [name for name in next(iter(results.values())) if name != NO_ERRORS]
    canvas, axes = plots.figure(7, 0.45 * len(names) + 1.4)
    for place, (method, by_name) in enumerate(results.items()):
        differences = [by_name[name].difference for name in names]
        draw(axes[0, 0], names, differences, plots.COLOURS[place], method, 0.2 * (2 * place - 1))
    axes[0, 0].set_xlabel("difference in score to groups without errors, 95 % interval over actors")
    canvas.legend(loc="outside upper center", ncols=len(results), frameon=False)
    return plots.picture(canvas)
