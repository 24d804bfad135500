"""The command `blemore-codabench`.

Results go to stdout, everything else to stderr; exit codes stand in blemore/errors.py.
"""

from __future__ import annotations

import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import click

from blemore.cli import OUT_FOLDER, PATH, FilePath, Group
from blemore.errors import Problem, printable
from blemore.page import LEVELS
from blemore.version import VERSION
from blemore_codabench import build as building
from blemore_codabench import simulate as worker
from blemore_codabench.bundle import CONFIG, Bundle, BundleError
from blemore_codabench.check import check as run_check

BESIDE = (".labels.json", ".trivial_single.zip", ".trivial_blend.zip")  # what `build` writes beside a bundle


class Moment(click.ParamType):
    """A date, or date and time; UTC unless an offset is given."""

    name = "date"

    def convert(self, value, param, ctx):
        try:
            moment = datetime.fromisoformat(value)
        except (TypeError, ValueError):
            self.fail(f"{value!r} is no date; expected e.g. 2026-03-01 or 2026-03-01T12:00 (UTC)")
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@click.group(cls=Group)
@click.version_option(VERSION, prog_name="blemore-codabench")
def main() -> None:
    """Build, check and try out the competition's bundle for CodaBench.

    \b
    Example:
      blemore-codabench build --labels test_labels.json --start 2026-12-01 --end 2027-02-01 --out bundle.zip
      blemore-codabench check bundle.zip
      blemore-codabench simulate bundle.zip bundle.trivial_blend.zip
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
    "--practice-labels", type=PATH, help="Add an earlier practice phase on these labels, e.g. of a train fold."
)
@click.option(
    "--labels-on-worker", is_flag=True, help="Ship the hidden labels' SHA-256 alone; they stay on your own worker."
)
@click.option(
    "--start", type=Moment(), help="Start of the test phase, UTC. Default: now; with practice, in four weeks."
)
@click.option("--end", type=Moment(), help="End of the test phase, UTC. Default: none.")
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
    help="How much of the test phase's results participants see.",
)
def build_command(**options) -> None:
    """Make a complete bundle from labels.

    \b
    Example:
      blemore-codabench build --labels test_labels.json --start 2026-12-01 --end 2027-02-01 --out bundle.zip
    """
    built = building.build(building.Options(**options))
    for name, path in built.files.items():
        click.echo(f"{name}: {printable(str(path))}")
    for note in built.notes:
        click.echo(note, err=True)


@main.command("check")
@click.argument("bundle", type=PATH)
@click.option(
    "--python",
    default=sys.executable,
    metavar="EXE",
    help="The interpreter that runs the scoring program.  [default: this one]",
)
def check_command(bundle: Path, python: str) -> None:
    """Find what the platform would report cryptically, late or not at all.

    \b
    Example:
      blemore-codabench check bundle.zip
    """
    errors, notes = run_check(bundle, python)
    for note in notes:
        click.echo(f"Note: {note}", err=True)
    if errors:
        raise BundleError(errors)
    click.echo(f"fine: {printable(str(bundle))}")


@main.command("simulate")
@click.argument("bundle", type=PATH)
@click.argument("submission", type=PATH)
@click.option(
    "--out", type=OUT_FOLDER, metavar="DIR", help="Where reports and logs go.  [default: a new temporary folder]"
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

    Prints one JSON object a submission. Exit code 1: not all of them got a score.

    \b
    Example:
      blemore-codabench simulate bundle.zip submission.zip
    """
    out = out or Path(tempfile.mkdtemp(prefix="blemore-simulate-"))
    opened = _sound(bundle, python)
    submissions = sorted(submission.glob("*.zip")) if submission.is_dir() else [submission]
    if not submissions:
        raise click.UsageError(f"no zip in {submission}: put the submissions' zips there, or name one of them")
    failed = False
    for path in submissions:
        outcome = worker.simulate(
            opened, path, out / path.stem, phase, python, worker_labels and worker_labels.resolve()
        )
        failed |= outcome.status != "Finished"
        _show(path, outcome)
    sys.exit(int(failed))


def _sound(bundle: Path, python: str) -> Bundle:
    errors, _ = run_check(bundle, python)
    if errors:
        raise BundleError(
            [*errors, Problem("bundle", str(bundle), "not sound, so nothing was scored", hint="Mend the above first.")]
        )
    return Bundle(bundle)


def _show(path: Path, outcome: worker.Outcome) -> None:
    report = outcome.output / "detailed_results.html"
    told = {
        **outcome._asdict(),
        "submission": path.name,
        "output": str(outcome.output),
        "report": str(report) if report.is_file() else None,
    }
    click.echo(json.dumps(told))
    if outcome.exit_code:
        click.echo(
            printable_lines((outcome.output / "stderr.txt").read_text(encoding="utf-8", errors="replace")), err=True
        )


def printable_lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.splitlines())
