"""The command `blemore-codabench`.

Results go to stdout, everything else to stderr; exit codes are in blemore/errors.py.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from blemore.cli import OUT_FOLDER, PATH, FilePath, Group
from blemore.errors import Problem, printable, some
from blemore.io import to_json, write_atomic
from blemore.page import LEVELS
from blemore.version import VERSION
from blemore_codabench import build as building
from blemore_codabench import rescore as rescoring
from blemore_codabench import simulate as worker
from blemore_codabench.bundle import CONFIG, Bundle, BundleError
from blemore_codabench.check import check as run_check
from blemore_codabench.keys import is_uuid

BESIDE = (".labels.json", ".trivial_single.zip", ".trivial_blend.zip")  # what `build` writes next to a bundle
EXAMPLE = f"{datetime.now(UTC) + timedelta(days=28):%Y-%m-%d}"
RULE = "=" * 100
WARNING = f"""{RULE}
WARNING: ANYONE WILL BE ABLE TO DOWNLOAD THE HIDDEN LABELS.

The platform gives anyone the keys of each task's data sets, including reference data, and the data
behind any key, without a login. competition/README.md shows the two requests.

Keep the labels on a worker of your own instead:  --labels-on-worker --queue KEY
{RULE}"""


class Moment(click.ParamType):
    """A date, or date and time; UTC unless an offset is given."""

    name = "date"

    def convert(self, value, param, ctx):
        try:
            moment = datetime.fromisoformat(value)
        except (TypeError, ValueError):
            self.fail(f"{value!r} is not a date; expected e.g. {EXAMPLE} or {EXAMPLE}T12:00 (UTC)")
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class Key(click.ParamType):
    """The key by which the platform knows a queue."""

    name = "key"

    def convert(self, value, param, ctx):
        if not is_uuid(value):
            self.fail(f"{value!r} is not the key of a queue; expected the UUID in the queue's details on the platform")
        return value


@click.group(cls=Group)
@click.version_option(VERSION, prog_name="blemore-codabench")
def main() -> None:
    """Build, check and try out the competition's bundle for CodaBench.

    \b
    Example:
      blemore-codabench build --labels test_labels.json --labels-on-worker --queue KEY --ids test_metadata.csv \\
          --start YYYY-MM-DD --end YYYY-MM-DD --out bundle.zip
      blemore-codabench check bundle.zip
      blemore-codabench simulate bundle.zip bundle.trivial_blend.zip --worker-labels bundle.labels.json
    """


@main.command("build")
@click.option("--labels", type=PATH, required=True, help="The hidden labels: a labels JSON, or a metadata CSV.")
@click.option(
    "--out",
    type=FilePath(to_write=True, suffix=".zip", beside=BESIDE),
    required=True,
    metavar="FILE.zip",
    help="The bundle.",
)
@click.option(
    "--practice-labels", type=PATH, help="Add an earlier practice phase with these labels, e.g. those of a train fold."
)
@click.option("--labels-on-worker", is_flag=True, help="Keep the hidden labels on a worker of your own.")
@click.option("--queue", type=Key(), metavar="KEY", help="The queue of that worker.")
@click.option(
    "--labels-on-platform", is_flag=True, help="Put the hidden labels on the platform, where anyone can download them."
)
@click.option("--ids", type=PATH, metavar="FILE", help="The clips that the labels must cover (test_metadata.csv).")
@click.option(
    "--start", type=Moment(), help="Start of the test phase, UTC. Default: now; with practice, in four weeks."
)
@click.option("--end", type=Moment(), help="End of the test phase, UTC. Default: none.")
@click.option("--allow-past", is_flag=True, help="Accept past dates, to rebuild a competition that has begun.")
@click.option(
    "--config",
    type=PATH,
    default=building.HERE / CONFIG,
    metavar="FILE",
    help="Your own competition.yaml.  [default: the kit's]",
)
@click.option("--wheels", type=PATH, metavar="DIR", help="Take the vendored wheels from here instead of fetching them.")
@click.option(
    "--report",
    type=click.Choice(LEVELS),
    default="aggregate",
    show_default=True,
    help="What participants see of the test phase: the totals, nothing, or (for public labels) everything.",
)
def build_command(labels_on_platform: bool, **options) -> None:
    """Build a complete bundle from labels.

    \b
    Example:
      blemore-codabench build --labels test_labels.json --labels-on-worker --queue KEY --ids test_metadata.csv \\
          --start YYYY-MM-DD --end YYYY-MM-DD --out bundle.zip
    """
    _decide_where_labels_go(options["labels_on_worker"], labels_on_platform, options["report"])
    result = building.build(building.Options(**options))
    for name, path in result.files.items():
        click.echo(f"{name}: {printable(str(path))}")
    for line in result.phases:
        click.echo(line)
    for note in result.notes:
        click.echo(note, err=True)


def _decide_where_labels_go(on_worker: bool, on_platform: bool, report: str) -> None:
    if on_worker and on_platform:
        raise click.UsageError("--labels-on-worker and --labels-on-platform exclude each other")
    if on_worker and report == "full":
        raise click.UsageError("--report full reveals the labels, so it cannot be used with --labels-on-worker")
    if not on_worker and report != "full":
        click.echo(WARNING, err=True)
        if not on_platform:
            raise click.UsageError("to put the labels on the platform anyway, add --labels-on-platform")


@main.command("check")
@click.argument("bundle", type=PATH)
@click.option("--allow-past", is_flag=True, help="Accept past dates, for a competition that has begun.")
@click.option(
    "--python",
    default=sys.executable,
    metavar="EXE",
    help="The interpreter that runs the scoring program.  [default: this one]",
)
def check_command(bundle: Path, allow_past: bool, python: str) -> None:
    """Find problems that the platform would report cryptically, late or not at all.

    \b
    Example:
      blemore-codabench check bundle.zip
    """
    errors, notes = run_check(bundle, python, None if allow_past else datetime.now(UTC))
    for note in notes:
        click.echo(f"Note: {note}", err=True)
    if errors:
        raise BundleError(errors)
    click.echo(f"fine: {printable(str(bundle))}")


@main.command("simulate")
@click.argument("bundle", type=PATH)
@click.argument("submission", type=PATH)
@click.option(
    "--out", type=OUT_FOLDER, metavar="DIR", help="The folder for reports and logs.  [default: a new temporary folder]"
)
@click.option("--phase", metavar="NAME", help="The phase to submit to.  [default: the last]")
@click.option("--worker-labels", type=PATH, metavar="FILE", help="The labels that stay on your own worker.")
@click.option(
    "--python",
    default=sys.executable,
    metavar="EXE",
    help="The interpreter, without its installed packages.  [default: this one]",
)
def simulate_command(
    bundle: Path, submission: Path, out: Path | None, phase: str | None, worker_labels: Path | None, python: str
) -> None:
    """Score SUBMISSION, a zip or a folder of zips, as the platform's worker would.

    Prints one JSON object per submission. Exit code 1: a submission got no score.

    \b
    Example:
      blemore-codabench simulate bundle.zip submission.zip
    """
    out = out or Path(tempfile.mkdtemp(prefix="blemore-simulate-"))
    opened = _sound(bundle, python)
    if worker_labels and worker_labels.exists() and not worker_labels.stat().st_mode & 0o004:
        click.echo(f"{printable(str(worker_labels))}: on the worker, this file must have mode 0644", err=True)
    failed = False
    for path in _submissions(submission):
        outcome = worker.simulate(opened, path, out / path.stem, phase, python, worker_labels)
        failed |= outcome.status != "Finished"
        _show(path, outcome)
    sys.exit(int(failed))


def _submissions(path: Path) -> Sequence[Path]:
    """A zip, or all zips in a folder."""
    submissions = sorted(path.glob("*.zip")) if path.is_dir() else [path]
    if not submissions:
        raise click.UsageError(f"no zip in {path}: put the submissions' zips there, or name one of them")
    return submissions


def _sound(bundle: Path, python: str) -> Bundle:
    errors, _ = run_check(bundle, python)
    if errors:
        raise BundleError(
            [*errors, Problem("bundle", str(bundle), "invalid, so nothing was scored", hint="Fix the above first.")]
        )
    return Bundle(bundle)


def _show(path: Path, outcome: worker.Outcome) -> None:
    report = outcome.output / "detailed_results.html"
    line = {
        **outcome._asdict(),
        "submission": path.name,
        "output": str(outcome.output),
        "report": str(report) if report.is_file() else None,
    }
    click.echo(json.dumps(line))
    if outcome.exit_code:
        click.echo(
            printable_lines((outcome.output / "stderr.txt").read_text(encoding="utf-8", errors="replace")), err=True
        )


def printable_lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.splitlines())


@main.command("rescore")
@click.argument("submissions", type=PATH)
@click.option("--labels", type=PATH, required=True, help="The corrected labels: a labels JSON, or a metadata CSV.")
@click.option("--old-labels", type=PATH, required=True, help="The old labels.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with unrounded figures.")
@click.option(
    "--csv", type=FilePath(to_write=True), metavar="FILE.csv", help="Write the table to a file, with unrounded figures."
)
def rescore_command(submissions: Path, labels: Path, old_labels: Path, as_json: bool, csv: Path | None) -> None:
    """Score SUBMISSIONS, a folder of zips, with corrected labels and with the old ones.

    Prints old and new scores and ranks in one table. Exit code 1: a submission lacks a score.

    \b
    Example:
      blemore-codabench rescore submissions --labels corrected.json --old-labels test_labels.json
    """
    references = (building.read_labels(labels), building.read_labels(old_labels))
    rescored = rescoring.rescore(_submissions(submissions), *references)
    if csv:
        write_atomic(csv, rescoring.to_csv(rescored))
    changes = [f"{clip} ({change})" for clip, change in rescored.changes.items()]
    click.echo(f"Labels that differ: {len(changes):,}. {some(changes, 20)}".rstrip(), err=True)
    click.echo(to_json(rescoring.to_dict(rescored)) if as_json else rescoring.to_text(rescored), nl=not as_json)
    sys.exit(int(any(row.reason for row in rescored.rows)))
