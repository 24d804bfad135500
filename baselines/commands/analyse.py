"""The command group `analyse`: one command per study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from blemore.cli import PATH
from blemore_baselines.commands.common import features_option, head_option, metadata_option, seed_option, talk
from blemore_baselines.models.recipes import PRESETS, Recipe
from blemore_baselines.studies import STUDIES, Entry

if TYPE_CHECKING:
    from blemore_baselines.dataset import Dataset
    from blemore_baselines.features import Features

Paths = tuple[Path, ...]


@click.group()
def analyse() -> None:
    """Run one of the studies of questions that the paper leaves open.

    Each prints its findings, with intervals over actors, and writes DIR/STUDY.json, tables (CSV, LaTeX) and figures.

    \b
    Example:
      blemore-baselines analyse identity --metadata train_metadata.csv --features logmel.npz --out run/analysis
    """


# ------------------------------------------------------------------------ studies' inputs


class Training(NamedTuple):
    """How a study trains its heads, by option name."""

    preset: str
    head: str
    seed: int

    @property
    def recipe(self) -> Recipe:
        return PRESETS[self.preset]["aggregate"]

    @property
    def arguments(self) -> tuple[Recipe, str, int]:
        """The arguments that studies take."""
        return self.recipe, self.head, self.seed

    @property
    def fields(self) -> dict[str, object]:
        """The fields of a signature."""
        return {"head": self.head, "preset": self.preset, "recipe": self.recipe.digest, "seed": self.seed}


class Inputs(NamedTuple):
    """arguments: for the study's function, between the dataset and the signature; fields: for the signature."""

    dataset: Dataset
    arguments: Sequence[object]
    fields: dict[str, object]


def read_features(metadata: Path, training: Training, features: Paths) -> Inputs:
    from blemore_baselines.features import fuse
    from blemore_baselines.studies.study import digests

    dataset, sources = _read(metadata, features)
    return Inputs(dataset, [fuse(sources), *training.arguments], {"features": digests(sources), **training.fields})


def read_sources(metadata: Path, training: Training, features: Paths) -> Inputs:
    from blemore_baselines.studies.study import digests

    names = _names(features)
    dataset, sources = _read(metadata, features)
    return Inputs(dataset, [names, sources, *training.arguments], {"features": digests(sources), **training.fields})


def read_modalities(metadata: Path, training: Training, video: Paths, audio: Paths) -> Inputs:
    from blemore_baselines.studies.study import digests

    dataset, sources = _read(metadata, (*video, *audio))
    fields = {"features": digests(sources), "video": len(video), "audio": len(audio), **training.fields}
    return Inputs(dataset, [sources[: len(video)], sources[len(video) :], *training.arguments], fields)


def read_probabilities(metadata: Path, training: Training, scores: Paths, features: Paths) -> Inputs:
    if bool(scores) == bool(features):
        raise click.UsageError("expected either --scores or --features")
    from blemore_baselines.decoding.scores import average, softmax
    from blemore_baselines.features import fuse, read_scores
    from blemore_baselines.models.crossval import cross_validate
    from blemore_baselines.studies.study import digests

    dataset, sources = _read(metadata, features)
    if scores:
        sources = [read_scores(path, dataset.ids) for path in scores]
        probabilities = average([source.X for source in sources], scores)
        return Inputs(dataset, [probabilities, training.seed], {"scores": digests(sources), "seed": training.seed})
    logits = cross_validate(dataset, fuse(sources), training.recipe, [training.head], [training.seed]).logits
    fields = {"features": digests(sources), **training.fields}
    return Inputs(dataset, [softmax(logits[0, 0, -1]), training.seed], fields)


def _read(metadata: Path, paths: Paths) -> tuple[Dataset, list[Features]]:
    """The dataset, and the aggregated features of its clips from each path."""
    from blemore_baselines.dataset import read_dataset
    from blemore_baselines.features import read_features

    dataset = read_dataset(metadata)
    return dataset, [read_features(path, dataset.ids) for path in paths]


def _names(paths: Paths) -> list[str]:
    """The sources' names: their encoders, or their paths if two encoders have the same name."""
    from blemore_baselines.sources.meta import encoder_name

    if len(set(paths)) < len(paths):
        raise click.BadParameter("the same source is given twice; expected each source once", param_hint="--features")
    names = [encoder_name(path) for path in paths]
    return names if len(set(names)) == len(names) else list(map(str, paths))


# ---------------------------------------------------------------------------- the commands

video_option = click.option(
    "--video",
    type=PATH,
    required=True,
    multiple=True,
    metavar="PATH",
    help="Video features, as for train --features; several are fused.",
)
audio_option = click.option(
    "--audio", type=PATH, required=True, multiple=True, metavar="PATH", help="Audio features, likewise."
)
scores_option = click.option(
    "--scores",
    type=PATH,
    multiple=True,
    metavar="OOF",
    help="Out-of-fold logits or probabilities of the clips: a table or a run folder. Several are averaged.",
)
instead_of_scores_option = click.option(
    "--features",
    type=PATH,
    multiple=True,
    metavar="PATH",
    help="Instead of --scores: train on these features; several are fused.",
)
training_options = (
    click.option("--preset", type=click.Choice(list(PRESETS)), default="fast", show_default=True, help="As in train."),
    head_option,
    seed_option,
    click.option(
        "--out", type=PATH, required=True, metavar="DIR", help="Where to write the study's JSON, tables and figures."
    ),
)
# What an entry takes → its command's options, and their reader
INPUTS: dict[str, tuple[Sequence[Callable], Callable[..., Inputs]]] = {
    "features": ([features_option], read_features),
    "sources": ([features_option], read_sources),
    "modalities": ([video_option, audio_option], read_modalities),
    "probabilities": ([scores_option, instead_of_scores_option], read_probabilities),
}


def command(name: str, entry: Entry) -> click.Command:
    """The command of a study: reads its inputs, runs it, then writes and prints the result."""
    options, read = INPUTS[entry.takes]

    def run(metadata: Path, preset: str, head: str, seed: int, out: Path, **paths: Paths) -> None:
        from blemore_baselines.results.study_files import to_terminal, write
        from blemore_baselines.studies.study import signature

        dataset, arguments, fields = read(metadata, Training(preset, head, seed), **paths)
        function = getattr(import_module(f"blemore_baselines.studies.{name}"), name)
        study = function(dataset, *arguments, signature(name, dataset, **fields))
        write(study, out)
        click.echo(to_terminal(study))
        talk(f"Tables and figures are in {out}")

    for option in reversed((metadata_option, *options, *training_options)):
        run = option(run)
    example = f"blemore-baselines analyse {name} --metadata train_metadata.csv {entry.example}"
    return click.command(name, help=f"{entry.question}\n\n\b\nExample:\n  {example}")(run)


for _name, _entry in STUDIES.items():
    analyse.add_command(command(_name, _entry))
