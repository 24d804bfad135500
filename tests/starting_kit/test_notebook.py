"""The notebook: clean as committed, and run from top to bottom on the demo and on a folder with the dataset's layout.
Its links are tested in tests/readmes.
"""

import ast
import base64
import hashlib
import os
import re
import runpy
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path

import cv2
import nbformat
import numpy as np
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from blemore.evaluate import read_ids
from blemore.io import csv_text, read_json
from blemore.labels import LABEL_INDEX, LABELS, to_entry
from blemore.report import difference_lines
from blemore.significance import compare
from blemore_baselines.dataset import TARGETS, read_dataset
from blemore_baselines.decoding import decoders
from blemore_baselines.decoding.accounts import scored
from blemore_baselines.decoding.scores import read_models
from blemore_baselines.demo.generator import COLUMNS

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "starting_kit" / "blemore_starting_kit.ipynb"
RENDER = runpy.run_path(str(NOTEBOOK.parent / "render.py"))
PLACEHOLDER = "URL OF THE REPOSITORY"
MAKES_DEMO = [
    "demo/generator.py",
    "demo/score.py",
    "demo/face.py",
    "demo/voice.py",
    "clips/media.py",
    "extract.py",
    "encoders/base.py",
    "encoders/gray_flow.py",
    "encoders/logmel.py",
]


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)


def sources(notebook, kind):
    return {cell.id: cell.source for cell in notebook.cells if cell.cell_type == kind}


def as_python(source):
    return TransformerManager().transform_cell(source)


# ------------------------------------------------------------------------------------------------- as committed


def test_is_committed_without_outputs(notebook):
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 10 and not any(cell.outputs or cell.execution_count or cell.metadata for cell in code)
    assert NOTEBOOK.read_text("utf-8") == nbformat.writes(notebook) + "\n"  # diffs show only real changes


def test_defines_nothing(notebook):
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    for cell, source in sources(notebook, "code").items():
        assert not [node for node in ast.walk(ast.parse(as_python(source))) if isinstance(node, definitions)], cell
        assert max(map(len, source.splitlines())) <= 125, cell  # the width of a page


def test_contains_no_path_of_a_machine(notebook):
    machine = re.compile(r"/home/|/Users/|/root/|/tmp/|/work/|/content/|[A-Z]:\\\\|~/")
    assert not {cell.id for cell in notebook.cells if machine.search(cell.source)}


# ------------------------------------------------------------------------------------------------- the first cell


@pytest.fixture
def first_cell(notebook, tmp_path, monkeypatch):
    """Runs the first cell in a folder where only some packages can be imported; returns its calls of pip."""

    def run(folder, repository=PLACEHOLDER, importable=()):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in importable else None)
        monkeypatch.chdir(folder)
        calls = []

        class Shell:
            def run_line_magic(self, magic, line):
                calls.append((magic, line.format(**names)))

        names = {"get_ipython": Shell}
        exec(
            as_python(sources(notebook, "code")["install"].replace(f'"{PLACEHOLDER}"', repr(repository))),
            names,
        )
        return calls

    return run


@pytest.mark.parametrize("importable", [[], ["blemore_baselines"], ["blemore_baselines", "torch"], ["av", "torch"]])
def test_installs_from_the_checkout(first_cell, importable):
    """The scorer alone is not enough, and neither are the packages that Colab has."""
    assert first_cell(NOTEBOOK.parent, importable=importable) == [("pip", f'install --quiet "{ROOT}[baselines]"')]


def test_installs_nothing_twice(first_cell):
    assert first_cell(NOTEBOOK.parent, importable=["blemore_baselines", "av", "torch"]) == []


def test_installs_from_the_repository_elsewhere(first_cell, tmp_path):
    assert first_cell(tmp_path, "https://example.org/kit.git") == [
        ("pip", 'install --quiet "blemore[baselines] @ git+https://example.org/kit.git"')
    ]
    with pytest.raises(SystemExit, match="set REPOSITORY"):
        first_cell(tmp_path)


def test_the_repository_is_named_once(notebook):
    """Until there is one, by a placeholder that says so."""
    assert sum(source.count(f'REPOSITORY = "{PLACEHOLDER}"') for source in sources(notebook, "code").values()) == 1
    assert not [cell.id for cell in notebook.cells if re.search(r"git(hub|lab)\.", cell.source)]


# --------------------------------------------------------------------------------------------------- as it runs


