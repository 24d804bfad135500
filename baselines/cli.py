"""The command group `blemore-baselines`. Results go to stdout, progress and talk to stderr.

Each command imports what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Optional

import click

from blemore import trivial as trivial_answers
from blemore.cli import PATH, problems_told
from blemore.errors import BlemoreError, printable
from blemore.evaluate import read_ids, read_reference
from blemore.io import to_json, write_atomic
from blemore.version import VERSION


def talk(text: str) -> None:
    click.echo(text, err=True)


class Group(click.Group):
    """A group whose commands tell a user's mistake in words, with the exit codes of blemore.errors."""

    def invoke(self, ctx: click.Context):
        with problems_told():
            return super().invoke(ctx)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="blemore-baselines")
def main() -> None:
    """The BLEMORE baselines: from clips to features, models and submissions.

    \b
    The path, with a small generated dataset:
      blemore-baselines demo --out demo
      blemore-baselines extract --encoder logmel --metadata demo/train_metadata.csv --clips demo/train --out features/train
      blemore-baselines extract --encoder logmel --metadata demo/test_metadata.csv --clips demo/test --out features/test
      blemore-baselines train --metadata demo/train_metadata.csv --features features/train/logmel --out run
      blemore-baselines predict --model run --features features/test/logmel --ids demo/test_metadata.csv --out submission.zip
    """


metadata_option = click.option("--metadata", type=PATH, required=True, metavar="CSV", help="The dataset's train_metadata.csv.")
clips_option = click.option("--metadata", type=PATH, required=True, metavar="CSV", help="Whose clips: train_metadata.csv or test_metadata.csv.")
features_option = click.option(
    "--features", type=PATH, required=True, multiple=True, metavar="PATH",
    help="An aggregated .npz, a CSV table, or a folder with a file a clip. Several are fused.",
)


@main.command()
@click.option("--out", type=PATH, required=True, metavar="DIR", help="The dataset is written here.")
def demo(out: Path) -> None:
    """Generate the demo dataset: drawn faces and voice-like sounds of 15 invented actors.

    Example: blemore-baselines demo --out demo
    """
    from blemore_baselines.demo import make_demo

    made = make_demo(out)
    click.echo(f"{out}: {made.made} clips made, {made.kept} kept")


@main.command()
def encoders() -> None:
    """List the encoders: what they give, under which licence, and whether their weights are here.

    Example: blemore-baselines encoders
    """
    from blemore_baselines.encoders import ENCODERS, FAMILIES, encoder_class

    rows = [("encoder", "modality", "dim", "a row is", "presets", "here", "licence", "weights")]
    for name in [*ENCODERS, *FAMILIES]:
        kind = encoder_class(name if name in ENCODERS else f"{name}:ID")
        dim = kind.dim if isinstance(kind.dim, int) else "the model's"
        here = _is_here(kind) if name in ENCODERS else "–"
        shown = name if name in ENCODERS else f"{name}:ID"
        rows.append((shown, kind.modality, str(dim), kind.unit, ", ".join(kind.presets), here, kind.licence or "–", kind.weights or "needs none"))
    click.echo(_table(rows))


def _is_here(kind: type) -> str:
    try:
        encoder = kind()
        if hasattr(encoder, "weights_path"):
            from blemore_baselines.encoders.weights import find

            find(encoder, fetch=False)
        return "yes"
    except BlemoreError:
        return "no"


def _table(rows: list[tuple]) -> str:
    """Columns side by side, the last one as wide as it comes."""
    rows = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in list(zip(*rows))[:-1]] + [0]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _create(names: tuple, weights: tuple, **options) -> list:
    """Each encoder with those of the options that it takes; what none of them takes is a mistake."""
    from blemore_baselines.encoders import create, encoder_class

    names = list(dict.fromkeys(names))
    own = dict(text.split("=", 1) if text.split("=", 1)[0] in names else ("", text) for text in weights)
    if "" in own and len(names) > 1:
        raise click.UsageError(f"--weights {own['']}: of which encoder? Expected NAME=PATH, where there are several")
    given = {name: value for name, value in options.items() if value is not None}
    made, taken = [], {"preset", "device", "precision"}  # all may have these, though they mean nothing to some
    for name in names:
        kind = encoder_class(name)
        known = {parameter for base in kind.__mro__ for parameter in inspect.signature(base.__init__).parameters}
        chosen = {key: value for key, value in given.items() if key in known}
        if name in own or "" in own:
            if "weights" not in known or ":" in name:
                raise click.UsageError(f"--weights: {name} takes none")
            chosen["weights"] = own.get(name, own.get(""))
        taken.update(chosen)
        made.append(create(name, **chosen))
    for key in given:
        if key not in taken:
            raise click.UsageError(f"--{key}: {', '.join(names)} takes none")
    return made


