"""Groups of feature columns: by source, by statistic, and by OpenFace's column names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from blemore_baselines.encoders.openface import GAZE_ANGLES, MEASURED, SCALARS
from blemore_baselines.features import Features
from blemore_baselines.sources.meta import STATISTICS

# OpenFace 3's files do not name their eight units; these are those of DISFA, its training data, in the same order.
ACTION_UNITS = tuple(f"AU{number:02}" for number in (1, 2, 4, 6, 9, 12, 25, 26))
NAMED = {"openface3": (*SCALARS, *ACTION_UNITS), "openface2": (*MEASURED, *GAZE_ANGLES)}


class Group(NamedTuple):
    kind: str  # source, statistic or OpenFace column
    name: str
    columns: np.ndarray  # indices into the concatenated sources


def find_groups(names: Sequence[str], sources: Sequence[Features]) -> tuple[list[Group], list[str]]:
    """The groups of columns in the sources, and sentences on columns that could not be assigned."""
    ends = np.cumsum([source.X.shape[1] for source in sources])
    columns = [np.arange(end - source.X.shape[1], end) for source, end in zip(sources, ends)]
    by_source = [Group("source", name, part) for name, part in zip(names, columns)]
    by_statistic: dict[str, list[np.ndarray]] = {statistic: [] for statistic in STATISTICS}
    by_column: list[Group] = []
    left_out: list[str] = []
    for name, source, part in zip(names, sources, columns):
        if tuple(source.meta.get("statistics") or ()) != STATISTICS or len(part) % len(STATISTICS):
            left_out.append(
                f"{name} is left out of the statistics: its {len(part)} columns are not known to be seven statistics"
                " per dimension."
            )
            by_dimension = part[None]
        else:
            by_dimension = part.reshape(len(STATISTICS), -1)
            for statistic, row in zip(STATISTICS, by_dimension):
                by_statistic[statistic].append(row)
        labels = NAMED.get(str(source.meta.get("encoder")).lower().replace("_", ""))
        if labels and len(labels) == by_dimension.shape[1]:
            by_column += [Group("OpenFace column", label, by_dimension[:, k]) for k, label in enumerate(labels)]
        elif labels:
            left_out.append(
                f"{name} is left out of the named columns: it has {by_dimension.shape[1]} dimensions; expected"
                f" {len(labels)}, as in OpenFace."
            )
    statistics = [Group("statistic", name, np.concatenate(parts)) for name, parts in by_statistic.items() if parts]
    return by_source + statistics + by_column, left_out