class Run:
    """The executed notebook's outputs."""

    def __init__(self, notebook, **environment):
        before = sorted(NOTEBOOK.parent.rglob("*"))
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("BLEMORE_")]:
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, str(value))
            start = time.monotonic()
            self.notebook = deepcopy(notebook)
            RENDER["run"](self.notebook)
            print(f"{time.monotonic() - start:.0f} s")
        assert sorted(NOTEBOOK.parent.rglob("*")) == before  # nothing is written next to it
        self.outputs = {cell.id: cell.outputs for cell in self.notebook.cells if cell.cell_type == "code"}

    def text(self, cell, stream="stdout"):
        return "".join(
            output.text for output in self.outputs[cell] if output.output_type == "stream" and output.name == stream
        )

    @property
    def figures(self):
        """(cell, grey picture) of each figure."""
        images = [
            (cell, output.data["image/png"])
            for cell, outputs in self.outputs.items()
            for output in outputs
            if "image/png" in output.get("data", {})
        ]
        return [
            (cell, cv2.imdecode(np.frombuffer(base64.b64decode(png), np.uint8), cv2.IMREAD_GRAYSCALE))
            for cell, png in images
        ]

    def assert_sound(self):
        for cell in self.outputs:
            assert not [output for output in self.outputs[cell] if output.output_type == "error"]
            assert "Warning" not in self.text(cell, "stderr") and "Traceback" not in self.text(cell, "stderr"), cell
        for cell, picture in self.figures:
            assert picture.shape[1] > 800 and picture.std() > 10, cell
            # The margin is white, so nothing is cut off.
            assert min(picture[0].min(), picture[-1].min(), picture[:, 0].min(), picture[:, -1].min()) > 250, cell


@pytest.fixture(scope="module")
def on_demo(request, notebook, tmp_path_factory):
    """(run, its output folder).

    Clips and their features are kept between test sessions, as long as the code that makes them does not change.
    """
    out = tmp_path_factory.mktemp("notebook")
    cache = getattr(request.config, "cache", None)
    if cache:
        key = hashlib.sha256(b"".join((ROOT / "baselines" / name).read_bytes() for name in MAKES_DEMO)).hexdigest()[:12]
        for name in ("data", "features"):
            (out / "demo").mkdir(exist_ok=True)
            (out / "demo" / name).symlink_to(cache.mkdir(f"demo-{key}") / name, target_is_directory=True)
            (out / "demo" / name).resolve().mkdir(exist_ok=True)
    return Run(notebook, BLEMORE_OUT=out), out


def blemore_score_check(submission, ids):
    command = [sys.executable, "-m", "blemore.cli", "--check", submission, "--ids", ids]
    return subprocess.run(command, capture_output=True, text=True)


def test_runs_on_the_demo(on_demo):
    run, out = on_demo
    run.assert_sound()
    assert [cell for cell, _ in run.figures] == ["clips"] * 3 + [
        "labels",
        "folds",
        "features",
        "curves",
        "thresholds",
        "structured",
        "confusion",
    ]
    assert "144 labelled clips of 12 actors" in run.text("data")
    assert "1 of 3 blends" in run.text("metrics") and "These look like fractions" in run.text("invalid")
    assert "36 clips, valid" in run.text("submit") and "of 36 clips" in run.text("score")


def test_follows_the_evidence(on_demo):
    """The decoder with the higher nested score decodes the submission, and the page shows by how much it is better."""
    run, out = on_demo
    dataset = read_dataset(out / "demo/data/train_metadata.csv")
    [folder] = (out / "demo/starting_kit").glob("*-fast")
    models = read_models([folder], dataset.ids)
    decodings = {name: decoders.fit(name, dataset, models) for name in decoders.DECODERS}
    results = {name: scored(dataset, decoded.nested) for name, decoded in decodings.items()}
    best, other = sorted(results, key=lambda name: results[name].counts.score, reverse=True)
    text = run.text("compare")
    for result in results.values():
        assert f"score          {result.counts.score:.4f}   [" in text
    comparison = compare(results[best], results[other])
    assert "\n".join(difference_lines(other, comparison)[1:3]) in text
    sure = "beyond" if comparison.differences["score"].estimate.beyond else "within"
    assert f"{best} has the higher nested score, {sure} chance" in text
    test_ids = read_ids(out / "demo/data/test_metadata.csv")
    labels = decodings[best].apply(read_models([folder], test_ids, test=True)).labels
    submission = read_json(out / "demo/starting_kit/submission.zip").data["predictions"]
    assert submission == {f"{clip}.mov": to_entry(LABELS[label]) for clip, label in zip(test_ids, labels)}
    assert run.text("seeds").count("nested score") == 3 and f"decoded by {best}" in run.text("submit")


def test_sound_can_be_played(on_demo):
    run, _ = on_demo
    players = [output.data["text/html"] for output in run.outputs["clips"] if "text/html" in output.get("data", {})]
    assert len(players) == 3 and all("data:audio/wav;base64," in player for player in players)


def test_ends_in_a_checked_submission(on_demo):
    _, out = on_demo
    result = blemore_score_check(out / "demo/starting_kit/submission.zip", out / "demo/data/test_metadata.csv")
    assert result.returncode == 0, result.stderr


