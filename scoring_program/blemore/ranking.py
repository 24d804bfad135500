"""Ranks any number of submissions by score, compares them pair by pair, and measures how stable the ranks are.

Rank and p-value answer different questions, and neither replaces the other:

- *Pairs.* `blemore.significance` compares each pair. The p-values of one figure, over all pairs, are one family for
  Holm's correction: nobody decided before seeing the scores who is compared with whom.
- *Stability.* The actors are resampled with replacement, and all submissions are ranked on the same resample. The
  report gives the middle 95 % of each submission's ranks, and the share of resamples in which it is first. This
  follows Wiesenfarth et al. 2021 (Methods and open-source toolkit for analyzing and visualizing challenge results,
  Scientific Reports 11, 2369). It shows how the ranks depend on who was filmed; it is not a test.

Equal scores share a rank, and the next ranks are left out (1, 1, 3). Scores are compared as whole numbers, so rounding
never decides.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import ceil
from typing import NamedTuple

from blemore.evaluate import Report
from blemore.metrics import Counts
from blemore.signature import digest, digest_labels, digest_predictions, line
from blemore.significance import (
    LEVEL,
    METHOD,
    Comparison,
    Intervals,
    Records,
    contrast,
    corrected,
    intervals_of,
    records,
)
from blemore.version import VERSION

RESAMPLES = 2000
SEED = 0


class Stability(NamedTuple):
    """A submission's ranks over resampled actors.

    low, high: the middle 95 % of its ranks
    first:     the share of resamples in which it is first, in [0, 1]; k submissions that tie get 1/k each
    ranks:     how many resamples gave it rank 1, 2, …, up to the number of submissions
    """

    low: int
    high: int
    first: float
    ranks: tuple[int, ...]


class System(NamedTuple):
    """One submission. preds: the hash of its predictions; stability: None with a single actor."""

    name: str
    rank: int
    counts: Counts
    preds: str
    intervals: Intervals
    stability: Stability | None


class Pair(NamedTuple):
    """Two submissions, the better one first; equal ones in the order of their names."""

    first: str
    second: str
    comparison: Comparison

    @property
    def p_holm(self) -> float | None:
        """Holm's p of the difference in score."""
        return self.comparison.differences["score"].p_holm

    @property
    def apart(self) -> bool:
        """Whether the two can be told apart in score, corrected for all pairs."""
        return self.p_holm is not None and self.p_holm < 1 - LEVEL


class Ranking(NamedTuple):
    """Submissions by rank and name, and all pairs in that order. resamples: 0 with a single actor."""

    systems: Sequence[System]
    pairs: Sequence[Pair]
    unit: str
    units: int
    note: str | None
    subset: str
    resamples: int
    signature: str

    @property
    def leaders(self) -> list[str]:
        """The first submission; several if their scores are equal."""
        return [system.name for system in self.systems if system.rank == 1]

    def with_first(self, name: str) -> list[Pair]:
        """The pairs of a submission with each leader; empty for a leader."""
        leaders = set(self.leaders)
        return [pair for pair in self.pairs if pair.second == name and pair.first in leaders and name not in leaders]

    @property
    def not_told_from_first(self) -> list[str]:
        """The submissions that cannot be told apart from the first, or from one of several leaders."""
        pairs = {system.name: self.with_first(system.name) for system in self.systems}
        return [name for name, with_first in pairs.items() if with_first and not all(pair.apart for pair in with_first)]


def rank(reports: Mapping[str, Report]) -> Ranking:
    """Rank submissions, by name, on the same labels.

    Raises ValueError: there is no report, the reports are on different labels, or no label is a blend, so there is no
    score.
    """
    sample = next(iter(reports.values()), None)
    if sample is None or any(report.labels != sample.labels for report in reports.values()):
        raise ValueError("expected one report or more, all on the same labels")
    if not sample.counts.n_blends:
        raise ValueError("no label is a blend, so there is no score to rank by")
    keys = {name: _key(report.counts) for name, report in reports.items()}
    names = sorted(reports, key=lambda name: (-keys[name], name))
    ranks = dict(zip(names, _ranks([keys[name] for name in names])))
    by_name = {name: records(reports[name]) for name in names}
    stability = _stability(by_name)
    systems = [
        System(
            name,
            ranks[name],
            reports[name].counts,
            digest_predictions(reports[name].predictions),
            intervals_of(by_name[name]),
            stability.get(name),
        )
        for name in names
    ]
    first, inferred = by_name[names[0]], systems[0].intervals
    resamples = RESAMPLES if stability else 0
    signature = _signature(systems, sample, resamples)
    pairs = _pairs(by_name, {system.name: system.preds for system in systems})
    return Ranking(systems, pairs, first.unit, len(first.by_unit), inferred.note, sample.subset, resamples, signature)


