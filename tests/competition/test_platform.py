"""The kit's verdicts agree with the real platform's on changed bundles and submissions (BLEMORE_SHARED, codabench/).

By default a seeded tenth of them, with --long all.
"""

import json
import random
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from blemore_codabench import check as checking
from blemore_codabench.build import Options, build
from blemore_codabench.bundle import Bundle
from blemore_codabench.simulate import simulate

NOW = datetime(2026, 11, 29, tzinfo=UTC)  # before all dates in the changed bundles
PHASE = {"start": datetime(2027, 1, 1, tzinfo=UTC), "end": datetime(2027, 2, 1, 12, tzinfo=UTC)}


@pytest.fixture(scope="module")
def scripts(shared):
    folder = shared / "codabench"
    if not folder.is_dir():
        pytest.skip(f"no verdicts of the platform in {folder}")
    return folder


def run(script, *arguments):
    """Hides the scripts' own notices."""
    subprocess.run([sys.executable, "-W", "ignore", script, *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def bundle(scripts, wheels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("platform")
    run(scripts / "labels.py", folder)
    options = Options(
        labels=folder / "labels.json",
        practice_labels=folder / "practice.json",
        out=folder / "bundle.zip",
        wheels=wheels,
        allow_past=True,
        **PHASE,
    )
    build(options)
    return options.out


def sample(names, long):
    names = sorted(names)
    return names if long else random.Random(12).sample(names, max(1, len(names) // 10))


def test_changed_bundles(scripts, bundle, tmp_path, trials, long):
    """At least 98 % of the bundles with a single verdict agree."""
    pytest.importorskip("PIL", reason="mutations.py draws images")
    run(scripts / "mutations.py", bundle, tmp_path)
    verdicts = json.loads((scripts / "bundles.json").read_text())
    names = sample((name for name, verdict in verdicts.items() if verdict["check"] != "either"), long)
    differences = {}
    for name in names:
        errors, _ = checking.check(tmp_path / f"{name}.zip", now=NOW)
        if ("error" if errors else "ok") != verdicts[name]["check"]:
            differences[name] = (verdicts[name], [str(error) for error in errors])
    print(f"{len(names) - len(differences)} of {len(names)} bundles agree")
    assert len(differences) <= 0.02 * len(names), differences


def test_submissions(scripts, bundle, tmp_path, long):
    run(scripts / "submissions.py", bundle.with_suffix(".trivial_blend.zip"), tmp_path)
    verdicts = json.loads((scripts / "submissions.json").read_text())
    names = sample(verdicts, long)
    for name in names:
        expected = verdicts[name]
        outcome = simulate(Bundle(bundle), tmp_path / f"{name}.zip", tmp_path / "out" / name)
        if outcome.status == "Not run":
            continue  # no sandbox on this machine
        assert (outcome.status, outcome.details) == (expected["status"], expected["details"]), (name, outcome)
        assert outcome.scores == pytest.approx(expected["scores"] or {}), name
    print(f"{len(names)} submissions end as on the platform")


def test_the_sample_is_a_tenth():
    assert len(sample(map(str, range(248)), False)) == 24 and len(sample(map(str, range(248)), True)) == 248