def test_becomes_a_page_that_loads_nothing(on_demo):
    run, _ = on_demo
    page = RENDER["page"](deepcopy(run.notebook))
    assert (
        page.count("<img") == len(run.figures)
        and "No description" not in page
        and 'alt="Clips by actor, in five folds"' in page
    )
    assert not re.findall(r"""<script|<link|(?:src|href)=["']?https?://(?!www\.codabench\.org)""", page)
    assert "clip/s]" not in page  # progress


@pytest.fixture
def dataset(tmp_path):
    """Makes a folder with the dataset's layout, with generated features of 10 actors and no videos."""
    rng = np.random.default_rng(3)

    def make(*parts):
        folder = tmp_path / "BLEMORE data"
        folder.mkdir()
        takes = {f"A{100 + actor}_{kind(label)}_ver1": (actor, label) for actor in range(10) for label in LABELS}
        labels = {
            "train": {clip: label for clip, (_, label) in takes.items()},
            "test": {f"test_{k:04}": LABELS[3 * k - 1] for k in range(1, 13)},
        }
        rows = [row(clip, actor, label) for clip, (actor, label) in takes.items()]
        (folder / "train_metadata.csv").write_text(csv_text([COLUMNS, *rows]))
        names = [[f"{clip}.mov"] for clip in labels["test"]]
        (folder / "test_metadata.csv").write_text(csv_text([["filename"], *names]))
        for encoder, dim in (("ImageBind", 6), ("WavLM_large", 4), ("HiCMAE", 3)):
            mixing = rng.normal(size=(6, dim))
            for part in parts:
                place = folder / "pre" / f"pre_extracted_{part}_data" / f"{encoder}_{part}"
                place.mkdir(parents=True)
                for clip, label in labels[part].items():
                    frames = TARGETS[LABEL_INDEX[label]] @ mixing + rng.normal(scale=0.5, size=(5, dim))
                    np.save(place / f"{clip}.npy", frames.astype(np.float32))
        return folder

    return make


def kind(label):
    """A label as it is spelt in the names of clips."""
    if label.is_blend:
        return "_".join(map(str, ("mix", *label.emotions, *label.saliences)))
    return "neu_sit1" if label.emotions == ("neu",) else f"{label.emotions[0]}_int1"


def row(clip, actor, label):
    """A clip's row of the train metadata."""
    emotions, saliences = (*label.emotions, "")[:2], label.saliences if label.is_blend else ("", "")
    return clip, f"A{100 + actor}", int(label.is_blend), *emotions, *saliences, 1, "", "", actor % 5


def test_runs_on_the_dataset(notebook, dataset, tmp_path, long):
    if not long:
        pytest.skip("the notebook again, with existing features: --long")
    folder = dataset("train", "test")
    run = Run(notebook, BLEMORE_OUT=tmp_path / "out", BLEMORE_DATA=folder)
    run.assert_sound()
    assert "No video of hap" in run.text("clips")
    assert "ImageBind: 42 numbers for each of 360 clips\nWavLM_large: 28 numbers" in run.text("features")
    assert "12 clips, valid" in run.text("submit") and not run.outputs["score"]
    result = blemore_score_check(tmp_path / "out/real/starting_kit/submission.zip", folder / "test_metadata.csv")
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "out" / "demo").exists()


def test_says_what_a_submission_lacks(notebook, dataset, tmp_path, long):
    if not long:
        pytest.skip("the notebook again, without features of the test clips: --long")
    run = Run(notebook, BLEMORE_OUT=tmp_path / "out", BLEMORE_DATA=dataset("train"))
    run.assert_sound()
    assert "No submission" in run.text("submit") and not list(tmp_path.rglob("*.zip"))


# ---------------------------------------------------------------------------------------------------- render.py


def test_reports_a_failed_cell_without_a_traceback(tmp_path):
    page = tmp_path / "page.html"
    result = subprocess.run(
        [sys.executable, NOTEBOOK.parent / "render.py", page],
        capture_output=True,
        text=True,
        env={**os.environ, "BLEMORE_DATA": str(tmp_path / "nowhere"), "BLEMORE_OUT": str(tmp_path)},
    )
    assert result.returncode == 1 and not page.exists()
    assert f"{NOTEBOOK.name}, code cell 2: FileError: {tmp_path / 'nowhere'}: no such folder\n" in result.stderr
    assert "Traceback" not in result.stderr + result.stdout and "----" not in result.stderr


@pytest.mark.parametrize("package", ["ipykernel", "nbclient", "nbconvert", "nbformat"])
def test_names_the_extra_that_it_needs(monkeypatch, package):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        SystemExit, match=rf"^render.py needs {package}, which is not installed: pip install '\.\[notebook\]'$"
    ):
        runpy.run_path(str(NOTEBOOK.parent / "render.py"))
