"""Ten mistakes that people make: each ends with a message that names the mistake and the fix, and an exit code."""

import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from kit import call

ROOT = Path(__file__).resolve().parents[2]


def refusal(*arguments, code):
    """The stderr of a command that must fail with this code: no traceback, and nothing on stdout."""
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert "Traceback" not in result.stderr and result.stderr.strip()
    return result.stderr


@pytest.fixture
def submission(desk):
    """write(change, name): the name of a file with a valid submission of all test clips, its entries changed."""
    clips = json.loads(Path(desk.labels).read_text())["labels"]

    def write(change=lambda entries: entries, name="submission.json"):
        Path(name).write_text(
            json.dumps({"predictions": change({f"{clip}.mov": entry for clip, entry in clips.items()})})
        )
        return name

    assert call("blemore-score", "--check", write(), "--ids", desk.test).exit_code == 0
    return write


def test_1_a_wrong_path(desk):
    error = refusal("blemore-score", "submision.zip", desk.labels, code=3)
    assert "submision.zip: cannot be opened: No such file or directory" in error and "Check the path" in error
    error = refusal(
        "blemore-baselines",
        "aggregate",
        "--features",
        "WavLM_large_train",
        "--metadata",
        desk.train,
        "--out",
        "a.npz",
        code=3,
    )
    assert "WavLM_large_train: cannot be opened" in error and "Check the path" in error
    assert not Path("a.npz").exists()


@pytest.mark.parametrize(
    ("files", "mistake", "fix"),
    [
        (
            {"run/metrics.json": "{}", "predictions.json": "{}"},
            "2 JSON files in it",
            "Keep only the one with the predictions",
        ),
        ({"predictions.csv": "clip,emotion"}, "no JSON file in it", "one file ending in .json"),
        (None, "not a readable zip", "Zip the JSON file again"),
    ],
)
def test_2_a_wrong_zip(desk, files, mistake, fix):
    if files is None:
        Path("s.zip").write_bytes(b"PK\x03\x04 and then the connection was lost")
    else:
        with zipfile.ZipFile("s.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    error = refusal("blemore-score", "--check", "s.zip", "--ids", desk.test, code=1)
    assert mistake in error and fix in error


def test_3_forgotten_clips(desk, submission):
    partial = submission(lambda entries: dict(list(entries.items())[2:]))
    error = refusal("blemore-score", "--check", partial, "--ids", desk.test, code=1)
    assert "2 of 36 clips are missing: test_00" in error and "Every clip counts" in error


def test_4_saliences_from_0_to_1(desk, submission):
    invalid = submission(
        lambda entries: {
            clip: [{**part, "salience": part["salience"] / 100} for part in entry] for clip, entry in entries.items()
        }
    )
    error = refusal("blemore-score", "--check", invalid, "--ids", desk.test, code=1)
    assert "expected 100" in error and "multiply by 100" in error


def scores(path, ids, columns, shuffle=False):
    rows = [[clip, *(f"{random.gauss(0, 1):.3f}" for _ in range(6))] for clip in ids]
    if shuffle:
        random.shuffle(rows)
    Path(path).write_text("\n".join(",".join(row) for row in [["filename", *map(str, columns)], *rows]) + "\n")


def test_5_another_order_of_emotions(desk):
    """Columns and rows are read by name, in any order. Columns that are not named like the emotions are refused."""
    from blemore.evaluate import read_ids
    from blemore.labels import EMOTIONS

    clips = read_ids(Path(desk.train))
    random.seed(1)
    scores("right.csv", clips, EMOTIONS)
    rows = [line.split(",") for line in Path("right.csv").read_text().splitlines()]
    swapped = [[row[0], *row[:0:-1]] for row in [rows[0], *rows[:0:-1]]]
    Path("reordered.csv").write_text("\n".join(map(",".join, swapped)) + "\n")
    first, second = (
        call("blemore-baselines", "decode", "--metadata", desk.train, "--scores", name)
        for name in ("right.csv", "reordered.csv")
    )
    assert first.exit_code == 0 and first.stdout == second.stdout

    scores("numbers.csv", clips, range(6))
    error = refusal("blemore-baselines", "decode", "--metadata", desk.train, "--scores", "numbers.csv", code=1)
    assert (
        "expected filename and the six emotions ang, disg, fea, hap, sad, neu" in error
        and "order alone does not identify" in error
    )
    scores("full.csv", clips, ["anger", "disgust", "fear", "happiness", "sadness", "neutral"])
    assert "ang, disg, fea, hap, sad, neu" in refusal(
        "blemore-baselines", "decode", "--metadata", desk.train, "--scores", "full.csv", code=1
    )


def test_6_features_of_other_clips(desk):
    error = refusal(
        "blemore-baselines", "train", "--metadata", desk.train, "--features", desk.wavlm_test, "--out", "new", code=1
    )
    assert "144 of 144 clips have no features" in error and "other partition" in error
    error = refusal(
        "blemore-baselines",
        "predict",
        "--model",
        "run",
        "--features",
        desk.wavlm,
        "--ids",
        desk.test,
        "--out",
        "s.zip",
        code=1,
    )
    assert "36 of 36 clips have no features" in error and "other partition" in error
    assert not Path("new").exists() and not Path("s.zip").exists()


def test_7_another_encoder(desk):
    error = refusal(
        "blemore-baselines",
        "predict",
        "--model",
        "run",
        "--features",
        desk.imagebind_test,
        "--ids",
        desk.test,
        "--out",
        "s.zip",
        code=1,
    )
    assert "WavLM_large" in error and "ImageBind" in error and not Path("s.zip").exists()


def test_8_clips_without_sound(desk):
    import av
    import numpy as np

    Path("mute").mkdir()
    with av.open("mute/test_0001.mov", "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 64, 48
        for _ in range(10):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))))
        file.mux(stream.encode())
    result = call(
        "blemore-baselines", "extract", "--clips", "mute", "--encoder", "logmel", "--out", "features", "--workers", "1"
    )
    assert result.exit_code == 1 and "Traceback" not in result.stderr
    assert "0 clips encoded, 0 there already, 1 failed" in result.stdout
    assert (
        "has no sound stream. Sound features need a file with sound." in result.stderr
        and "tries them again" in result.stderr
    )
    assert "test_0001,no-audio" in Path("features/logmel/failures.csv").read_text()


