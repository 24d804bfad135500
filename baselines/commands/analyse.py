"""The group `analyse`: a command a study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import click

from blemore.cli import PATH
from blemore_baselines.commands.common import features_option, metadata_option, talk
from blemore_baselines.models.recipes import HEADS, PRESETS

preset_option = click.option(
    "--preset", type=click.Choice(list(PRESETS)), default="fast", show_default=True, help="As in train."
)
head_option = click.option("--head", type=click.Choice(list(HEADS)), default="mlp512", show_default=True)
seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
out_option = click.option(
    "--out", type=PATH, required=True, metavar="DIR", help="Where the study's JSON, tables and figures go."
)


def training_options(command: Callable) -> Callable:
    """What a study needs to train: --preset, --head, --seed, --out."""
    for option in (out_option, seed_option, head_option, preset_option):
        command = option(command)
    return command


@click.group()
def analyse() -> None:
    """Run one of the experiments that the paper leaves open.

    Each tells what it found, with intervals over actors, and writes DIR/STUDY.json, tables (CSV, LaTeX) and figures.

    \b
    Example:
      blemore-baselines analyse identity --metadata train_metadata.csv --features logmel.npz --out run/analysis
    """


@analyse.command()
@metadata_option
@features_option
@training_options
def identity(metadata: Path, features: tuple, preset: str, head: str, seed: int, out: Path) -> None:
    """Actor-disjoint against actor-inclusive folds: what is the identity of actors worth?

    \b
    Example:
      blemore-baselines analyse identity --metadata train_metadata.csv --features logmel.npz --out run/analysis
    """
    from blemore_baselines.features import fuse
    from blemore_baselines.models.recipes import PRESETS
    from blemore_baselines.studies.identity import identity as run

    dataset, sources = _read(metadata, features)
    recipe = PRESETS[preset]["aggregate"]
    _finish(
        run(
            dataset,
            fuse(sources),
            recipe,
            head,
            seed,
            _signature("identity", dataset, sources, preset, recipe, head, seed),
        ),
        out,
    )


@analyse.command()
@metadata_option
@click.option(
    "--scores",
    type=PATH,
    multiple=True,
    metavar="OOF",
    help="Out-of-fold logits or probabilities of the clips: a table or a run folder. Several are averaged.",
)
@click.option(
    "--features",
    type=PATH,
    multiple=True,
    metavar="PATH",
    help="Instead of --scores: train on these, fused where there are several.",
)
@training_options
def thresholds(metadata: Path, scores: tuple, features: tuple, preset: str, head: str, seed: int, out: Path) -> None:
    """Do α and β travel? Each fold with thresholds of the others, and what the drop is made of.

    \b
    Example:
      blemore-baselines analyse thresholds --metadata train_metadata.csv --scores run --out run/analysis
    """
    if bool(scores) == bool(features):
        raise click.UsageError("expected either --scores or --features")
    from blemore_baselines.decoding.scores import average, softmax
    from blemore_baselines.features import fuse, read_scores
    from blemore_baselines.models.crossval import cross_validate
    from blemore_baselines.models.recipes import PRESETS
    from blemore_baselines.studies.study import digests, signature
    from blemore_baselines.studies.thresholds import thresholds as run

    dataset, sources = _read(metadata, features)
    if scores:
        sources = [read_scores(path, dataset.ids) for path in scores]
        probabilities = average([source.X for source in sources], scores)
        told = signature("thresholds", dataset, scores=digests(sources), seed=seed)
    else:
        recipe = PRESETS[preset]["aggregate"]
        probabilities = softmax(cross_validate(dataset, fuse(sources), recipe, [head], [seed]).logits[0, 0, -1])
        told = _signature("thresholds", dataset, sources, preset, recipe, head, seed)
    _finish(run(dataset, probabilities, told, seed), out)


@analyse.command()
@metadata_option
@click.option(
    "--video",
    type=PATH,
    required=True,
    multiple=True,
    metavar="PATH",
    help="Features of the picture, as for train --features; several are fused.",
)
@click.option(
    "--audio", type=PATH, required=True, multiple=True, metavar="PATH", help="Features of the sound, likewise."
)
@training_options
def ablation(metadata: Path, video: tuple, audio: tuple, preset: str, head: str, seed: int, out: Path) -> None:
    """Video, audio and both; and a model of both with one zeroed, noised or swapped at test time.

    \b
    Example:
      blemore-baselines analyse ablation --metadata train_metadata.csv --video videomae.npz --audio hubert.npz --out analysis
    """
    from blemore_baselines.models.recipes import PRESETS
    from blemore_baselines.studies.ablation import ablation as run

    dataset, sources = _read(metadata, (*video, *audio))
    recipe = PRESETS[preset]["aggregate"]
    told = _signature("ablation", dataset, sources, preset, recipe, head, seed, video=len(video), audio=len(audio))
    _finish(run(dataset, sources[: len(video)], sources[len(video) :], recipe, head, seed, told), out)


def _finish(study, out: Path) -> None:
    """Write a study, and tell it."""
    from blemore_baselines.studies.study import told, write

    write(study, out)
    click.echo(told(study))
    talk(f"Tables and figures are in {out}")


def _read(metadata: Path, paths: Sequence[Path]) -> tuple:
    """The dataset, and the aggregated features of its clips from each path."""
    from blemore_baselines.dataset import read_dataset
    from blemore_baselines.features import read_features

    dataset = read_dataset(metadata)
    return dataset, [read_features(path, dataset.ids) for path in paths]


def _signature(
    study: str, dataset, sources: Sequence, preset: str, recipe, head: str, seed: int, **settings: object
) -> str:
    """Of a study that trains."""
    from blemore_baselines.studies.study import digests, signature

    return signature(
        study, dataset, features=digests(sources), **settings, head=head, preset=preset, recipe=recipe.digest, seed=seed
    )


def _names(paths: Sequence[Path]) -> list[str]:
    """What sources are called: by their encoders, or by their paths where two would have one name."""
    from blemore_baselines.features import encoder_name

    if len(set(paths)) < len(paths):
        raise click.BadParameter("the same source twice; expected each once", param_hint="--features")
    names = [encoder_name(path) for path in paths]
    return names if len(set(names)) == len(names) else list(map(str, paths))


@analyse.command()
@metadata_option
@features_option
@training_options
def salience(metadata: Path, features: tuple, preset: str, head: str, seed: int, out: Path) -> None:
    """What to train for: soft labels, shares by regression, ranks, or sets and relations.

    \b
    Example:
      blemore-baselines analyse salience --metadata train_metadata.csv --features logmel.npz --out studies
    """
    from blemore_baselines.features import fuse
    from blemore_baselines.models.recipes import PRESETS
    from blemore_baselines.studies.salience import salience as run

    dataset, sources = _read(metadata, features)
    recipe = PRESETS[preset]["aggregate"]
    _finish(
        run(
            dataset,
            fuse(sources),
            recipe,
            head,
            seed,
            _signature("salience", dataset, sources, preset, recipe, head, seed),
        ),
        out,
    )


@analyse.command()
@metadata_option
@features_option
@training_options
def fusion(metadata: Path, features: tuple, preset: str, head: str, seed: int, out: Path) -> None:
    """How to join modalities: side by side, by gated attention, or by a low-rank tensor.

    \b
    Example:
      blemore-baselines analyse fusion --metadata train_metadata.csv --features imagebind.npz --features wavlm.npz --out studies
    """
    from blemore_baselines.models.recipes import PRESETS
    from blemore_baselines.studies.fusion import fusion as run

    names = _names(features)
    dataset, sources = _read(metadata, features)
    recipe = PRESETS[preset]["aggregate"]
    _finish(
        run(
            dataset,
            names,
            sources,
            recipe,
            head,
            seed,
            _signature("fusion", dataset, sources, preset, recipe, head, seed),
        ),
        out,
    )


@analyse.command()
@metadata_option
@features_option
@training_options
def importance(metadata: Path, features: tuple, preset: str, head: str, seed: int, out: Path) -> None:
    """What a head relies on: sources, statistics, and OpenFace's named columns, by permutation.

    \b
    Example:
      blemore-baselines analyse importance --metadata train_metadata.csv --features OpenFace_3_train --features wavlm.npz --out studies
    """
    from blemore_baselines.models.recipes import PRESETS
    from blemore_baselines.studies.importance import importance as run

    names = _names(features)
    dataset, sources = _read(metadata, features)
    recipe = PRESETS[preset]["aggregate"]
    _finish(
        run(
            dataset,
            names,
            sources,
            recipe,
            head,
            seed,
            _signature("importance", dataset, sources, preset, recipe, head, seed),
        ),
        out,
    )
