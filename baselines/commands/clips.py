"""The commands that lead to features: demo, encoders, extract, aggregate."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blemore.cli import OUT_FOLDER, PATH, FilePath
from blemore.errors import BlemoreError
from blemore.evaluate import read_ids
from blemore_baselines.commands.common import clips_folder_option, clips_option, table, talk

if TYPE_CHECKING:
    from blemore_baselines.encoders.base import Encoder
    from blemore_baselines.extract import Summary


@click.command()
@click.option("--out", type=OUT_FOLDER, required=True, metavar="DIR", help="Folder for the dataset.")
def demo(out: Path) -> None:
    """Generate the demo dataset: drawn faces and voice-like sounds of 15 invented actors.

    \b
    Example:
      blemore-baselines demo --out demo
    """
    from blemore_baselines.demo.generator import make_demo

    dataset = make_demo(out)
    click.echo(f"{out}: {dataset.made} clips made, {dataset.kept} kept")


@click.command()
def encoders() -> None:
    """List the encoders, with their output, their licence, and whether their weights are on this machine.

    hf-image:ID, hf-video:ID and hf-audio:ID stand for any model of these families. ID is a hub id or a local folder.

    \b
    Example:
      blemore-baselines encoders
    """
    from blemore_baselines.encoders import ENCODERS, FAMILIES, encoder_class, installed

    rows: list[tuple[str, ...]] = [("encoder", "modality", "dim", "a row is", "presets", "here", "licence", "weights")]
    for name in [*ENCODERS, *installed(), *(f"{family}:ID" for family in FAMILIES)]:
        try:
            rows.append(_row(name, encoder_class(name)))
        except BlemoreError as error:  # of another package
            talk(str(error))
    click.echo(table(rows))


def _row(name: str, kind: type[Encoder]) -> tuple[str, ...]:
    """An encoder's row in the table of `encoders`."""
    is_family = name.endswith(":ID")
    return (
        name,
        kind.modality,
        str(kind.dim) if isinstance(kind.dim, int) else "the model's",
        kind.unit,
        ", ".join(kind.presets),
        "–" if is_family else _is_here(kind),
        kind.licence or "–",
        kind.weights or "needs none",
    )


def _is_here(kind: type[Encoder]) -> str:
    from blemore_baselines.encoders.torch_encoder import TorchEncoder
    from blemore_baselines.encoders.weights import find

    try:
        encoder = kind()
        if isinstance(encoder, TorchEncoder):
            find(encoder, fetch=False)
        return "yes"
    except BlemoreError:
        return "no"


def _create(names: tuple[str, ...], weights: tuple[str, ...], options: dict[str, Any]) -> list[Encoder]:
    """Create each encoder with the options that it takes. An option that no encoder takes is a usage error."""
    from blemore_baselines.encoders import FAMILIES, create, encoder_class

    names = tuple(dict.fromkeys(names))
    paths: dict[str, str] = {}  # by encoder; "" for the only one
    for text in weights:
        name, _, path = text.partition("=")
        paths |= {name: path} if name in names else {"": text}
    if "" in paths and len(names) > 1:
        raise click.UsageError(f"--weights {paths['']}: for which encoder? Expected NAME=PATH, as there are several")
    options = {name: value for name, value in options.items() if value is not None}
    encoders: list[Encoder] = []
    used = {"preset", "device", "precision"}  # always allowed, though some encoders ignore them
    for name in names:
        parameters = _parameters(encoder_class(name))
        arguments = {key: value for key, value in options.items() if key in parameters}
        if name in paths or "" in paths:
            if "weights" not in parameters or name.partition(":")[0] in FAMILIES:
                raise click.UsageError(f"--weights: {name} takes none")
            arguments["weights"] = paths.get(name, paths.get(""))
        used.update(arguments)
        encoders.append(create(name, **arguments))
    for key in options:
        if key not in used:
            raise click.UsageError(f"--{key}: {', '.join(names)} takes none")
    return encoders


def _parameters(kind: type[Encoder]) -> set[str]:
    """The names of the parameters that a class can be created with."""
    return {name for base in kind.__mro__ for name in inspect.signature(base).parameters}


class Shard(click.ParamType):
    """I/N: the I-th of N parts, counted from 1."""

    name = "I/N"

    def convert(self, value: str | tuple[int, int], param, ctx) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        part = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", value)
        if not part or int(part[1]) > int(part[2]):
            self.fail(f"{value!r}; expected I/N with I from 1 to N, such as 3/8", param, ctx)
        return int(part[1]), int(part[2])


class Device(click.ParamType):
    """auto, cpu, cuda, or GPUs by number: cuda:0,cuda:1."""

    name = "DEVICE"

    def convert(self, value: str, param, ctx) -> str:
        devices = value.split(",")
        if not re.fullmatch(r"auto|cpu|cuda|cuda:\d+(,cuda:\d+)*", value) or len(set(devices)) < len(devices):
            self.fail(f"{value!r}; expected auto, cpu, cuda, or one or more GPUs, such as cuda:0,cuda:1", param, ctx)
        return value