def old_pythons():
    pythons = {}
    for version in ("3.6", "3.7", "3.8", "3.10"):
        for path in sorted(
            Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python")
        ):
            pythons[version] = path
    return pythons


@pytest.mark.parametrize("version", ["3.6", "3.7", "3.8", "3.10"])
def test_9_an_old_python(tmp_path, version):
    python = old_pythons().get(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "cat", "cksum", "dirname", "env", "mkdir", "sed", "tail", "df", "awk", "rm", "find", "tee"):
        (tools / tool).symlink_to(shutil.which(tool))
    (tools / "python3").symlink_to(python)
    kit = tmp_path / "kit"
    for name in ("baselines/run_all.sh", "baselines/environment.sh", "setup.cfg", "pyproject.toml", "constraints.txt"):
        (kit / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, kit / name)
    run_all = subprocess.run(
        [tools / "bash", kit / "baselines/run_all.sh"],
        capture_output=True,
        text=True,
        env={"PATH": str(tools), "HOME": str(tmp_path)},
    )
    assert run_all.returncode == 1 and "Traceback" not in run_all.stderr
    assert (
        f"No Python 3.11 or later was found (python3 is {version}" in run_all.stderr
        and "PYTHON=/path/to/python3.12" in run_all.stderr
    )
    assert not (kit / "output").exists()

    score = subprocess.run(
        [python, ROOT / "scoring_program" / "score.py"], capture_output=True, text=True, cwd=tmp_path
    )
    if version in ("3.6", "3.7", "3.8"):
        assert score.returncode == 4 and "Traceback" not in score.stderr
        assert (
            f"needs Python 3.9 or later, and this is {version}" in score.stderr
            and "docker_image: codalab/codalab-legacy:py312" in score.stderr
        )
    else:
        assert "needs Python" not in score.stderr


@pytest.fixture
def disk(tmp_path_factory):
    """A file system of 16 kB."""
    place = tmp_path_factory.mktemp("disk")
    if (
        os.name != "posix"
        or os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", place], capture_output=True).returncode
    ):
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", place], check=True)


def test_10_no_space(desk, disk):
    commands = {
        "aggregate": ["--features", desk.wavlm, "--metadata", desk.train, "--out", disk / "a.npz"],
        "train": [
            "--features",
            desk.wavlm,
            "--metadata",
            desk.train,
            "--preset",
            "fast",
            "--head",
            "linear",
            "--out",
            disk / "run",
        ],
        "extract": ["--clips", "demo/test", "--encoder", "logmel", "--out", disk / "features", "--workers", "1"],
        "demo": ["--out", disk / "demo"],
    }
    for name, arguments in commands.items():
        result = call("blemore-baselines", name, *arguments)
        lines = [line for line in result.stderr.replace("\r", "\n").splitlines() if line.strip() and "%|" not in line]
        assert result.exit_code == 3 and "No space left on device" in "".join(lines), (name, result.output)
        assert "Make room on that disk" in "".join(lines) and len(lines) <= 2, (name, lines)
        shutil.rmtree(disk, ignore_errors=True)
        assert not list(disk.iterdir())


def test_debug_shows_the_traceback(desk):
    """With `--debug`, a mistake shows the traceback before its message."""
    result = subprocess.run(
        [sys.executable, "-P", "-c", "from blemore.cli import main; main()", "--debug", "nowhere.zip", desk.labels],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 3 and "Traceback" in result.stderr and result.stderr.endswith("Check the path.\n")