@main.command()
@click.option("--clips", type=PATH, required=True, metavar="DIR", help="Searched for the clips' files, with its subfolders.")
@click.option("--metadata", type=PATH, metavar="CSV", help="Whose clips: train_metadata.csv or test_metadata.csv (default: all in DIR).")
@click.option("--encoder", "names", required=True, multiple=True, metavar="NAME", help="See `blemore-baselines encoders`. Those of one modality share one decoding.")
@click.option("--out", type=PATH, required=True, metavar="DIR", help="Features go to DIR/NAME/<clip>.npy.")
@click.option("--weights", multiple=True, metavar="[NAME=]PATH", help="A local file or folder, or a hub id, in place of the encoder's own source.")
@click.option("--preset", metavar="NAME", help="published: as the challenge's features; reference: as the model's authors intend.")
@click.option("--layers", metavar="A-B", help="hubert, wavlm, hf-audio: the mean of these layers, such as 6-12.")
@click.option("--faces", type=PATH, metavar="DIR", help="hicmae: the folder of the clips' aligned faces.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Clips at once: each takes one core and, without a GPU, a copy of the model.  [default: cores, at most 4]")
@click.option("--shard", default="1/1", show_default=True, metavar="I/N", help="The I-th of N parts of the clips alone, I from 1 to N.")
@click.option("--engine", type=click.Choice(["local", "dask"]), default="local", show_default=True, help="dask: --workers processes, or those of --scheduler.")
@click.option("--scheduler", metavar="tcp://…", help="Of a dask cluster that is running.")
def extract(
    clips: Path, metadata: Optional[Path], names: tuple, out: Path, weights: tuple, preset: Optional[str], layers: Optional[str], faces: Optional[Path],
    device: str, precision: str, workers: Optional[int], shard: str, engine: str, scheduler: Optional[str],
) -> None:
    """Encode clips into feature files. Can be stopped and started again; ends with 1 if clips failed.

    Example: blemore-baselines extract --encoder logmel --metadata demo/train_metadata.csv --clips demo/train --out features/train
    """
    part = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", shard)
    if not part or int(part[1]) > int(part[2]):
        raise click.BadParameter(f"{shard!r}; expected I/N with I from 1 to N, such as 3/8", param_hint="--shard")
    if scheduler and engine != "dask":
        raise click.UsageError("--scheduler goes with --engine dask")
    from blemore_baselines.engines import available_cores
    from blemore_baselines.extract import FAILURES
    from blemore_baselines.extract import extract as run

    made = _create(names, weights, preset=preset, layers=layers, faces=faces, device=device, precision=precision)
    summaries = run(
        read_ids(metadata) if metadata else None, clips, made, out, workers=workers or min(4, available_cores()),
        shard=(int(part[1]), int(part[2])), engine=engine, scheduler=scheduler,
    )
    for summary in summaries:
        if summary.failures:
            # All of them could be millions.
            shown = [(failure.clip, failure.kind, failure.message) for failure in summary.failures[:20]]
            talk(_table([("clip", "failure", "what was found"), *shown]))
            talk(f"all in {summary.folder / FAILURES}; the same command tries them again")
        click.echo(f"{summary.folder}: {len(summary.done)} clips encoded, {len(summary.skipped)} there already, {len(summary.failures)} failed")
    if any(summary.failures for summary in summaries):
        sys.exit(1)