@click.command()
@clips_folder_option
@click.option(
    "--metadata",
    type=PATH,
    metavar="CSV",
    help="The table that lists the clips: train_metadata.csv or test_metadata.csv (default: all clips in DIR).",
)
@click.option(
    "--encoder",
    "names",
    required=True,
    multiple=True,
    metavar="NAME",
    help=(
        "A name that `blemore-baselines encoders` lists; hf-image:ID, hf-video:ID or hf-audio:ID for a model on the hub"
        " or in a folder; or FILE.py:CLASS. Encoders of one modality share the decoding."
    ),
)
@click.option("--out", type=OUT_FOLDER, required=True, metavar="DIR", help="Features go to DIR/NAME/<clip>.npy.")
@click.option(
    "--weights",
    multiple=True,
    metavar="[NAME=]PATH",
    help="A local file or folder, or a hub id, instead of the encoder's own source.",
)
@click.option(
    "--preset",
    metavar="NAME",
    help="published: as in the challenge's features; reference: as the model's authors intend.",
)
@click.option("--layers", metavar="A-B", help="hubert, wavlm, hf-audio: the mean of these layers, such as 6-12.")
@click.option("--faces", type=PATH, metavar="DIR", help="hicmae: the folder with the clips' aligned faces.")
@click.option(
    "--device",
    type=Device(),
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda|cuda:0,cuda:1…",
    help="auto: a GPU if there is one. Several GPUs share the clips.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "tf32", "bf16"]),
    default="auto",
    show_default=True,
    help="auto: bf16 on a GPU that supports it; fp32 elsewhere, and for the preset published.",
)
@click.option(
    "--compile",
    is_flag=True,
    default=None,
    help="On a GPU: fuse the model's operations. Takes a minute, then encodes faster.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    metavar="N",
    help=(
        "Clips at a time, one process each. Without a GPU, each process runs a copy of the model on one core; with a"
        " GPU, the processes decode.  [default: the number of cores; without a GPU at most 4]"
    ),
)
@click.option(
    "--shard",
    type=Shard(),
    default="1/1",
    show_default=True,
    metavar="I/N",
    help="Only the I-th of N parts of the clips, I from 1 to N.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "dask"]),
    default="local",
    show_default=True,
    help="dask: --workers processes, or the workers of --scheduler.",
)
@click.option("--scheduler", metavar="tcp://…", help="Address of a running dask cluster.")
def extract(
    clips: Path,
    metadata: Path | None,
    names: tuple[str, ...],
    out: Path,
    weights: tuple[str, ...],
    workers: int | None,
    shard: tuple[int, int],
    engine: str,
    scheduler: str | None,
    **options: Any,
) -> None:
    """Encode clips into feature files. Can be stopped and resumed. Exits with 1 if clips failed.

    \b
    Example:
      blemore-baselines extract --encoder logmel --metadata demo/train_metadata.csv --clips demo/train \\
          --out features/train
    """
    if scheduler and engine != "dask":
        raise click.UsageError("--scheduler requires --engine dask")
    from blemore_baselines.encoders import module_name
    from blemore_baselines.engines import available_cores
    from blemore_baselines.engines.processes import preload

    cores = available_cores()
    if engine == "local" and (workers or cores) > 1:
        # Before this process imports the same modules, so that both do so at the same time.
        preload("blemore_baselines.extract", *sorted(filter(None, map(module_name, names))))

    from blemore_baselines.extract import extract as run
    from blemore_baselines.extraction.store import computes_on_gpu

    encoders = _create(names, weights, options)
    summaries = run(
        read_ids(metadata) if metadata else None,
        clips,
        encoders,
        out,
        workers=workers or (cores if any(map(computes_on_gpu, encoders)) else min(4, cores)),
        shard=shard,
        engine=engine,
        scheduler=scheduler,
    )
    for summary in summaries:
        _print(summary)
    if any(summary.failures for summary in summaries):
        sys.exit(1)


def _print(summary: Summary) -> None:
    from blemore_baselines.extraction.store import FAILURES

    if summary.failures:
        # There could be millions.
        rows = [(failure.clip, failure.kind, failure.message) for failure in summary.failures[:20]]
        talk(table([("clip", "failure", "what was found"), *rows]))
        talk(f"all failures are in {summary.folder / FAILURES}; the same command tries them again")
    click.echo(
        f"{summary.folder}: {len(summary.done)} clips encoded, {len(summary.skipped)} there already,"
        f" {len(summary.failures)} failed"
    )


@click.command()
@click.option("--features", type=PATH, required=True, metavar="DIR", help="A folder with a (T, D) file per clip.")
@clips_option
@click.option("--out", type=FilePath(to_write=True, suffix=".npz"), required=True, metavar="FILE.npz")
def aggregate(features: Path, metadata: Path, out: Path) -> None:
    """Summarise each feature by seven statistics over time, in one row per clip.

    \b
    Example:
      blemore-baselines aggregate --features features/train/logmel --metadata demo/train_metadata.csv --out logmel.npz
    """
    from blemore_baselines.features import read_features, save

    table = read_features(features, read_ids(metadata))
    save(table, out)
    click.echo(f"{out}: {table.X.shape[0]} clips × {table.X.shape[1]} columns")
