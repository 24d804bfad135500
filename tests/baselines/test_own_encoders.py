"""Encoders that are not the kit's own: the examples of encoders/README.md, run outside the repository."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from blemore.errors import FileError, ValidationError
from blemore_baselines.clips.media import ArrayClip
from blemore_baselines.encoders import create, encoder_class, installed
from blemore_baselines.encoders.base import Encoder

PAGE = Path(__file__).resolve().parents[2] / "baselines" / "encoders" / "README.md"
EXAMPLE, TORCH_EXAMPLE = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
PROGRAM = Path(sys.executable).parent / "blemore-baselines"
CLIPS = ["a", "b", "c"]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A user's folder with clips and the example."""
    (tmp_path / "clips").mkdir()
    for number, clip in enumerate(CLIPS):
        sound = np.random.default_rng(number).uniform(-0.5, 0.5, 4000 + 160 * number)
        soundfile.write(tmp_path / "clips" / f"{clip}.wav", sound, 16_000)
    (tmp_path / "my_encoder.py").write_text(EXAMPLE, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def extract(folder, *options):
    command = [PROGRAM, "extract", "--clips", "clips", "--out", "features", *options]
    return subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=500)


def features(folder):
    return {path.name: np.load(path) for path in folder.glob("*.npy")}


# --------------------------------------------------------------------------- the worked example


@pytest.mark.parametrize("options", [["--workers", 1], ["--workers", 2], ["--engine", "dask", "--workers", 2]])
def test_the_example_runs_outside_the_repository(desk, options):
    if "dask" in options:
        pytest.importorskip("distributed")
    run = extract(desk, "--encoder", "my_encoder.py:MyEncoder", *options)
    assert run.returncode == 0 and "3 clips encoded" in run.stdout, run.stderr
    folder = desk / "features" / "my_encoder"
    assert {name: rows.shape for name, rows in features(folder).items()} == {
        "a.npy": (13, 2),
        "b.npy": (13, 2),
        "c.npy": (14, 2),
    }
    meta = json.loads((folder / "meta.json").read_text())
    assert (meta["modality"], meta["unit"], meta["dim"]) == ("audio", "20 ms", 2)
    assert re.fullmatch(r"1-[0-9a-f]{12}", meta["revision"])
    assert "0 clips encoded, 3 there already" in extract(desk, "--encoder", "my_encoder.py:MyEncoder", *options).stdout


def test_the_example_has_at_most_thirty_lines():
    assert len(EXAMPLE.splitlines()) <= 30


def test_a_changed_file_gives_another_revision(desk):
    extract(desk, "--encoder", "my_encoder.py:MyEncoder", "--workers", 1)
    (desk / "my_encoder.py").write_text(EXAMPLE.replace("1e-6", "1e-7"), "utf-8")
    second = extract(desk, "--encoder", "my_encoder.py:MyEncoder", "--workers", 1)
    assert second.returncode == 1 and "features of another kind: revision '1-" in second.stderr
    assert "Choose another output folder" in second.stderr


@pytest.mark.long
def test_a_package_offers_encoders_by_name(desk, monkeypatch):
    """The package and its entry points are laid out as by pip."""
    packages = desk / "packages"
    (packages / "my_package").mkdir(parents=True)
    (packages / "my_package" / "__init__.py").touch()
    (packages / "my_package" / "my_encoder.py").write_text(EXAMPLE, "utf-8")
    info = packages / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    lines = [
        "mine = my_package.my_encoder:MyEncoder",
        "logmel = my_package.my_encoder:MyEncoder",
        "gone = my_package.nowhere:MyEncoder",
        "odd = my_package.my_encoder:STEP",
    ]
    (info / "entry_points.txt").write_text("\n".join(["[blemore.encoders]", *lines]) + "\n")
    monkeypatch.setenv("PYTHONPATH", str(packages))
    run = extract(desk, "--encoder", "mine", "--encoder", "logmel", "--workers", 2)
    assert run.returncode == 0, run.stderr
    assert features(desk / "features" / "my_encoder")["a.npy"].shape == (13, 2)
    assert features(desk / "features" / "logmel")["a.npy"].shape == (13, 80), "the kit's own names are reserved"
    revision = json.loads((desk / "features" / "my_encoder" / "meta.json").read_text())["revision"]
    assert re.fullmatch(r"1-[0-9a-f]{12}", revision)
    listing = subprocess.run([PROGRAM, "encoders"], capture_output=True, text=True)
    assert re.search(r"^mine +audio +2 +20 ms", listing.stdout, re.MULTILINE) and listing.returncode == 0
    assert "cannot be imported: ModuleNotFoundError" in listing.stderr and "'STEP' is not an encoder" in listing.stderr


