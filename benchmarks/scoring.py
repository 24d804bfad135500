"""The time of `blemore-score` as a whole process, compared with a plain script: json.load and a comparison, no checks.

    python benchmarks/scoring.py

The saliences of the predicted blends are random, so hardly any entries are equal. This is the slowest case, because
equal entries are checked only once.
"""

import argparse
import json
import os
import platform
import random
import statistics
import tempfile
from pathlib import Path

from processes import Run, measure

from blemore.labels import BLENDABLE, EMOTIONS, LABELS, to_entry

OURS = "from blemore.cli import main; main()"
PLAIN = """
import json, sys
predictions, labels = (json.load(open(path))[key] for path, key in zip(sys.argv[1:], ("predictions", "labels")))

def relation(entry):
    (a, x), (b, y) = sorted((part["emotion"], part["salience"]) for part in entry)
    return (a, b, (x > y) - (x < y))

blends = presence = salience = 0
for clip, truth in labels.items():
    answer = predictions[clip]
    presence += {part["emotion"] for part in answer} == {part["emotion"] for part in truth}
    if len(truth) == 2:
        blends += 1
        salience += len(answer) == 2 and relation(answer) == relation(truth)
print(json.dumps({"acc_presence": presence / len(labels), "acc_salience": salience / blends}))
"""
TARGETS = {594: "0.3 s", 100_000: "12 s and 1 GB"}


def write_data(folder: Path, n: int) -> list[str]:
    rng = random.Random(n)
    labels, predictions = {}, {}
    for k in range(n):
        clip = f"test_{k:06}"
        labels[clip] = to_entry(rng.choice(LABELS))
        if rng.random() < 0.4:
            predictions[clip] = [{"emotion": rng.choice(EMOTIONS), "salience": 100}]
        else:
            share = rng.uniform(1, 99)
            pair = rng.sample(BLENDABLE, 2)
            predictions[clip] = [
                {"emotion": emotion, "salience": value} for emotion, value in zip(pair, (share, 100 - share))
            ]
    paths = [folder / f"predictions_{n}.json", folder / f"labels_{n}.json"]
    for path, key, data in zip(paths, ("predictions", "labels"), (predictions, labels)):
        path.write_text(json.dumps({key: data}))
    return [str(path) for path in paths]


def accuracies(run: Run) -> tuple[float, float]:
    """The accuracies that a run printed."""
    figures = json.loads(run.output)
    return figures["acc_presence"], figures["acc_salience"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=7, help="runs of the small case; the large case has three")
    runs = parser.parse_args().runs
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores\n")
    print("| clips | what | runs | median wall (s) | slowest (s) | median CPU (s) | peak memory (MiB) | target |")
    print("|---" * 8 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for n, target in TARGETS.items():
            paths = write_data(Path(folder), n)
            times = runs if n < 10_000 else min(runs, 3)
            # Alternating, so a busy moment of the machine affects both.
            pairs = [(measure(OURS, *paths, "--json"), measure(PLAIN, *paths)) for _ in range(times)]
            assert len({accuracies(run) for pair in pairs for run in pair}) == 1, "the figures differ"
            for name, measurements, goal in zip(
                ("blemore-score", "plain script, no checks"), zip(*pairs), (target, "")
            ):
                walls, cpu, peaks, _ = zip(*measurements)
                print(
                    f"| {n:,} | {name} | {times} | {statistics.median(walls):.2f} | {max(walls):.2f} |"
                    f" {statistics.median(cpu):.2f} | {max(peaks):.0f} | {goal} |"
                )


if __name__ == "__main__":
    main()
