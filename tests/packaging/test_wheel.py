"""The built distribution contains what it should, and nothing else."""

import configparser
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCORER = {"click", "jsonschema", "pyyaml"}
BASELINES = {
    *("av", "matplotlib", "numpy", "opencv-python-headless", "pandas", "pillow", "pooch"),
    *("requests", "safetensors", "scikit-learn", "soundfile", "soxr", "torch", "tqdm", "transformers"),
}
# Of each extra, which of the others it includes.
EXTRAS = {
    "baselines": set(),
    "cluster": {"baselines"},
    "finetune": {"baselines"},
    "opensmile": {"baselines"},
    "notebook": {"baselines"},
    "test": {"cluster", "finetune", "notebook"},
}
# What runs and tests leave in a working folder, and some in places where a careless pattern would collect it.
ARTEFACTS = [
    "output/demo/run-logmel/model.safetensors",
    "output/demo/run-logmel/model.json",
    "data/demo/train/clip.mov",
    "baselines/features/logmel/clip.npy",
    "baselines/encoders/logmel.npz",
    "baselines/run/report.html",
    "scoring_program/blemore/scores.json",
    "scoring_program/blemore/__pycache__/labels.cpython-311.pyc",
    "build/lib/blemore/left_over.py",
    "build/lib/tests/test_left_over.py",
    ".venv/lib/thing.py",
]


@pytest.fixture(scope="module")
def config():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


@pytest.fixture(scope="module")
def expected(config, source):
    """The files that the wheel must have, by setup.cfg's own list of packages."""
    lines = config["options"]["package_dir"].split("\n")
    places = dict(line.split(" = ") for line in lines if line and not line.startswith("#"))
    files = set()
    for package in config["options"]["packages"].split():
        top, _, rest = package.partition(".")
        folder = source / places[package] if package in places else source / places[top] / rest.replace(".", "/")
        data = config["options.package_data"].get(package, "").split()
        for path in [path for pattern in ("*.py", *data) for path in folder.glob(pattern)]:
            files.add(f"{package.replace('.', '/')}/{path.relative_to(folder).as_posix()}")
    return files


@pytest.fixture(scope="module")
def built(source, expected, tmp_path_factory):
    """(sdist, wheel): the wheel is built from the unpacked sdist, which shows that the sdist is complete."""
    for name in ARTEFACTS:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("left over")
    folder = tmp_path_factory.mktemp("dist")
    result = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def wheel(built):
    with zipfile.ZipFile(built[1]) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return Parser().parsestr(wheel.read(name).decode())


def requirements(metadata, extra):
    """What an extra brings ("": what is always installed), as packaging.requirements.Requirement."""
    from packaging.requirements import Requirement

    entries = map(Requirement, metadata.get_all("Requires-Dist"))
    return [entry for entry in entries if (entry.marker.evaluate({"extra": extra}) if entry.marker else not extra)]


def pins(name):
    """The versions of a file of constraints, by the packages' names in lower case."""
    from packaging.version import Version

    lines = [line for line in (ROOT / name).read_text().splitlines() if line and line[0] != "#"]
    return {
        package.lower().replace("_", "-"): Version(version) for package, version in (line.split("==") for line in lines)
    }


def test_wheel_contains_exactly_the_packages(wheel, expected):
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == expected
    assert {
        "blemore/labels.py",
        "blemore/py.typed",
        "blemore/schemas/submission.schema.json",
        "blemore/schemas/labels.schema.json",
        "blemore_baselines/__init__.py",
    } <= names


def test_wheel_installs_no_generic_name(wheel, config):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    (info,) = {top for top in tops if top.endswith(".dist-info")}
    assert tops - {info} == {name.split(".")[0] for name in config["options"]["packages"].split()}
    assert tops - {info} <= {"blemore", "blemore_baselines", "blemore_codabench"}


def test_neither_archive_contains_what_runs_leave_behind(built, wheel):
    with tarfile.open(built[0]) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    assert "setup.cfg" in in_sdist and "LICENSE" in in_sdist
    assert not in_sdist & set(ARTEFACTS)
    ends = (".pyc", ".npy", ".npz", ".mov", ".safetensors", ".html", "left_over.py", "scores.json")
    assert not [name for name in in_sdist | set(wheel.namelist()) if name.endswith(ends)]


def test_metadata_names_python_licence_and_dependencies(metadata):
    assert metadata["Name"] == "blemore"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "MIT" in (metadata["License"], metadata["License-Expression"])
    assert set(metadata.get_all("Provides-Extra")) == set(EXTRAS)
    assert {requirement.name for requirement in requirements(metadata, "")} == SCORER
    assert {requirement.name for requirement in requirements(metadata, "baselines")} == BASELINES


@pytest.mark.parametrize("extra", EXTRAS)
def test_extras_include_one_another(metadata, extra):
    own = [requirement.extras for requirement in requirements(metadata, extra) if requirement.name == "blemore"]
    assert own == ([EXTRAS[extra]] if EXTRAS[extra] else [])


def test_every_lower_bound_is_a_version_that_is_tested(metadata):
    dependencies = [
        dependency
        for extra in ("", *EXTRAS)
        for dependency in requirements(metadata, extra)
        if dependency.name != "blemore"
    ]
    bounds = {
        dependency.name.lower(): [str(part) for part in dependency.specifier if part.operator != "<"]
        for dependency in dependencies
    }
    assert bounds == {name: [f">={version}"] for name, version in pins("constraints-lowest.txt").items()}
    newest = pins("constraints.txt")
    assert all(
        dependency.specifier.contains(newest[dependency.name.lower()])
        for dependency in dependencies
        if dependency.name.lower() in newest
    )


def test_commands_are_declared_and_their_modules_shipped(wheel, config):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
    entry_points = configparser.ConfigParser()
    entry_points.read_string(wheel.read(name).decode())
    commands = dict(entry_points["console_scripts"])
    assert set(commands) == {"blemore-score", "blemore-rank", "blemore-baselines", "blemore-codabench"}
    for target in commands.values():
        assert target.partition(":")[0].replace(".", "/") + ".py" in wheel.namelist()


def test_every_direct_dependency_is_pinned():
    assert SCORER | BASELINES <= set(pins("constraints.txt"))


def test_installed_wheel_is_importable(built, tmp_path):
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--no-compile",
            "--target",
            tmp_path,
            built[1],
        ],
        check=True,
        capture_output=True,
    )
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import blemore, blemore.cli; print(blemore.cli.__file__);"
        "from blemore import parse_filename; print(parse_filename('A411_mix_ang_hap_30_70_ver1'));"
        "from blemore_baselines.results import published; print(published.__file__, len(published.read_published()))"
    )
    result = subprocess.run([sys.executable, "-I", "-c", code, tmp_path], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    cli, _, published = result.stdout.splitlines()
    assert (
        Path(cli).is_relative_to(tmp_path)
        and published == f"{tmp_path / 'blemore_baselines' / 'results' / 'published.py'} 13"
    )