def _key(counts: Counts) -> int:
    """A whole number that orders scores on the same clips: 2 · clips · blends · score."""
    return counts.presence * counts.n_blends + counts.salience * counts.n


def _ranks(keys: Sequence[int]) -> list[int]:
    """1 plus the number of larger keys."""
    ordered = sorted(keys)
    return [1 + len(keys) - bisect_right(ordered, key) for key in keys]


def _pairs(by_name: Mapping[str, Records], preds: Mapping[str, str]) -> list[Pair]:
    names = list(combinations(by_name, 2))
    comparisons = [contrast(by_name[a], by_name[b])._replace(against=preds[b]) for a, b in names]
    return [Pair(a, b, comparison) for (a, b), comparison in zip(names, corrected(comparisons))]


def _stability(by_name: Mapping[str, Records]) -> dict[str, Stability]:
    """By name; empty with a single actor. Resamples add up each actor's counts: no clip is scored again."""
    units = len(next(iter(by_name.values())).by_unit)
    if units < 2:
        return {}
    counts = [Counter[int]() for _ in by_name]
    first = [0.0] * len(by_name)
    for ranks in _resampled_ranks([list(system.by_unit.values()) for system in by_name.values()]):
        leaders = ranks.count(1)
        for place, number in enumerate(ranks):
            counts[place][number] += 1
            if number == 1:
                first[place] += 1 / leaders
    return {
        name: _summary(tally, share / RESAMPLES, len(by_name)) for name, tally, share in zip(by_name, counts, first)
    }


def _resampled_ranks(tables: Sequence[Sequence[Counts]]) -> Iterator[list[int]]:
    """The ranks of all submissions in each resample. A resample without blends has no score and is drawn again.

    tables: by submission, the counts of each actor
    """
    choices, units = random.Random(SEED).choices, range(len(tables[0]))
    clips, blends = [counts.n for counts in tables[0]], [counts.n_blends for counts in tables[0]]
    right = [([counts.presence for counts in table], [counts.salience for counts in table]) for table in tables]
    for _ in range(RESAMPLES):
        n_blends = 0
        while not n_blends:
            draw = choices(units, k=len(units))
            n_blends = sum(map(blends.__getitem__, draw))
        n = sum(map(clips.__getitem__, draw))
        yield _ranks(
            [
                sum(map(presence.__getitem__, draw)) * n_blends + sum(map(salience.__getitem__, draw)) * n
                for presence, salience in right
            ]
        )


def _summary(counts: Counter[int], first: float, systems: int) -> Stability:
    ranks = sorted(number for number, times in counts.items() for _ in range(times))
    low, high = (ranks[ceil(share * RESAMPLES) - 1] for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Stability(low, high, first, tuple(counts[number] for number in range(1, systems + 1)))


def _signature(systems: Sequence[System], report: Report, resamples: int) -> str:
    """A line that holds everything that could change the ranking, which names cannot."""
    pooled, inferred = report.counts, systems[0].intervals
    fields = {
        "clips": pooled.n,
        "blends": pooled.n_blends,
        "subset": report.subset,
        "rule": "ranking",
        "systems": len(systems),
        "preds": digest(sorted(system.preds for system in systems)),
        "labels": digest_labels(report.labels, report.secret),
        "method": METHOD,
        "level": LEVEL,
        f"{inferred.unit}s": inferred.units,
        "p_holm": f"{len(systems) * (len(systems) - 1) // 2} pairs a figure",
        "resamples": resamples,
        "seed": SEED,
        "version": VERSION,
    }
    return line(fields)
