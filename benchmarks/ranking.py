"""The time of `blemore-rank` for 50 submissions of the test clips, and of the train clips, as whole processes.

    python benchmarks/ranking.py

The plain way to get the stability of ranks gathers the clips of each resample, and scores all submissions on them
again. It is run for a few resamples, and the time for all is extrapolated.
"""

import argparse
import json
import platform
import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from processes import Run, measure

from blemore.labels import LABELS, Label, to_entry
from blemore.metrics import outcome, total
from blemore.ranking import RESAMPLES
from blemore.validate import validate, validate_labels

OURS = "from blemore.rank_cli import main; main()"
SYSTEMS, PLAIN_RESAMPLES = 50, 20
SIZES = {"test": (594, 11, "60 s"), "train": (2456, 47, "")}  # clips, actors, target


def write_systems(folder: Path, clips: int, actors: int, rng: random.Random) -> tuple[list[Path], Path]:
    """Submissions of increasing accuracy, and labels."""
    truth = {f"clip_{number:05d}": rng.choice(LABELS) for number in range(clips)}
    groups = {clip: f"A{number % actors:02d}" for number, clip in enumerate(truth)}
    labels = folder / "labels.json"
    labels.write_text(json.dumps({"labels": entries(truth), "groups": groups}))
    (folder / "systems").mkdir()
    paths = []
    for number in range(SYSTEMS):
        skill = 0.1 + 0.3 * number / SYSTEMS
        answers = {clip: label if rng.random() < skill else rng.choice(LABELS) for clip, label in truth.items()}
        paths.append(folder / "systems" / f"system_{number:02d}.json")
        paths[-1].write_text(json.dumps({"predictions": entries(answers)}))
    return paths, labels


def entries(labels: Mapping[str, Label]) -> dict[str, list[dict[str, str | int]]]:
    return {clip: to_entry(label) for clip, label in labels.items()}


def plain_seconds(paths: list[Path], labels: Path) -> float:
    """The extrapolated time of all resamples in the plain way, in seconds."""
    reference = validate_labels(json.loads(labels.read_text()))
    systems = [validate(json.loads(path.read_text())) for path in paths]
    clips: dict[str, list[str]] = {}
    for clip, actor in reference.groups.items():
        clips.setdefault(actor, []).append(clip)
    rng, start = random.Random(0), time.perf_counter()
    for _ in range(PLAIN_RESAMPLES):
        sample = [clip for actor in rng.choices(sorted(clips), k=len(clips)) for clip in clips[actor]]
        scores = [total(outcome(answers[clip], reference.labels[clip]) for clip in sample).score for answers in systems]
        sorted(range(SYSTEMS), key=scores.__getitem__)
    return (time.perf_counter() - start) * RESAMPLES / PLAIN_RESAMPLES


def row(size: str, clips: int, actors: int, runs: list[Run], plain: float, target: str) -> str:
    wall = sorted(run.wall for run in runs)
    memory = max(run.peak for run in runs)
    return (
        f"| {size} | {clips:,} | {actors} | {wall[len(wall) // 2]:.1f} | {wall[-1]:.1f} | {memory:.0f} | {plain:,.0f} |"
        f" {target} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print(f"Python {platform.python_version()}; {SYSTEMS} systems, {RESAMPLES:,} resamples")
    print(
        "| labels | clips | actors | median wall (s) | slowest (s) | peak memory (MiB) | plain resamples (s) | target |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for size, (clips, actors, target) in SIZES.items():
        with tempfile.TemporaryDirectory() as name:
            paths, labels = write_systems(Path(name), clips, actors, random.Random(0))
            arguments = [paths[0].parent, labels, "--html", Path(name) / "page.html", "--csv", Path(name) / "r.csv"]
            runs = [measure(OURS, *map(str, arguments)) for _ in range(options.runs)]
            print(row(size, clips, actors, runs, plain_seconds(paths, labels), target), flush=True)


if __name__ == "__main__":
    main()
