"""Presents any out-of-fold scores as a run, for the same page and tables as a run of `train`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from blemore.errors import ValidationError
from blemore.signature import digest
from blemore.version import VERSION
from blemore_baselines.dataset import Dataset
from blemore_baselines.decoding import decoders
from blemore_baselines.decoding.scores import Models
from blemore_baselines.features import scores_csv
from blemore_baselines.results.run import Run


def run_of_scores(dataset: Dataset, models: Models, folder: Path) -> Run:
    """The run for models' scores of the dataset's clips, in its order. Thresholds decode their mean; structured
    decoding is included if it can be fitted.

    folder: where the page will be
    """
    decoded = decoders.fit("thresholds", dataset, models)
    metrics = {**decoded.figures}
    try:
        decoders.demand("structured", dataset)
        metrics["structured"] = decoders.fit("structured", dataset, models).figures
    except ValidationError:  # blends in too few folds
        pass
    config = {
        "method": "scores",
        "features": [
            {"path": str(path), "encoder": path.stem, "digest": digest([scores_csv(models.ids, log)])}
            for path, log in zip(models.paths, models.logs)
        ],
        "train": {"clips": len(dataset.ids), "digest": dataset.digest},
        "versions": {"blemore": VERSION},
    }
    return Run(folder, config, metrics, None, dataset, models.average()[np.newaxis])
