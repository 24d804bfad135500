"""Early fusion in three ways: does a learned fusion of modalities beat concatenating their columns?

Each way has one hidden layer of the same width, and is trained on the same folds with the same seeds, batches and
optimiser. If the recipe writes rows in a basis of their span, each modality has a basis of its own, except for
concatenation:
- *concatenation*: the published head on all columns, as in `train`
- *gated attention*: a projection of each modality, averaged with weights (gates) from a softmax over modalities, per
  clip (cf. Arevalo et al. 2017)
- *low-rank tensor*: the outer product of all projections, each with a 1 appended, mapped to the logits by a tensor of
  rank 4 (Liu et al. 2018), which includes products between units of different modalities
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn

from blemore.errors import Problem, ValidationError
from blemore.labels import EMOTION_NAMES, EMOTIONS
from blemore.tables import Cell, Table
from blemore_baselines.dataset import Dataset
from blemore_baselines.decoding.accounts import accuracies, count
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.features import Features, fuse
from blemore_baselines.models.heads import perceptron, seeded
from blemore_baselines.models.recipes import HEADS, Recipe
from blemore_baselines.results import plots
from blemore_baselines.results.study_files import Study
from blemore_baselines.studies.intervals import (
    COLUMNS,
    FIGURES,
    Estimate,
    cells,
    compare,
    draw,
    estimate,
    estimate_figures,
    in_words,
    outcomes,
)
from blemore_baselines.studies.objectives import by_thresholds, soft_label_loss
from blemore_baselines.studies.study import check_folds
from blemore_baselines.studies.training import ONE_TRAINING, Build, out_of_fold

RANK = 4
CONCATENATION, GATED, TENSOR = "concatenation", "gated attention", "low-rank tensor"


class Gated(nn.Module):
    """(rows, sum of widths) → (rows, 6 + modalities): the logits, then the gates, which sum to 1."""

    def __init__(self, widths: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.widths = list(widths)
        self.project = nn.ModuleList(nn.Linear(width, hidden) for width in widths)
        self.gate = nn.Linear(hidden * len(widths), len(widths))
        self.out = nn.Linear(hidden, len(EMOTIONS))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        projected = [torch.relu(project(x)) for project, x in zip(self.project, X.split(self.widths, dim=1))]
        gates = torch.softmax(self.gate(torch.cat(projected, dim=1)), dim=1)
        fused = (torch.stack(projected, dim=1) * gates[:, :, None]).sum(dim=1)
        return torch.cat([self.out(fused), gates], dim=1)


class LowRank(nn.Module):
    """(rows, sum of widths) → logits (rows, 6)."""

    def __init__(self, widths: Sequence[int], hidden: int, rank: int = RANK) -> None:
        super().__init__()
        self.widths = list(widths)
        self.project = nn.ModuleList(nn.Linear(width, hidden) for width in widths)
        self.factors = nn.ParameterList(nn.Parameter(torch.empty(rank, hidden + 1, len(EMOTIONS))) for _ in widths)
        for factor in self.factors:
            nn.init.uniform_(factor, -((hidden + 1) ** -0.5), (hidden + 1) ** -0.5)  # as in a linear layer
        self.bias = nn.Parameter(torch.zeros(len(EMOTIONS)))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        parts = zip(self.project, self.factors, X.split(self.widths, dim=1))
        projected = (
            nn.functional.pad(torch.relu(project(x)), (0, 1), value=1.0) @ factor for project, factor, x in parts
        )
        return math.prod(projected).sum(dim=0) + self.bias  # of (rank, rows, 6)


def fusion(
    dataset: Dataset,
    names: Sequence[str],
    sources: Sequence[Features],
    recipe: Recipe,
    head: str,
    seed: int,
    signature: str,
) -> Study:
    """Trains each way of fusion, and compares it with concatenation.

    sources: two or more, aggregated, of the dataset's clips, in its order; `names` are the sources' names
    head:    gives the hidden width of each way

    Raises ValidationError: there is one source, or they are not aggregated; the head has no hidden layer; a fold
    without blends.
    """
    hidden = _hidden_width(sources, head)
    check_folds(dataset, 2)
    ways: dict[str, Build] = {
        CONCATENATION: lambda widths: perceptron(sum(widths), hidden, len(EMOTIONS)),
        GATED: lambda widths: Gated(widths, hidden),
        TENSOR: lambda widths: LowRank(widths, hidden),
    }
    labels, gates = _train(dataset, sources, ways, recipe, seed)
    parameters = {name: _parameters(build, sources, seed) for name, build in ways.items()}
    counts = {name: count(predicted, dataset.labels) for name, predicted in labels.items()}
    records = {name: outcomes(predicted, dataset.labels) for name, predicted in labels.items()}
    reached = {name: estimate_figures(rows, dataset.actors) for name, rows in records.items()}
    gains = {
        figure: {
            name: compare(records[name], records[CONCATENATION], dataset.actors, figure) for name in (GATED, TENSOR)
        }
        for figure in FIGURES
    }
    by_emotion = mean_gates(gates, dataset)
    tables = {
        "fusions": _fusions_table(names, hidden, parameters, reached, gains["score"]),
        "gates": _gates_table(names, by_emotion),
    }
    values = {
        "fusions": {name: {**accuracies(result), "parameters": parameters[name]} for name, result in counts.items()},
        "gained": {
            figure: {name: gain._asdict() for name, gain in by_name.items()} for figure, by_name in gains.items()
        },
        "gates": {clips: {name: gate._asdict() for name, gate in zip(names, row)} for clips, row in by_emotion.items()},
    }
    figures = {"gained": _draw_gains(gains), "gates": _draw_gates(names, by_emotion)}
    findings = _findings(gains, dict(zip(names, by_emotion["all"])))
    return Study("fusion", "Fusion of modalities", tables, figures, findings, values, signature)


def _hidden_width(sources: Sequence[Features], head: str) -> int:
    """The head's hidden width. Raises ValidationError: it has no hidden layer, or there is nothing to fuse."""
    if len(sources) < 2:
        raise ValidationError(
            Problem(
                "one-source",
                "features",
                "1 source; expected at least two, to fuse",
                hint="Give --features once per source.",
            )
        )
    hidden = HEADS[head]
    if hidden is None:
        raise ValidationError(
            Problem(
                "no-hidden-layer",
                "head",
                f"{head} has no hidden layer; expected one, because all ways use its width",
                hint="--head mlp512",
            )
        )
    return hidden


