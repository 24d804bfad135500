"""Clusters clips by person, from any features, without labels.

The traits that distinguish people (face, hair, clothes, voice) are the same in all clips of a person, while emotion and
chance vary within each person. The clusters are those of a Gaussian mixture whose components share one covariance,
fitted by hard assignments:

1. Each column is standardised, and each source gets the same weight regardless of its number of columns. The principal
   components with more than the mean variance are kept. Each is divided by √(its variance + the mean variance), because
   emotion and noise often have more variance than identity.
2. Ward's method, on rows scaled to length 1, gives 1.5 times the target number of clusters: small, but pure.
3. The discriminants of these clusters (Fisher 1936), with a slightly shrunk covariance within clusters, suppress what
   varies within people. Clips move to the nearest centre in this space until none changes.
4. Ward's method on the discriminants gives the target number, and step 3 is repeated.

If the number is not given, the one with the lowest BIC (Schwarz 1978) of that mixture is chosen. Persons are assumed to
have at least FEWEST clips on average.

Everything is computed in the order of the clips' ids, so the order of the input does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score, completeness_score, homogeneity_score
from tqdm import tqdm

from blemore.errors import Problem, ValidationError
from blemore.tables import Cell, Table
from blemore_baselines.dataset import Dataset
from blemore_baselines.features import Features

FEWEST = 10  # mean clips per person, if their number is estimated
FINER = 1.5  # initial clusters relative to the target: on simulated clips, this fixed most of Ward's wrong merges
SHRINKAGE = 0.1  # of the covariance within clusters, to a multiple of the identity
MOST_STEPS = 50  # of reassigning clips: a handful in practice
COLUMNS_AT_ONCE = 2000  # bounds memory


class Clusters(NamedTuple):
    """Clips with their persons.

    ids:       in the requested order
    persons:   (N,) names, `person_01` and so on, in the order of their first clips' ids
    distances: (N,) from the centre of the person's clips; the most typical clip has the smallest
    bics:      for each number of persons that was tried; empty if the number was given
    """

    ids: list[str]
    persons: list[str]
    distances: np.ndarray
    bics: dict[int, float]

    @property
    def sizes(self) -> dict[str, int]:
        """Clips of each person, in the order of the names."""
        names, counts = np.unique(self.persons, return_counts=True)
        return dict(zip(names.tolist(), counts.tolist()))


def cluster(sources: Sequence[Features], number: int | None = None, label: str = "persons") -> Clusters:
    """Cluster clips by person.

    sources: aggregated features of the same clips in the same order
    number:  of persons; None to estimate it
    label:   of the progress bar

    Raises ValidationError: fewer clips than persons, too few clips to estimate their number, or features that are the
    same for all clips.
    """
    ids = sources[0].ids
    _demand_clips(len(ids), number)
    order = np.argsort(np.array(ids))
    places = project([source.X[order] for source in sources])
    groups, bics = (_groups(places, number), {}) if number else _estimate(places, label)
    first = np.sort(np.unique(groups, return_index=True)[1])  # rows are in the order of ids
    width = max(2, len(str(len(first))))
    names = {int(groups[row]): f"person_{place:0{width}}" for place, row in enumerate(first, start=1)}
    distances, persons = np.empty(len(ids)), np.empty(len(ids), dtype=object)
    distances[order] = _squares(_discriminants(places, groups), groups).min(axis=1) ** 0.5
    persons[order] = [names[group] for group in groups.tolist()]
    return Clusters(list(ids), persons.tolist(), distances, bics)


def _demand_clips(count: int, number: int | None) -> None:
    if number and number > count:
        raise ValidationError(Problem("few-clips", "features", f"{count:,} clips; expected at least one per person"))
    if not number and count < 2 * FEWEST:
        message = f"{count:,} clips; expected at least {2 * FEWEST} to estimate the number of persons"
        raise ValidationError(Problem("few-clips", "features", message, hint="Give the number with --number."))


# ------------------------------------------------------------------------------ evaluation


def judge(dataset: Dataset, sources: Sequence[Features]) -> tuple[Clusters, Table]:
    """The clusters of all clips of known actors, and their agreement with the actors, per fold and overall.

    A fold has about as many actors as the challenge's test partition, so the folds show what to expect there.
    """
    actors, rows = np.array(dataset.actors), []
    for fold in np.unique(dataset.folds).tolist():
        inside = np.flatnonzero(dataset.folds == fold)
        if len(inside) >= 2 * FEWEST:
            subset = [source._replace(ids=[source.ids[k] for k in inside], X=source.X[inside]) for source in sources]
            rows.append(_agreement(f"fold {fold}", subset, actors[inside].tolist())[1])
    clusters, row = _agreement("all", sources, dataset.actors)
    columns = (
        "clips",
        "actors",
        "clusters",
        "smallest",
        "largest",
        "ARI",
        "homogeneity",
        "completeness",
        "ARI, number",
    )
    title = "Agreement with the true actors: 1 is perfect, an ARI of 0 is chance; last column: given the true number"
    return clusters, Table(title, ("of", *columns), [*rows, row])


def _agreement(name: str, sources: Sequence[Features], actors: Sequence[str]) -> tuple[Clusters, list[Cell]]:
    clusters, count = cluster(sources, label=name), len(set(actors))
    informed = clusters if len(clusters.sizes) == count else cluster(sources, count)
    agreements = [
        float(score(actors, clusters.persons)) for score in (adjusted_rand_score, homogeneity_score, completeness_score)
    ]
    sizes = clusters.sizes.values()
    counts = [len(actors), count, len(sizes), min(sizes), max(sizes)]
    return clusters, [name, *counts, *agreements, float(adjusted_rand_score(actors, informed.persons))]


# ------------------------------------------------------------------------------- the method


def project(matrices: Sequence[np.ndarray]) -> np.ndarray:
    """Step 1: from sources (N, D) of the same clips to coordinates (N, d), d ≥ 1. ValidationError: nothing varies."""
    gram = np.zeros((len(matrices[0]),) * 2)
    for matrix in matrices:
        own = np.zeros_like(gram)
        for start in range(0, matrix.shape[1], COLUMNS_AT_ONCE):
            columns = _standardised(matrix[:, start : start + COLUMNS_AT_ONCE])
            own += columns @ columns.T
        gram += own / max(np.trace(own), 1e-12)
    values, vectors = (part[..., ::-1] for part in np.linalg.eigh(gram))
    values, vectors = values[values > 1e-9 * len(matrices)], vectors[:, values > 1e-9 * len(matrices)]
    if not len(values):
        message = "features are the same for all clips; expected features that differ"
        raise ValidationError(Problem("constant-features", "features", message))
    mean = values.mean()
    count = max(2, int((values > mean).sum()))
    return vectors[:, :count] * np.sqrt(values[:count] / (values[:count] + mean))


def _standardised(columns: np.ndarray) -> np.ndarray:
    """Columns with mean 0 and standard deviation 1; constant columns are 0."""
    wide = columns.astype(np.float64)
    deviation, varies = wide.std(axis=0), np.ptp(wide, axis=0) > 0
    return np.where(varies, wide - wide.mean(axis=0), 0) / np.where(varies & (deviation > 0), deviation, 1)


def _groups(places: np.ndarray, number: int) -> np.ndarray:
    """Steps 2 to 4: the cluster (N,) of each row of coordinates (N, d)."""
    if number == 1:
        return np.zeros(len(places), dtype=int)
    finer = min(max(number + 1, round(FINER * number)), len(places))
    pure = _reassign(places, _ward(places, finer))
    return _reassign(places, _ward(_discriminants(places, pure), number))


def _estimate(places: np.ndarray, label: str) -> tuple[np.ndarray, dict[int, float]]:
    """The clusters with the lowest BIC, and the BIC of each number tried: a coarse grid, then all near the best."""
    limit = len(places) // FEWEST
    numbers = sorted({min(limit, round(1.2**k)) for k in range(60)})
    results: dict[int, tuple[float, np.ndarray]] = {}
    with tqdm(desc=f"{label}: numbers tried", unit="number", disable=None) as progress:
        while numbers:
            for number in numbers:
                groups = _groups(places, number)
                results[number] = bic(places, groups), groups
                progress.update()
            best = min(results, key=lambda number: results[number][0])
            below = max((number for number in results if number < best), default=best)
            above = min((number for number in results if number > best), default=best)
            numbers = [number for number in range(below, above) if number not in results]
    return results[best][1], {number: value for number, (value, _) in sorted(results.items())}


def bic(places: np.ndarray, groups: np.ndarray) -> float:
    """−2 log-likelihood + parameters · log N, for a Gaussian mixture with one covariance and these clusters (N,)."""
    count, dim = places.shape
    _, owner, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    _, logdet = np.linalg.slogdet(_within(places, owner) + 1e-12 * np.eye(dim))
    likelihood = -count / 2 * (logdet + dim * np.log(2 * np.pi) + dim) + (sizes * np.log(sizes / count)).sum()
    parameters = len(sizes) * dim + len(sizes) - 1 + dim * (dim + 1) / 2
    return float(-2 * likelihood + parameters * np.log(count))


def _ward(places: np.ndarray, number: int) -> np.ndarray:
    return AgglomerativeClustering(number, linkage="ward").fit_predict(_unit(places))


def _reassign(places: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Step 3: moves clips to the nearest centre in the discriminants' space, until nothing changes or a cluster would
    be empty.
    """
    for _ in range(MOST_STEPS):
        new = _squares(_unit(_discriminants(places, groups)), groups).argmin(axis=1)
        old = np.unique(groups, return_inverse=True)[1]
        if (new == old).all() or len(np.unique(new)) <= old.max():
            break
        groups = new
    return groups