def test_the_example_with_a_torch_model(desk):
    (desk / "net.py").write_text(TORCH_EXAMPLE, "utf-8")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 7), torch.nn.AdaptiveAvgPool2d(1))
    torch.save(model.state_dict(), desk / "my_network.pth")
    encoder = create("net.py:MyNetwork")
    frames = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    rows = encoder.encode(ArrayClip(frames))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((torch.from_numpy(frames) / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.inference_mode():
        assert np.abs(rows - model(pixels).flatten(1).numpy()).max() < 1e-5
    assert re.fullmatch(r"1-[0-9a-f]{12}-[0-9a-f]{12}", encoder.fingerprint), "digests of the weights and of the file"


# ----------------------------------------------------------------------------------- the contract


def define(tmp_path, text):
    """The class `Mine` of a file with this text after three lines of imports."""
    head = (
        "from blemore_baselines.encoders.base import Encoder\nfrom blemore_baselines.encoders.torch_encoder import"
        " TorchEncoder\n\n"
    )
    (tmp_path / "mine.py").write_text(head + text)
    return encoder_class(f"{tmp_path / 'mine.py'}:Mine")


def test_missing_parts_of_a_class_are_reported_with_file_and_line(tmp_path):
    with pytest.raises(ValidationError) as caught:
        define(tmp_path, "class Mine(Encoder):\n    pass\n")
    assert {problem.where for problem in caught.value.problems} == {f"{tmp_path / 'mine.py'}:4"}
    assert [problem.message.partition(";")[0] for problem in caught.value.problems] == [
        "class Mine lacks modality",
        "class Mine lacks unit",
        "class Mine lacks _encode",
        "class Mine lacks dim",
    ]
    with pytest.raises(ValidationError) as caught:
        define(tmp_path, 'class Mine(TorchEncoder):\n    modality, dim, unit = "video", 3, "frame"\n')
    assert {problem.message.split()[3] for problem in caught.value.problems} == {"_load;", "items;", "forward;"}


@pytest.mark.parametrize(
    "line, message",
    [
        ('modality = "visual"', "has modality = 'visual'; expected one of video, audio, video+audio"),
        ('dim = "512"', "has dim = '512'; expected the number of columns"),
        ("dim = 0", "has dim = 0; expected the number of columns"),
        ("dim = True", "has dim = True; expected the number of columns"),
        ('unit = " "', "has unit = ' '; expected what one row is"),
        ('name = "a/b"', "has name = 'a/b'; expected the name of a folder"),
        ('name = "..x"', "has name = '..x'; expected the name of a folder"),
        ('presets = ("reference")', "has presets = 'reference'; expected a tuple of at least one name"),
        ("presets = ()", "has presets = (); expected a tuple of at least one name"),
        ('suffixes = ("mov",)', "has suffixes = ('mov',); expected a tuple of at least one suffix"),
        ('packages = "torch"', "has packages = 'torch'; expected a tuple of package names"),
        ("revision = 2", "has revision = 2; expected a string"),
    ],
)
def test_invalid_attributes_are_reported(tmp_path, line, message):
    body = 'class Mine(Encoder):\n    modality, dim, unit = "audio", 3, "clip"\n    def _encode(self, clip): ...\n'
    with pytest.raises(ValidationError) as caught:
        define(tmp_path, f"{body}    {line}\n")
    [problem] = caught.value.problems
    assert message in problem.message and problem.where == f"{tmp_path / 'mine.py'}:4"


def test_defaults():
    class NiceVoiceV2(Encoder):
        modality, dim, unit = "audio", 3, "clip"

        def _encode(self, clip):
            return np.ones((1, 3))

    encoder = NiceVoiceV2()
    assert (encoder.name, encoder.rows, encoder.revision) == ("nice_voice_v2", "one per clip", "1")
    assert (encoder.preset, encoder.weights, encoder.packages) == ("reference", None, ())
    assert encoder.encode(ArrayClip()).shape == (1, 3)


def test_dim_can_be_a_property(tmp_path):
    """Some models know it only once loaded."""
    kind = define(
        tmp_path,
        'class Mine(Encoder):\n    modality, unit = "audio", "clip"\n    def _encode(self, clip): ...\n'
        "    @property\n    def dim(self): return 7\n",
    )
    assert kind().dim == 7


@pytest.mark.parametrize(
    "text, place, message",
    [
        ("import nothing_at_all\n", 4, "cannot be imported: ModuleNotFoundError: No module named 'nothing_at_all'"),
        ("class Mine(Encoder:\n", 4, "cannot be imported: SyntaxError"),
        ("\nx = 1 / 0\n", 5, "cannot be imported: ZeroDivisionError: division by zero"),
        ("def f():\n    raise SystemExit(3)\nf()\n", 5, "cannot be imported: SystemExit: 3"),
        ("Mine = 3\n", None, "'Mine' is not an encoder; expected a subclass of"),
        (
            'class Other(Encoder):\n    modality, dim, unit = "audio", 1, "clip"\n    def _encode(self, clip): ...\n',
            None,
            "'Mine' is not an encoder; expected one of its encoders: Other",
        ),
    ],
)
def test_unusable_files(tmp_path, text, place, message):
    with pytest.raises(ValidationError) as caught:
        define(tmp_path, text)
    [problem] = caught.value.problems
    assert message in problem.message and (place is None or problem.where == f"{tmp_path / 'mine.py'}:{place}")


def test_a_class_that_cannot_be_created(tmp_path):
    body = 'class Mine(Encoder):\n    modality, dim, unit = "audio", 3, "clip"\n    def _encode(self, clip): ...\n'
    define(tmp_path, body + "    def __init__(self): pass\n")
    with pytest.raises(ValidationError, match=r"mine\.py:4: class Mine cannot be created: TypeError.*__init__"):
        create(f"{tmp_path / 'mine.py'}:Mine")
    define(tmp_path, body + "    def __init__(self, preset=None):\n        self.x = {}['weights']\n")
    with pytest.raises(ValidationError, match=r"mine\.py:8: class Mine cannot be created: KeyError: 'weights'"):
        create(f"{tmp_path / 'mine.py'}:Mine")


def test_names_of_files(tmp_path):
    with pytest.raises(FileError, match=r"none\.py: cannot be read: No such file"):
        create(f"{tmp_path / 'none.py'}:Mine")
    (tmp_path / "my_encoder.py").write_text(EXAMPLE, "utf-8")
    with pytest.raises(ValidationError, match="does not name a class; expected one of its encoders: MyEncoder"):
        create(str(tmp_path / "my_encoder.py"))
    with pytest.raises(ValidationError, match=r"expected one of .*FILE\.py:CLASS"):
        create("my_encoder.txt:MyEncoder")
    assert installed() == []


def test_options_are_passed_to_the_class(desk):
    (desk / "net.py").write_text(TORCH_EXAMPLE, "utf-8")
    run = extract(desk, "--encoder", "my_encoder.py:MyEncoder", "--weights", "x")
    assert run.returncode == 2 and "--weights: my_encoder.py:MyEncoder takes none" in run.stderr
    run = extract(desk, "--encoder", "net.py:MyNetwork", "--weights", "net.py:MyNetwork=/no/such/file", "--workers", 1)
    assert run.returncode == 3 and "'/no/such/file' of encoder 'my_network'" in run.stderr


def test_a_missing_package_is_reported(desk):
    (desk / "my_encoder.py").write_text(
        EXAMPLE.replace("    dim = 2", '    packages = ("no-such-package",)\n    dim = 2')
    )
    run = extract(desk, "--encoder", "my_encoder.py:MyEncoder")
    assert run.returncode == 1 and "needs the package no-such-package, which is not installed" in run.stderr


def test_a_file_that_changes_during_a_run_is_refused(desk):
    encoder = create("my_encoder.py:MyEncoder")
    rebuild, (place, digest, state) = encoder.__reduce__()
    assert type(rebuild(place, digest, state)) is type(encoder)
    (desk / "my_encoder.py").write_text(EXAMPLE + "\n", "utf-8")
    with pytest.raises(ValidationError, match="the file has changed since the run began"):
        rebuild(place, digest, state)