@main.command()
@click.option("--features", type=PATH, required=True, metavar="DIR", help="A folder with a (T, D) file a clip.")
@clips_option
@click.option("--out", type=PATH, required=True, metavar="FILE.npz")
def aggregate(features: Path, metadata: Path, out: Path) -> None:
    """Seven statistics over time of each feature, one row a clip.

    Example: blemore-baselines aggregate --features features/train/logmel --metadata demo/train_metadata.csv --out logmel.npz
    """
    from blemore_baselines.features import read_features, save

    table = read_features(features, read_ids(metadata))
    save(table, out)
    click.echo(f"{out}: {table.X.shape[0]} clips × {table.X.shape[1]} columns")


@main.command()
@metadata_option
@features_option
@click.option("--method", type=click.Choice(["aggregate", "subsample"]), default="aggregate", show_default=True, help="One row a clip, or each of its rows an example.")
@click.option("--head", type=click.Choice(["linear", "mlp256", "mlp512"]), default="mlp512", show_default=True)
@click.option("--preset", type=click.Choice(["published"]), default="published", show_default=True, help="The protocol of the paper.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--out", type=PATH, required=True, metavar="RUN", help="The run folder; a run that was stopped goes on.")
def train(metadata: Path, features: tuple, method: str, head: str, preset: str, seed: int, out: Path) -> None:
    """Cross-validate over the predefined folds, then train on all of train.

    Example: blemore-baselines train --metadata demo/train_metadata.csv --features logmel.npz --out run
    """
    from blemore_baselines.dataset import read_dataset
    from blemore_baselines.features import read_features
    from blemore_baselines.report import figures_to_text
    from blemore_baselines.train import train as run

    dataset = read_dataset(metadata)
    sources = [read_features(path, dataset.ids, aggregated=method == "aggregate") for path in features]
    metrics = run(dataset, sources, features, method=method, head=head, preset=preset, seed=seed, out=out)
    click.echo(figures_to_text(metrics))
    talk(f"The run is in {out}")


@main.command()
@click.option("--model", type=PATH, required=True, metavar="RUN", help="A run folder, or its model.json and model.safetensors alone.")
@features_option
@click.option("--ids", type=PATH, required=True, metavar="CSV", help="The clips to predict: test_metadata.csv.")
@click.option("--out", type=PATH, required=True, metavar="submission.zip")
def predict(model: Path, features: tuple, ids: Path, out: Path) -> None:
    """Predict clips with a trained model: a submission that has passed the check.

    The logits go beside it, as test_logits.csv.

    Example: blemore-baselines predict --model run --features test.npz --ids demo/test_metadata.csv --out run/submission.zip
    """
    from blemore_baselines.features import RUN_TEST, scores_csv
    from blemore_baselines.predict import predict as run
    from blemore_baselines.predict import write_submission

    clips = read_ids(ids)
    logits, labels = run(model, features, clips)
    write_submission(clips, labels, out)
    write_atomic(out.with_name(RUN_TEST), scores_csv(clips, logits))
    click.echo(f"{out}: {len(clips)} clips, checked")


