"""From nothing to a result, along the README's path for each kind of user: how many programs that takes, and that they
work, in a folder outside the repository.

If the README's commands are only counted here, test_commands.py runs them, and test_first_hour.py with --long.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from kit import PROGRAMS, shell
from servers import NUMBER, pack, publish, serving
from test_commands import commands
from test_first_hour import section

from blemore_baselines.demo.generator import MARKER
from blemore_baselines.survey import record as records

ENVIRONMENT = 2  # programs before the kit's first: venv and pip
MOST_ON_DEMO, MOST_ON_DATASET = 6, 8  # from nothing to a checked entry


@pytest.fixture
def do(tmp_path, monkeypatch, request):
    """Runs a line of shell code in an empty folder; prints at the end how many there were."""
    (tmp_path / "desk").mkdir()
    monkeypatch.chdir(tmp_path / "desk")
    lines = []

    def run(line):
        result = shell(line)
        assert result.exit_code == 0, f"{line}\n{result.output}"
        lines.append(line)
        return result

    run.count = lambda: ENVIRONMENT + len(lines)
    yield run
    print(f"{request.node.name}: {run.count()} programs, venv and pip included")


def kits_own(block, tmp_path):
    """The words of the kit's own commands in a block of the README, in order."""
    return [command.words for command in commands(block, tmp_path) if command.words[0] in PROGRAMS]


def test_a_participant_step_by_step(tmp_path):
    """The README's first block: each step by itself."""
    [block, *_] = section("Participants")
    own = kits_own(block, tmp_path)
    print(f"participant, demo, step by step: {len(own)} of the kit's programs, {len(own) + ENVIRONMENT} in all")
    assert own[0][1] == "demo" and own[-1][:2] == ["blemore-score", "--check"]
    assert len(own) <= MOST_ON_DEMO


def test_a_participant_on_the_demo(tmp_path, long):
    """From nothing to a checked entry by `run`, with the published recipe."""
    if not long:
        pytest.skip("trains by the published recipe, minutes: with --long")
    lines = ["blemore-baselines run", "blemore-score --check {} --ids output/demo/data/test_metadata.csv"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BLEMORE_")}
    for line in lines:
        [*submission] = map(str, (tmp_path / "output/demo").glob("run-*/submission.zip"))
        program, *rest = shlex.split(line.format(*submission))
        result = subprocess.run(
            [Path(sys.executable).with_name(program), *rest],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
    assert "valid" in result.stdout and sorted(path.name for path in tmp_path.iterdir()) == ["output"]
    print(f"participant, demo: {ENVIRONMENT + len(lines)} programs, venv and pip included")
    assert ENVIRONMENT + len(lines) <= MOST_ON_DEMO


@pytest.fixture
def record(world, monkeypatch):
    """The demo's metadata and features as a record of a server that imitates Zenodo. It has the demo's marker, since it
    is smaller than the dataset.
    """
    names = ("train_metadata.csv", "test_metadata.csv", MARKER)
    files = {name: (world / "demo" / name).read_bytes() for name in names}
    for part in ("train", "test"):
        folder = f"pre_extracted_{part}_data"
        content = {str(path.relative_to(world)): path.read_bytes() for path in (world / folder).rglob("*.npy")}
        files[f"{folder}.zip"] = pack(content)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv(records.TOKEN, raising=False)
    with serving() as server:
        monkeypatch.setattr(records, "API", f"{server.url}/api/records/")
        monkeypatch.setattr(records, "CURRENT", NUMBER)
        publish(server, files)
        yield server


def test_a_participant_on_the_dataset(do, record):
    """From nothing to a checked entry on the real clips' features."""
    do("blemore-baselines data get --out DATA --only features --yes")
    features = "DATA/pre_extracted_{0}_data/WavLM_large_{0}"
    train, test = "DATA/train_metadata.csv", "DATA/test_metadata.csv"
    do(f"blemore-baselines train --metadata {train} --features {features.format('train')} --preset fast --out run")
    do(f"blemore-baselines predict --model run --features {features.format('test')} --ids {test} --out submission.zip")
    assert "36 clips" in do(f"blemore-score --check submission.zip --ids {test}").stdout
    assert sorted(path.name for path in Path.cwd().iterdir())[:3] == ["DATA", "run", "submission.logits.csv"]
    assert do.count() <= MOST_ON_DATASET


def test_an_organiser(tmp_path):
    """From labels to a bundle that has been checked and tried, as in the README's section."""
    own = [words for block in section("Organisers") for words in kits_own(block, tmp_path)]
    steps = [["blemore-codabench", step] for step in ("build", "check", "simulate")]
    assert [words[:2] for words in own[: len(steps)]] == steps
    print(f"organiser: {ENVIRONMENT + len(steps)} programs to a checked bundle, venv and pip included")


def test_a_researcher(do, world):
    """From features to two models, each of several seeds, compared with an interval."""
    metadata = world / "train_metadata.csv"
    options = f"--metadata {metadata} --preset fast --head linear --seeds 0-1"
    for name in ("WavLM_large", "ImageBind"):
        features = world / "pre_extracted_train_data" / f"{name}_train"
        do(f"blemore-baselines train {options} --features {features} --out {name}")
        do(f"blemore-baselines decode --metadata {metadata} --scores {name} --oof-out {name}.zip")
    compared = do(f"blemore-score WavLM_large.zip {metadata} --ci --against ImageBind.zip")
    assert "from ImageBind.zip" in compared.stdout
    assert do.count() <= MOST_ON_DATASET
