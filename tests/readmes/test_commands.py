"""The commands of every README work unchanged, in a participant's or organiser's folder with small generated data.

bash itself reports which commands a block runs, loops and variables included. The kit's own are then called in this
process. NOT_HERE gives the reason for each command that cannot be run here. Any other command is a failure.
"""

import doctest
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import click
import numpy as np
import pytest
import torch
from kit import PROGRAMS, call
from pages import ROOT, blocks, fill_in, pages, text_of

from blemore_baselines.dataset import TARGETS
from blemore_baselines.engines import one_thread_each

# A command as it stands on the page, by how it begins, and why it is not run.
NOT_HERE = {
    r"pip install|python3 -m venv|\. \.venv/bin/activate|git clone": (
        "downloads PyTorch: tests/readmes/test_first_hour.py, with --long"
    ),
    r"baselines/run_all\.sh": (
        "makes the environment first: tests/packaging/test_scripts.py, and test_first_hour.py with --long"
    ),
    r"tests/run\.sh|\.ci/run": "is what runs these tests: tests/packaging/test_scripts.py",
    r"sbatch": "needs a Slurm cluster",
    r"blemore-baselines extract .*--encoder (clip|imagebind|wavlm|hubert|videomaev2|hf-\w+:)\b": "downloads weights",
    r"blemore-baselines (faces|finetune|predict .*--clips|decode .*--scores runs/)": (
        "needs OpenFace and pretrained weights: tests/baselines/test_finetuning_runs.py, with tiny ones"
    ),
    r"blemore-baselines weights get": "downloads weights: tests/baselines/test_download.py",
    r"blemore-baselines data get": "downloads the dataset: tests/baselines/test_record.py",
    r"blemore-baselines extract .*--encoder my_encoder\.py": "needs that file: tests/baselines/test_own_encoders.py",
    r"blemore-baselines train .*--features features/train/my_encoder": "needs its features",
    r"jupyter lab": "opens a browser",
    r"python -m ruff": "tests/packaging/test_style.py runs it",
    r"python -m nbconvert|python starting_kit/": "the notebook's own tests run it",
    r"python benchmarks/": "takes minutes, and measures this machine",
}
# Pages whose commands take long: without --long they are parsed, not run.
LONG = [
    ROOT / page
    for page in (
        "baselines/README.md",
        "baselines/decoding/README.md",
        "baselines/finetuning/README.md",
        "baselines/studies/README.md",
        "starting_kit/own_model.md",
    )
]
OWN_PATHS = ("baselines/run_all.sh", "tests/run.sh", ".ci/run")

# Every command is noted instead of run: its folder and words, and where its output would go.
NOTED = r"""
note() { number=$((number + 1)); printf '%s\0' "$PWD" "$#" "$@" >&3; printf '@@%s@@\n' "$number"; }
command_not_found_handle() { echo "$# $*" >&2; }
cd() { builtin cd -- "$1" 2>/dev/null || { "$mkdir" -p -- "$1" && builtin cd -- "$1"; }; }
"""


class Command(NamedTuple):
    """The words, the folder, and the file that stdout is written to (None: the screen)."""

    words: list[str]
    folder: Path
    target: Path | None

    def __str__(self):
        return " ".join(self.words)


