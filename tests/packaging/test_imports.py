"""Which module may import what, read from the source without importing anything."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "blemore": ROOT / "scoring_program" / "blemore",
    "blemore_baselines": ROOT / "baselines",
    "blemore_codabench": ROOT / "competition",
}
# From the bottom up. A module imports from its own layer and from those before it; one that does not exist yet does no
# harm. Packages' __init__ modules collect public names and are left out; version is open to all.
LAYERS = {
    "blemore": [
        ("labels", "errors"),
        ("io", "validate", "tables"),
        ("metrics",),
        ("evaluate",),
        ("significance", "trivial", "signature"),
        ("ranking",),
        ("report", "page", "rank_report", "rank_page"),
        ("cli", "codabench", "rank_cli"),
    ],
    "blemore_baselines": [
        ("dataset", "clips", "download", "engines", "steps", "template"),
        ("encoders",),
        ("extract", "extraction", "sources"),
        ("features",),
        ("models", "decoding"),
        ("train",),
        ("predict",),
        ("results", "demo", "finetuning"),
        ("paper", "pipeline", "studies", "survey"),
        ("commands", "cli", "__main__"),
    ],
    "blemore_codabench": [
        ("bundle", "logo", "dates", "images", "sandbox"),
        ("vendor", "keys", "commands"),
        ("simulate", "leaks"),
        ("build", "check"),
        ("rescore",),
        ("cli",),
    ],
}
FORBIDDEN = {"torchvision", "torchaudio", "timm", "decord", "torchcodec", "s3prl", "pickle"}
PLOTTING = {"blemore_baselines.results.plots"}


def modules(package: str) -> dict[str, Path]:
    """Dotted name → file, of a package and its subpackages."""
    folder = PACKAGES[package]
    paths = {}
    for path in sorted(folder.rglob("*.py")):
        if "slurm" in path.parts:  # a script, no part of the package
            continue
        parts = path.relative_to(folder).with_suffix("").parts
        paths[".".join((package, *parts)).removesuffix(".__init__")] = path
    return paths


def imported(path: Path, package: str) -> set[str]:
    """The dotted names that a file imports anywhere in it, functions included.

    `from a.b import c` counts as a.b.c, since c can be a module; callers shorten the names that they compare.
    """
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # relative: counted from the package that the file lies in
                base = ".".join(filter(None, [*package.split(".")[: len(package.split(".")) - node.level + 1], base]))
            names.update(f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "import_module",
            "importlib.import_module",
            "__import__",
        ):
            if node.args and isinstance(node.args[0], ast.Constant):
                names.add(node.args[0].value)
    return names


def layer(package: str, name: str):
    """The layer of a dotted name within its package: by the part after the package's name."""
    part = name.split(".")[1] if "." in name else None
    return next((i for i, names in enumerate(LAYERS[package]) if part in names), None)


def home(name: str, path: Path) -> str:
    """The package that relative imports in this module start from."""
    return name if path.name == "__init__.py" else name.rpartition(".")[0]


MODULES = [(package, name, path) for package in PACKAGES for name, path in modules(package).items()]
by_name = pytest.mark.parametrize(("package", "name", "path"), MODULES, ids=[name for _, name, _ in MODULES])


def test_there_is_something_to_check():
    names = {name for _, name, _ in MODULES}
    assert {"blemore.labels", "blemore.metrics", "blemore.cli", "blemore_baselines"} <= names


def test_imports_are_read_in_every_form(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "import a.b, c\nfrom d import e\nfrom . import f\nfrom .g import h\nfrom ..i import j\n"
        "def late():\n    import k\n    import_module('l')\n"
    )
    assert imported(path, "p.q") == {"a.b", "c", "d.e", "p.q.f", "p.q.g.h", "p.i.j", "k", "l"}


@by_name
def test_packages_depend_on_blemore_and_never_the_reverse(package, name, path):
    others = {
        "blemore": {"blemore_baselines", "blemore_codabench"},
        "blemore_baselines": {"blemore_codabench"},
        "blemore_codabench": {"blemore_baselines"},
    }[package]
    assert not {target for target in imported(path, home(name, path)) if target.split(".")[0] in others}


@by_name
def test_modules_import_from_their_own_layer_or_lower(package, name, path):
    if package not in LAYERS or name in (package, f"{package}.version"):
        return
    own = layer(package, name)
    assert own is not None, f"{name} has no place in LAYERS: give it one, here and in the documentation"
    for target in imported(path, home(name, path)):
        if target.split(".")[0] != package or target.split(".")[1:2] == ["version"]:
            continue
        target_layer = layer(package, target)
        assert target_layer is not None, f"{name} imports {target} by way of the package's own __init__"
        assert target_layer <= own, f"{name} imports {target}, which is built on top of it"


@by_name
def test_blemore_needs_the_standard_library_and_jsonschema_alone(package, name, path):
    if package != "blemore":
        return
    allowed = {"blemore", "jsonschema", *sys.stdlib_module_names}
    if name in ("blemore.cli", "blemore.rank_cli"):
        allowed.add("click")
    assert {target.split(".")[0] for target in imported(path, home(name, path))} <= allowed


@by_name
def test_only_reports_and_analyses_plot(package, name, path):
    if name not in PLOTTING:
        assert "matplotlib" not in {target.split(".")[0] for target in imported(path, home(name, path))}


def test_no_python_file_imports_a_forbidden_package():
    listing = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.py"],
        capture_output=True,
        text=True,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).exists()]
    assert Path(__file__).resolve() in paths
    imports = {
        str(path.relative_to(ROOT)): bad
        for path in paths
        if (bad := {target.split(".")[0] for target in imported(path, "")} & FORBIDDEN)
    }
    assert not imports


@pytest.mark.parametrize(
    "start",
    [
        "import blemore.cli",
        "import blemore.cli, contextlib\nwith contextlib.suppress(SystemExit): blemore.cli.main(['--help'])",
    ],
    ids=["import", "help"],
)
def test_starting_the_scorer_loads_nothing_heavy(start):
    code = start + "\nimport sys\nprint('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    result = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    names = set(result.stdout.rpartition("LOADED")[2].split())
    assert "blemore" in names
    assert not names & {"numpy", "pandas", "torch", "transformers", "cv2", "av", "matplotlib", "blemore_baselines"}