def _discriminants(places: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(N, at most clusters − 1): coordinates on axes along which centres differ, with variance 1 within clusters."""
    _, owner, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    within = _within(places, owner)
    variance = np.trace(within) / len(within)
    if not variance or len(sizes) == 1:  # each clip is a cluster, or there is only one cluster
        return places
    values, vectors = np.linalg.eigh((1 - SHRINKAGE) * within + SHRINKAGE * variance * np.eye(len(within)))
    white = places @ (vectors / np.sqrt(values))
    spread = (_centres(white, owner) - white.mean(axis=0)) * np.sqrt(sizes)[:, None]
    return white @ np.linalg.svd(spread, full_matrices=False)[2][: len(sizes) - 1].T


def _within(places: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """The covariance (d, d) within clusters; `owner` numbers them from 0."""
    rest = places - _centres(places, owner)[owner]
    return rest.T @ rest / len(rest)


def _centres(places: np.ndarray, owner: np.ndarray) -> np.ndarray:
    sums = np.zeros((owner.max() + 1, places.shape[1]))
    np.add.at(sums, owner, places)
    return sums / np.bincount(owner)[:, None]


def _squares(places: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(N, clusters): squared distances from the clusters' centres."""
    centres = _centres(places, np.unique(groups, return_inverse=True)[1])
    squares = (places**2).sum(axis=1)[:, None] - 2 * places @ centres.T + (centres**2).sum(axis=1)
    return np.maximum(squares, 0)


def _unit(places: np.ndarray) -> np.ndarray:
    return places / np.maximum(np.linalg.norm(places, axis=1, keepdims=True), 1e-12)