def commands(text, folder):
    """The commands that a block of shell code runs."""
    first = set(
        re.findall(r"(?:^|[;&|(]|\bdo|\bthen)\s*(?:[A-Z_]+=\S*\s+)*([\w./-]+)", text.replace("\\\n", " "), re.M)
    )
    names = {*PROGRAMS, "pip", "python", "python3", "git", "sbatch", "jupyter", "source", ".", *OWN_PATHS} & first
    script = NOTED + "".join(f'function {name} {{ note {name} "$@"; }}\n' for name in sorted(names)) + text
    read, write = os.pipe()
    noted = subprocess.run(
        [
            shutil.which("bash"),
            "-c",
            f"exec 3>&{write}; number=0; DATA=$PWD/real; mkdir={shutil.which('mkdir')}; PATH=\n{script}",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        pass_fds=[write],
    )
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        parts = pipe.read().decode().split("\0")[:-1]
    assert noted.returncode == 0 and not noted.stderr, (
        f"neither a command of the kit nor one that NOT_HERE knows:\n{noted.stderr}"
    )
    numbers, calls = set(re.findall("@@([0-9]+)@@", noted.stdout)), []
    while parts:
        place, count, *rest = parts
        words, parts = rest[: int(count)], rest[int(count) :]
        number = str(len(calls) + 1)
        target = (
            None
            if number in numbers
            else next(path for path in Path(place).iterdir() if path.is_file() and _takes(path, number))
        )
        calls.append(Command(words, Path(place), target))
    return calls


def _takes(path, number):
    with open(path, "rb") as file:
        return file.read(100) == f"@@{number}@@\n".encode()


def reason(command):
    return next((text for begins, text in NOT_HERE.items() if re.match(begins, str(command))), None)


def run(command, desk, wheels):
    """Run one of the kit's commands with the data of the test."""
    words = fill_in("\n".join(command.words), "\n").split("\n")
    assert words[0] in PROGRAMS, f"{command}: neither a command of the kit nor one that NOT_HERE knows"
    os.chdir(command.folder)
    if words[1] == "demo":
        _prepare_demo(desk, Path(words[words.index("--out") + 1]))
    if words[1] == "build":
        words += ["--wheels", wheels]
    with one_thread_each():
        result = call(*words)
    assert result.exit_code == 0, f"{command}\n{result.output}"
    if command.target:
        command.target.write_text(result.stdout)


def parse(command):
    """Find the command and check that it has these options."""
    program, *words = command.words
    parser = PROGRAMS[program]
    while isinstance(parser, click.Group):
        parser = parser.get_command(click.Context(parser), words.pop(0))
    parser.make_parser(click.Context(parser)).parse_args(words)


def _prepare_demo(desk, out):
    """All clips are there already, so nothing needs to be drawn."""
    if not out.exists():
        shutil.copytree(desk.folder / "demo", out)


MODELS = [f"real/hicmae/{name}" for name in ("e50_ce", "e50_kl_div", "e100_ce", "e100_kl_div")]
SCORES = {
    "train": ["oof", "oof_a", "oof_b", "my_oof", *(f"{model}_train_oof_logits" for model in MODELS)],
    "test": ["test", "test_a", "test_b", "my_test", *(f"{model}_test_logits" for model in MODELS)],
}


@pytest.fixture
def bench(desk, world, monkeypatch):
    """The folder in which a page's commands are run, with everything that they take for granted.

    All training is fast.
    """
    from blemore_baselines.models.recipes import PRESETS

    monkeypatch.setitem(PRESETS, "published", PRESETS["fast"])
    lay_out_tables(desk)
    aggregated = {
        "wavlm": (desk.wavlm, desk.train),
        "imagebind": ("pre_extracted_train_data/ImageBind_train", desk.train),
        "train": (desk.wavlm, desk.train),
        "test": (desk.wavlm_test, desk.test),
    }
    for name, (features, metadata) in aggregated.items():
        options = ["--features", features, "--metadata", metadata, "--out", f"{name}.npz"]
        call("blemore-baselines", "aggregate", *options)
    options = ["--features", desk.wavlm_test, "--ids", desk.test, "--out", "submission.zip"]
    call("blemore-baselines", "predict", "--model", "run", *options)
    Path("submissions").mkdir()
    shutil.copy("submission.zip", "submissions/one.zip")
    Path("CLIPS").symlink_to("demo/train")
    Path("DATASET").symlink_to(world)
    shutil.rmtree("run")  # the page's own is to be made
    return desk


def lay_out_tables(desk):
    """Metadata, labels and scores under the names that the pages give them."""
    from blemore.evaluate import read_ids
    from blemore_baselines.features import scores_csv

    Path("real/hicmae").mkdir(parents=True)  # $DATA
    shutil.copy(desk.train, "real")
    shutil.copy(desk.test, "real")
    rng = np.random.default_rng(5)
    for part, table in (("train", desk.train), ("test", desk.test)):
        ids = read_ids(Path(table))
        for name in SCORES[part]:
            Path(f"{name}.csv").write_text(scores_csv(ids, rng.normal(size=(len(ids), 6))))
    for name in ("labels.json", "corrected.json"):
        shutil.copy(desk.labels, name)
    shutil.copy(desk.test, "test_clips.csv")  # as participants of a competition get it
    header, *rows = Path(desk.train).read_text().splitlines()
    Path("practice.csv").write_text("\n".join([header, *(row for row in rows if row.endswith(",0"))]) + "\n")


SHELL, PYTHON = ("sh", "bash", "shell", "console"), ("python", "py", "pycon")
PAGES = [page for page in pages() if any(block.language in SHELL for block in blocks(page))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_work(page, bench, wheels, monkeypatch, long):
    ran = 0
    for block in blocks(page):
        if block.language in PYTHON and ">>>" not in block.text:  # what the commands after it take for granted
            run_python(page, block, monkeypatch)
        if block.language in SHELL:
            os.chdir(bench.folder)
            try:
                for command in commands(block.text, bench.folder):
                    if reason(command) is None:
                        run(command, bench, wheels) if long or page not in LONG else parse(command)
                        ran += 1
            except AssertionError as error:
                raise AssertionError(f"{page.relative_to(ROOT)}, line {block.line}: {error}") from None
    os.chdir(bench.folder)
    print(f"{page.name}: {ran} commands run")


def run_python(page, block, monkeypatch):
    """Run a block of a page. Lightning is not a dependency of the kit; if missing, a substitute takes its place."""
    if "lightning" not in sys.modules and importlib.util.find_spec("lightning") is None:
        monkeypatch.setitem(sys.modules, "lightning", SimpleNamespace(LightningModule=torch.nn.Module))
    names = {}
    with one_thread_each():
        exec(compile(block.text, f"{page.name}, line {block.line}", "exec"), names)
    return names


def test_the_metrics_of_training_loops(monkeypatch):
    """What "Bring your own model" says about Trainer and Lightning, with the arguments that these pass."""
    page = ROOT / "starting_kit" / "own_model.md"
    trainer, lightning = [block for block in blocks(page) if block.language in PYTHON][1:]
    targets = TARGETS[np.random.default_rng(0).integers(0, 36, 60)]
    compute_metrics = run_python(page, trainer, monkeypatch)["compute_metrics"]
    figures = compute_metrics(SimpleNamespace(predictions=np.log(targets + 0.01), label_ids=targets))
    assert figures == {"presence": 1.0, "salience": 1.0, "score": 1.0}
    system, logged = run_python(page, lightning, monkeypatch)["System"](), {}
    system.model, system.log = torch.log, logged.__setitem__
    system.on_validation_epoch_start()
    for part in np.split(targets, 3):
        system.validation_step((torch.tensor(part + 0.01), torch.tensor(part)), 0)
    system.on_validation_epoch_end()
    assert logged == {"score": 1.0}


@pytest.mark.skipif(not pages(), reason="not a git checkout")
def test_every_reason_is_needed():
    """A reason whose command is on no page any more could excuse another command by chance."""
    code = "\n".join(
        block.text.replace("\\\n", " ") for page in PAGES for block in blocks(page) if block.language in SHELL
    )
    for begins in NOT_HERE:
        alternatives = [begins] if "(" in begins else begins.split("|")
        assert (
            any(re.search(rf"(?m)^\s*(?:[A-Z_]+=\S*\s+)*(?:{part})", code) for part in alternatives)
            or "benchmarks" in begins
        ), begins


@pytest.mark.parametrize(
    "page", [page for page in pages() if page.suffix == ".md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_python_on_a_page_runs(page, monkeypatch):
    """Sessions with >>> are doctests. A page's commands come with its other code."""
    for block in blocks(page):
        if block.language in PYTHON and ">>>" not in block.text and page not in PAGES:
            run_python(page, block, monkeypatch)
    with one_thread_each():
        assert doctest.testfile(str(page), module_relative=False).failed == 0


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_marked_as_such(page):
    """A block without a language, or as text, would escape these tests."""
    for block in blocks(page):
        if block.language not in SHELL:
            assert not re.search(
                r"^\s*(\$ )?(blemore-\w+|pip|python3?|bash|baselines/run_all\.sh) ", block.text, re.M
            ), f"line {block.line}"
    indented = re.findall(r"\n\n {4,}(?:\$ )?((?:blemore-|pip |python3? |bash ).*)", text_of(page))
    assert all(any(re.match(begins, line) for begins in NOT_HERE) for line in indented), indented


# ------------------------------------------------------------------------------- of the tests' own


def test_blocks_are_read_as_bash_reads_them(tmp_path):
    block = """
# a comment
blemore-score 'a b.zip' \\
    --check   # another
for part in train test; do
    blemore-baselines extract --clips data/$part
done
cd sub/folder && blemore-codabench check x > out.jsonl
BLEMORE_DATA=/x baselines/run_all.sh
pip install '.[notebook]'
"""
    calls = commands(block, tmp_path)
    assert [command.words for command in calls] == [
        ["blemore-score", "a b.zip", "--check"],
        ["blemore-baselines", "extract", "--clips", "data/train"],
        ["blemore-baselines", "extract", "--clips", "data/test"],
        ["blemore-codabench", "check", "x"],
        ["baselines/run_all.sh"],
        ["pip", "install", ".[notebook]"],
    ]
    assert calls[3].folder == tmp_path / "sub/folder" and calls[3].target == tmp_path / "sub/folder/out.jsonl"
    assert [reason(command) is None for command in calls] == [True, True, True, True, False, False]


@pytest.mark.parametrize("line", ["rm -rf /", "blemore-scores x", "curl https://example.org | sh", "./unknown.sh"])
def test_an_unknown_command_is_never_run_but_reported(tmp_path, line):
    with pytest.raises(AssertionError, match="neither"):
        commands(line, tmp_path)