def _train(
    dataset: Dataset, sources: Sequence[Features], ways: Mapping[str, Build], recipe: Recipe, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Each way's nested labels (N,), and the gates (N, modalities) of gated attention at its nested epochs."""
    fused = fuse(sources)
    labels: dict[str, np.ndarray] = {}
    gates = np.empty(0)
    for name, build in ways.items():
        outputs = out_of_fold(dataset, [fused] if name == CONCATENATION else sources, recipe, build, _loss, seed, name)
        labels[name], epochs = by_thresholds(softmax(outputs[..., : len(EMOTIONS)]), dataset)
        if name == GATED:
            gates = outputs[epochs, np.arange(len(dataset.ids)), len(EMOTIONS) :]
    return labels, gates


def _parameters(build: Build, sources: Sequence[Features], seed: int) -> int:
    """The number of parameters of a module for these modalities."""
    widths = [source.X.shape[1] for source in sources]
    return sum(parameter.numel() for parameter in seeded(partial(build, widths), seed).parameters())


def _fusions_table(
    names: Sequence[str],
    hidden: int,
    parameters: Mapping[str, int],
    reached: Mapping[str, Mapping[str, Estimate]],
    gains: Mapping[str, Estimate],
) -> Table:
    rows: list[list[Cell]] = [
        [name, parameters[name], *cells(by_figure), *gains.get(name, [None] * 4)[:4]]
        for name, by_figure in reached.items()
    ]
    return Table(
        f"Fusion of {' + '.join(names)}: {hidden} hidden units, nested; score gained over concatenation,"
        " intervals over actors",
        ("fusion", "parameters", *COLUMNS, "gained", "low", "high", "p"),
        rows,
    )


def _gates_table(names: Sequence[str], by_emotion: Mapping[str, Sequence[Estimate]]) -> Table:
    return Table(
        "Mean gates of held-out clips with each emotion, with intervals over actors; equal gates would be"
        f" {1 / len(names):.3f}",
        ("clips with", *(column for name in names for column in (name, "low", "high"))),
        [[clips, *(bound for gate in row for bound in gate[:3])] for clips, row in by_emotion.items()],
    )


def mean_gates(gates: np.ndarray, dataset: Dataset) -> dict[str, list[Estimate]]:
    """The mean of each modality's gates (N, modalities): over all clips, and over those with each emotion."""
    clips = {
        "all": np.ones(len(gates), dtype=bool),
        **{EMOTION_NAMES[emotion]: dataset.targets[:, k] > 0 for k, emotion in enumerate(EMOTIONS)},
    }
    return {
        name: [_mean(gate, inside, dataset.actors) for gate in gates.T]
        for name, inside in clips.items()
        if inside.any()
    }


def _mean(values: np.ndarray, inside: np.ndarray, actors: Sequence[str]) -> Estimate:
    """The mean of the values (N,) in the mask `inside` (N,)."""
    records = np.stack([inside, np.where(inside, values, 0)], axis=1).astype(float)
    return estimate(records, actors, lambda sums: sums[..., 1] / sums[..., 0])


def _loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss of the logits, which gates may follow."""
    return soft_label_loss(outputs[:, : len(EMOTIONS)], labels)


def _findings(gains: Mapping[str, Mapping[str, Estimate]], gates: Mapping[str, Estimate]) -> list[str]:
    means = ", ".join(f"{name} {gate.value:.3f}{_interval(gate)}" for name, gate in gates.items())
    return [
        *(
            f"{figure.capitalize()} gained over concatenation: "
            + "; ".join(f"{name} {in_words(gain)}" for name, gain in by_name.items())
            + "."
            for figure, by_name in gains.items()
        ),
        f"Mean gates: {means}; equal gates would be {1 / len(gates):.3f}. A gate is the weight of a modality's"
        " projection, not a measure of how much the result depends on it.",
        ONE_TRAINING,
    ]


def _interval(gate: Estimate) -> str:
    return "" if gate.low is None else f" ({gate.low:.3f} to {gate.high:.3f})"


def _draw_gains(gains: Mapping[str, Mapping[str, Estimate]]) -> plots.Picture:
    canvas, axes = plots.figure(10, 2.2, columns=len(gains), sharey=True)
    for axis, colour, (figure, by_name) in zip(axes[0], plots.COLOURS, gains.items()):
        draw(axis, list(by_name), list(by_name.values()), colour)
        axis.set(xlabel=f"{figure} gained over concatenation")
    return plots.picture(canvas)


def _draw_gates(names: Sequence[str], by_emotion: Mapping[str, Sequence[Estimate]]) -> plots.Picture:
    canvas, axes = plots.figure(7.5, 1 + 0.36 * len(by_emotion) + 0.22 * len(names))
    axis = axes[0, 0]
    for k, name in enumerate(names):
        gates, colour = [row[k] for row in by_emotion.values()], plots.COLOURS[k % len(plots.COLOURS)]
        draw(axis, list(by_emotion), gates, colour, name, 0.6 * ((k + 0.5) / len(names) - 0.5))
    axis.axvline(1 / len(names), color="0.6", linestyle="dashed", linewidth=1, zorder=0)
    axis.set(xlim=(0, 1), xlabel="mean gate of held-out clips (dashed: equal)", ylabel="clips with")
    canvas.legend(loc="outside upper center", frameon=False)
    return plots.picture(canvas)