@main.command()
@metadata_option
@click.option("--scores", type=PATH, required=True, multiple=True, metavar="OOF", help="Out-of-fold logits or probabilities of the train clips: a table or a run folder. Several are averaged.")
@click.option("--test-scores", type=PATH, multiple=True, metavar="TEST", help="The same models' scores of the clips to submit, in the same order.")
@click.option("--decoder", type=click.Choice(["thresholds", "structured"]), default="thresholds", show_default=True)
@click.option("--weight", type=click.FloatRange(0, 1), metavar="W", help="structured: the part of ACC_presence in what is aimed at.  [default: 0.5]")
@click.option("--ids", type=PATH, metavar="CSV", help="The clips that a submission must hold (default: those of --test-scores).")
@click.option("--report", type=PATH, metavar="FILE.json", help="Write all figures, unrounded.")
@click.option("--out", type=PATH, metavar="submission.zip", help="Where the decoded --test-scores go.")
def decode(
    metadata: Path, scores: tuple, test_scores: tuple, decoder: str, weight: Optional[float], ids: Optional[Path], report: Optional[Path], out: Optional[Path]
) -> None:
    """Turn any model's scores into valid labels, with figures that can be trusted.

    \b
    thresholds:  the published rule, with published and nested figures
    structured:  the label with the highest expected score, beside thresholds

    Example: blemore-baselines decode --metadata train_metadata.csv --scores oof.csv --test-scores test.csv --out submission.zip
    """
    if bool(test_scores) != bool(out):
        raise click.UsageError("--test-scores and --out go together")
    if test_scores and len(test_scores) != len(scores):
        raise click.UsageError(f"{len(scores)} --scores but {len(test_scores)} --test-scores: expected one for each model")
    if weight is not None and decoder != "structured":
        raise click.UsageError("--weight goes with --decoder structured")
    from blemore_baselines import decoders
    from blemore_baselines.dataset import read_dataset
    from blemore_baselines.features import read_scores
    from blemore_baselines.predict import write_submission

    dataset = read_dataset(metadata)
    train = [read_scores(path, dataset.ids).X for path in scores]
    if decoder == "structured":
        decoded = decoders.structured(dataset, train, scores, 0.5 if weight is None else weight)
    else:
        decoded = decoders.thresholds(dataset, train, scores)
    if report:
        write_atomic(report, to_json(decoded.figures))
    if out:
        wanted = read_ids(ids) if ids else read_scores(test_scores[0], test=True).ids
        labels, side = decoded.apply([read_scores(path, wanted, test=True).X for path in test_scores], test_scores)
        write_submission(wanted, labels, out)
        if side is not None:
            write_atomic(out.with_suffix(".expected.csv"), decoders.expected_csv(wanted, labels, side))
    click.echo(decoded.text)
    if out:
        click.echo(f"\n{out}: {len(wanted)} clips, checked")


@main.command()
@metadata_option
@click.option("--labels", type=PATH, metavar="FILE", help="The labels that are scored (default: those of --metadata).")
@click.option("--fit", type=click.Choice(["scored", "train"]), default="scored", show_default=True, help="Most frequent in what is scored, as published, or in --metadata.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, figures unrounded.")
@click.option("--ids", type=PATH, metavar="CSV", help="With --out: the clips to submit (default: those that are scored).")
@click.option("--out", type=PATH, metavar="DIR", help="Write each constant answer as a submission.")
def trivial(metadata: Path, labels: Optional[Path], fit: str, as_json: bool, ids: Optional[Path], out: Optional[Path]) -> None:
    """The trivial baselines: always the same answer, the floor for every system.

    Example: blemore-baselines trivial --metadata train_metadata.csv
    """
    known = read_reference(metadata).labels
    scored = read_reference(labels).labels if labels else known
    answers = trivial_answers.fit((scored if fit == "scored" else known).values())
    results = trivial_answers.evaluate(answers, scored)
    if out:
        from blemore.labels import LABEL_INDEX
        from blemore_baselines.predict import write_submission

        clips = read_ids(ids) if ids else list(scored)
        for name in results:
            write_submission(clips, [LABEL_INDEX[getattr(answers, name)]] * len(clips), out / f"trivial_{name}.zip")
            talk(f"{out / f'trivial_{name}.zip'}: {len(clips)} clips, checked")
    if as_json:
        from blemore_baselines.report import trivial_to_dict

        click.echo(to_json(trivial_to_dict(answers, results, fit)), nl=False)
    else:
        from blemore_baselines.report import trivial_to_text

        click.echo(trivial_to_text(answers, results, fit))


@main.command()
@click.option("--run", "folder", type=PATH, required=True, metavar="RUN", help="A finished run folder.")
@click.option("--submission", type=PATH, metavar="ZIP", help="With --labels: score it too.")
@click.option("--labels", type=PATH, metavar="FILE", help="Labels of the submission's clips, where they are known.")
def report(folder: Path, submission: Optional[Path], labels: Optional[Path]) -> None:
    """Write RUN/report.html: figures, learning curves, thresholds, errors.

    Example: blemore-baselines report --run run
    """
    if bool(submission) != bool(labels):
        raise click.UsageError("--submission and --labels go together")
    from blemore_baselines.report import write_report

    scored = None
    if submission:
        from blemore.evaluate import evaluate
        from blemore.io import read_json

        data, where = read_json(submission)
        scored = evaluate(data, read_reference(labels), where=where)
    click.echo(write_report(folder, scored))
