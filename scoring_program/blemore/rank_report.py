"""Formats a ranking as text, JSON, CSV and LaTeX. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from blemore.errors import Problem, printable, some
from blemore.ranking import SEED, Pair, Ranking, System
from blemore.report import FIGURE_NAMES, comparison_to_dict, intervals_to_dict
from blemore.significance import LEVEL, METHOD
from blemore.tables import Cell, Table, to_csv, to_latex, to_text

MOST_PAIRS = 45  # those of 10 submissions; more are not printed, but are in the files

LOW_HIGH = ("low", "high")


class LeftOut(NamedTuple):
    """A submission that is not ranked because it is invalid."""

    name: str
    file: str
    problems: Sequence[Problem]


# ------------------------------------------------------------------------------------- tables


def ranking_table(ranking: Ranking) -> Table:
    """A row for each submission, in order."""
    counts = ranking.systems[0].counts
    title = (
        f"Ranking of {len(ranking.systems):,} systems on {counts.n:,} clips ({counts.n_blends:,} blends) by"
        f" {ranking.units:,} {ranking.unit}s{_subset(ranking)}."
    )
    accuracies = [name for figure, name in FIGURE_NAMES.items() if figure != "score"]
    columns = ["system", "rank", "score", *LOW_HIGH, *accuracies, "rank low", "rank high", "share first", "Holm p"]
    return Table(title, columns, [_row(ranking, system) for system in ranking.systems])


def columns_in_words(ranking: Ranking) -> str:
    """What the columns of the ranking mean."""
    rule = "Score with its 95 % interval. Holm p: for the difference in score from the first, over all pairs."
    if not ranking.resamples:
        return rule
    return (
        f"{rule} Interval of the rank, and share of first ranks: over {ranking.resamples:,} resamples of the"
        f" {ranking.unit}s."
    )


def _row(ranking: Ranking, system: System) -> list[Cell]:
    counts, interval = system.counts, system.intervals.intervals.get("score")
    stability: Sequence[Cell] = system.stability[:3] if system.stability else [None] * 3
    scores = [counts.score, *(interval or [None] * 2), counts.acc_presence, counts.acc_salience]
    return [system.name, system.rank, *scores, *stability, _p(ranking, system)]


def _p(ranking: Ranking, system: System) -> float | None:
    """The largest p of the differences from the leaders."""
    p_values = [pair.p_holm for pair in ranking.with_first(system.name)]
    return None if None in p_values else max((p for p in p_values if p is not None), default=None)


def pairs_table(ranking: Ranking, figures: Sequence[str] = ("score",)) -> Table:
    """A row for each pair and figure; the last column says why there is no p."""
    rows: list[list[Cell]] = []
    for pair in ranking.pairs:
        for figure in figures:
            difference = pair.comparison.differences[figure]
            estimate, flips = difference.estimate, difference.sign_flip
            names = [pair.first, pair.second, FIGURE_NAMES[figure]]
            p_values = [difference.p_holm, flips and flips.p]
            rows.append([*names, *estimate[:4], *p_values, f"n/a: {estimate.reason}" if estimate.reason else ""])
    columns = ["first", "second", "figure", "difference", *LOW_HIGH, "p", "Holm p", "p of sign flips", ""]
    return Table(f"All pairs ({len(ranking.pairs):,}), paired over {ranking.unit}s.", columns, rows)


def _subset(ranking: Ranking) -> str:
    return "" if ranking.subset == "all" else f", only {ranking.subset}"


# ---------------------------------------------------------------------------------------- forms


def rank_to_text(ranking: Ranking, left_out: Sequence[LeftOut]) -> str:
    """The ranking, what can be told apart, and the pairs if they are few."""
    parts = [to_text(ranking_table(ranking))]
    parts.append("\n".join(rank_in_words(ranking, left_out)) + "\n")
    if 0 < len(ranking.pairs) <= MOST_PAIRS:
        parts.append(to_text(pairs_table(ranking)))
    elif ranking.pairs:
        parts.append("To see the pairs, use --json, --csv or --html.\n")
    return "\n".join([*parts, ranking.signature])


def rank_in_words(ranking: Ranking, left_out: Sequence[LeftOut]) -> list[str]:
    """What the figures mean, one or two sentences per line."""
    lines = [columns_in_words(ranking)]
    if len(ranking.systems) > 1:
        lines.append(_first_in_words(ranking))
    if ranking.pairs:
        apart = sum(pair.apart for pair in ranking.pairs)
        lines.append(
            f"Pairs that can be told apart in score (Holm p < {1 - LEVEL:.2f}): {apart:,} of {len(ranking.pairs):,}."
            f" Intervals (95 %) and p: jackknife over {ranking.unit}s, Student's t. Holm p: corrected for all pairs"
            " of each figure. Intervals, p and sign flips are not corrected."
        )
    if ranking.note:
        lines.append(f"Note: {ranking.note}.")
    if left_out:
        names = ", ".join(submission.name for submission in left_out)
        lines.append(f"Left out, since they are invalid ({len(left_out):,}): {names}.")
    return [printable(line) for line in lines]


def _first_in_words(ranking: Ranking) -> str:
    first, behind = " and ".join(ranking.leaders), ranking.not_told_from_first
    if len(ranking.leaders) > 1:
        first = f"{first}, which share the first rank"
    if not behind:
        return f"First: {first}. Every other system can be told apart from it (Holm p < {1 - LEVEL:.2f})."
    names = some(behind, 10)
    return (
        f"First: {first}. Systems that cannot be told apart from it (Holm p ≥ {1 - LEVEL:.2f} or no p):"
        f" {len(behind):,}, namely {names}."
    )


def rank_to_dict(ranking: Ranking, left_out: Sequence[LeftOut], files: Mapping[str, str]) -> dict[str, Any]:
    """The whole ranking, unrounded. files: the paths by name"""
    counts = ranking.systems[0].counts
    return {
        "systems": [{"file": files[system.name], **_system_to_dict(system)} for system in ranking.systems],
        "pairs": [_pair_to_dict(pair) for pair in ranking.pairs],
        "first": ranking.leaders,
        "not_told_from_first": ranking.not_told_from_first,
        "left_out": [
            {
                "name": submission.name,
                "file": submission.file,
                "problems": [problem._asdict() for problem in submission.problems],
            }
            for submission in left_out
        ],
        "n": counts.n,
        "n_blends": counts.n_blends,
        "subset": ranking.subset,
        "method": METHOD,
        "level": LEVEL,
        "family": "all pairs of one figure",
        "unit": ranking.unit,
        "units": ranking.units,
        "note": ranking.note,
        "resamples": ranking.resamples,
        "seed": SEED,
        "signature": ranking.signature,
    }


def _system_to_dict(system: System) -> dict[str, Any]:
    counts = system.counts
    return {
        "name": system.name,
        "rank": system.rank,
        **{figure: getattr(counts, figure) for figure in FIGURE_NAMES},
        "preds": system.preds,
        "ci": intervals_to_dict(system.intervals),
        "stability": system.stability and system.stability._asdict(),
    }


def _pair_to_dict(pair: Pair) -> dict[str, Any]:
    differences = comparison_to_dict(pair.comparison)["differences"]
    return {"first": pair.first, "second": pair.second, "differences": differences, "apart": pair.apart}


def rank_to_csv(ranking: Ranking) -> str:
    return to_csv(ranking_table(ranking), ranking.signature)


def pairs_to_csv(ranking: Ranking) -> str:
    return to_csv(pairs_table(ranking, list(FIGURE_NAMES)), ranking.signature)


def rank_to_latex(ranking: Ranking, left_out: Sequence[LeftOut]) -> str:
    """The ranking as a table with a caption that explains it."""
    table = ranking_table(ranking)
    caption = [table.title, columns_in_words(ranking)]
    if left_out:
        caption.append(f"Left out, since they are invalid: {', '.join(submission.name for submission in left_out)}.")
    return to_latex(table._replace(title=" ".join(caption)), ranking.signature, "tab:ranking")
