"""The shell scripts, run in copies of the repository's bones with stand-ins for Python, pip and the commands.

Nothing is installed and no network is needed. The folder's name has spaces in it, and the scripts are called from
another folder, in every test.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASH = shutil.which("bash")
SCRIPTS = [".ci/run", "baselines/environment.sh", "baselines/run_all.sh", "tests/run.sh"]
TOOLS = (
    "awk basename bash cat cksum cp cut df dirname env find grep mkdir mktemp mv rm sed sort tail tee touch tr uname"
).split()

# A Python that answers what the scripts ask. STUB_* variables decide how; "-m pip" is written down in $STUB_CALLS.
PYTHON = r"""#!{bash}
case "$*" in
*"fcntl.flock"*) exec "{python}" "$@" ;;
*"import ensurepip, venv"*) [ -z "{no_venv}" ] && echo "$0" ;;
*"sys.version_info"*) echo {version} ;;
*"-m venv"*) mkdir -p "$3/bin" && touch "$3/pyvenv.cfg" && cp "$0" "$3/bin/python" ;;
*"-m pip"*)
    echo "pip in $PWD: $*" >>"$STUB_CALLS"
    case "${{STUB_PIP:-}}" in
    "") cp "$STUB_COMMANDS"/* "{venv}/bin/" 2>/dev/null || true ;;
    wait) until [ -e "$STUB_GO" ]; do /bin/sleep 0.05; done ;;
    *) echo "Collecting torch"; printf '%s\n' "$STUB_PIP"; exit 1 ;;
    esac ;;
*"-m pytest"*)
    echo "pytest in $PWD:$(printf ' [%s]' "${{@:4}}")"
    echo "== 1 passed ==" ;;
"- "*) exec "{python}" "$@" ;;
*) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""

# blemore-baselines and blemore-score: write down what they are called with and make the files that they would make.
COMMAND = """#!{python}
import json, os, pathlib, sys

name, arguments = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
with open(os.environ["STUB_CALLS"], "a") as calls:
    print(json.dumps([name, *arguments]), file=calls)
if os.environ.get("STUB_FAIL") in arguments:
    sys.exit("error: the disk of " + arguments[0] + " is on fire")
def option(flag):
    return pathlib.Path(arguments[arguments.index(flag) + 1])
names = ("acc_presence", "acc_salience", "score")
def make(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({{"nested": {{**dict.fromkeys(names, 0.25), "over_folds": dict.fromkeys(names, {{"mean": 0.5, "std": 0.125}})}}}}))
if name == "blemore-score":
    print("a table with the score 0.279" if "--check" not in arguments else "valid")
elif arguments[0] == "demo":
    make(*(option("--out") / f for f in ("train/a.mov", "test/b.mov", "train_metadata.csv", "test_metadata.csv", "test_labels.json")))
elif arguments[0] == "extract":
    make(*(option("--out") / option("--encoder") / f for f in ("a.npy", "meta.json", "failures.csv")))
elif arguments[0] in ("aggregate", "predict"):
    make(option("--out"))
elif arguments[0] == "train":
    make(option("--out") / "metrics.json")
elif arguments[0] == "report":
    make(pathlib.Path(arguments[1]) / "report.html")
elif arguments[0] == "trivial":
    print("the trivial figures")
"""


class Kit:
    """A copy of what the scripts need, and a PATH that holds only stand-ins and plain tools."""

    def __init__(self, folder: Path):
        self.root = folder / "a kit with spaces"
        for name in [*SCRIPTS, "setup.cfg", "pyproject.toml", "constraints.txt"]:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)
        self.venv = self.root / ".venv"
        self.bin, self.commands, self.elsewhere = folder / "bin", folder / "commands", folder / "elsewhere"
        for path in (self.bin, self.commands, self.elsewhere):
            path.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        for name in ("blemore-baselines", "blemore-score"):
            self.write(self.commands / name, COMMAND.format(python=sys.executable))
        self.log, self.go = folder / "calls", folder / "go"
        self.environment = {
            "PATH": str(self.bin),
            "STUB_CALLS": str(self.log),
            "STUB_COMMANDS": str(self.commands),
            "STUB_GO": str(self.go),
            "HOME": str(folder),
        }

    @staticmethod
    def write(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def python(self, name="python3", version="3.12", no_venv="") -> Path:
        self.write(
            self.bin / name,
            PYTHON.format(bash=BASH, python=sys.executable, version=version, no_venv=no_venv, venv=self.venv),
        )
        return self.bin / name

    def start(self, script, *arguments, **environment):
        return subprocess.Popen(
            [BASH, self.root / script, *arguments],
            cwd=self.elsewhere,
            text=True,
            start_new_session=True,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, script, *arguments, **environment):
        process = self.start(script, *arguments, **environment)
        process.out, process.err = process.communicate(timeout=60)
        assert "Traceback" not in process.out + process.err
        assert not list(self.elsewhere.iterdir())
        return process

    def calls(self) -> list[str]:
        """What was called since the last time this was asked, with this kit's folder written as ROOT."""
        lines = self.log.read_text().replace(str(self.root), "ROOT").splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [" ".join(json.loads(line)) if line.startswith("[") else line for line in lines]


@pytest.fixture
def kit(tmp_path):
    return Kit(tmp_path)


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


# ------------------------------------------------------------------------------------------------------ the files


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_is_sound_bash(script):
    subprocess.run([BASH, "-n", ROOT / script], check=True)
    text = (ROOT / script).read_text()
    newer_than_macos = (
        r"declare -[An]|local -[An]|\breadlink -f|\bmapfile\b|\breadarray\b|\|&|&>>|\$\{\w+(\^|,,)|\bwait"
        r" -n|BASHPID|\$EPOCH"
    )
    assert not re.search(newer_than_macos, text)


def test_scripts_are_executable_in_git():
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-s", ".ci/run", "baselines/run_all.sh", "tests/run.sh"],
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["100755"] * 3


def test_scripts_support_the_versions_of_setup_cfg():
    low, high = re.search(r"python_requires = >=3\.(\d+),<3\.(\d+)", (ROOT / "setup.cfg").read_text()).groups()
    versions = [f"3.{minor}" for minor in range(8, 20)]
    code = (
        f'source "{ROOT}/baselines/environment.sh"; for v in {" ".join(versions)}; do supported $v && echo $v; done;'
        " true"
    )
    said = subprocess.run([BASH, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == [f"3.{minor}" for minor in range(int(low), int(high))]


# ------------------------------------------------------------------------------------------- finding and making .venv


def test_first_run_installs_and_the_second_does_not(kit):
    kit.python()
    first = kit.run("tests/run.sh", "-k", "two words", "--long")
    assert first.returncode == 0, first.err
    assert first.out.splitlines() == [f"pytest in {kit.root}: [-k] [two words] [--long]", "== 1 passed =="]
    assert "PyTorch is a large download" in first.err
    (call,) = kit.calls()
    assert call.startswith("pip in ROOT: ") and "-c constraints.txt -e .[test]" in call

    second = kit.run("tests/run.sh")
    assert (second.returncode, second.err, kit.calls()) == (0, "", [])


def test_ci_runs_the_long_suite(kit):
    kit.python()
    calls = [line for line in kit.run(".ci/run").out.splitlines() if line.startswith("pytest")]
    assert calls == [
        f"pytest in {kit.root}: {arguments}"
        for arguments in ("[--version]", "[--long] [--ignore=tests/baselines]", "[--long] [tests/baselines]")
    ]


@pytest.mark.parametrize("half", ["--long tests/baselines", "--long --ignore=tests/baselines"])
def test_ci_fails_where_either_half_fails(kit, half):
    kit.python()
    kit.run("tests/run.sh")
    python = (kit.venv / "bin/python").read_text()
    kit.write(
        kit.venv / "bin/python",
        python.replace('echo "== 1 passed =="', f'case "$*" in *"{half}") exit 5 ;; esac; echo "== 1 passed =="'),
    )
    run = kit.run(".ci/run")
    assert run.returncode == 5 and run.out.count("== 1 passed ==") == 2, "the other half runs to its end"


def test_exit_status_is_that_of_pytest(kit):
    kit.python()
    kit.run("tests/run.sh")
    kit.write(kit.venv / "bin/python", (kit.venv / "bin/python").read_text().replace('echo "== 1 passed =="', "exit 5"))
    assert kit.run("tests/run.sh").returncode == 5
    assert kit.run(".ci/run").returncode == 5


@pytest.mark.parametrize("changed", ["setup.cfg", "pyproject.toml", "constraints.txt"])
def test_a_changed_file_installs_again(kit, changed):
    kit.python()
    kit.run("tests/run.sh")
    kit.calls()
    with open(kit.root / changed, "a") as file:
        file.write("# changed\n")
    assert "up to date" in kit.run("tests/run.sh").err
    assert len(kit.calls()) == 1


def test_extras_are_added_once_and_kept(kit):
    kit.python()
    kit.run("baselines/run_all.sh")
    assert [call for call in kit.calls() if call.startswith("pip")][0].endswith("-e .")
    kit.run("tests/run.sh")
    assert kit.calls()[0].endswith("-e .[test]")
    kit.run("baselines/run_all.sh")
    kit.run("tests/run.sh")
    assert not [call for call in kit.calls() if call.startswith("pip")]
    with open(kit.root / "setup.cfg", "a") as file:
        file.write("# changed\n")
    kit.run("baselines/run_all.sh")
    assert [call for call in kit.calls() if call.startswith("pip")][0].endswith("-e .[test]")


def test_a_moved_folder_installs_again(kit):
    kit.python()
    kit.run("tests/run.sh")
    kit.calls()
    kit.root = kit.root.rename(kit.root.with_name("moved"))
    assert kit.run("tests/run.sh").returncode == 0
    assert len(kit.calls()) == 1


def test_an_old_python_alone_is_named(kit):
    kit.python("python3", version="3.8")
    result = kit.run("tests/run.sh")
    assert result.returncode == 1 and not result.out
    assert "No Python from 3.11 to 3.13 was found (python3 is 3.8" in result.err
    assert "PYTHON=/path/to/python3.12" in result.err


def test_no_python_at_all(kit):
    result = kit.run("baselines/run_all.sh")
    assert result.returncode == 1 and "no Python at all" in result.err


def test_the_first_fit_python_is_taken(kit):
    kit.python("python3", version="3.9")
    kit.write(kit.bin / "python3.13", f"#!{BASH}\necho 'not installed' >&2; exit 127\n")  # a version manager's stand-in
    kit.python("python3.12", version="3.12", no_venv="yes")
    fit = kit.python("python3.11", version="3.11")
    assert f"with {fit}" in kit.run("tests/run.sh").err


def test_the_python_that_is_asked_for_is_taken(kit):
    kit.python("python3")
    asked = kit.python("my own python", version="3.13")
    assert f"with {asked}" in kit.run("tests/run.sh", PYTHON=str(asked)).err


def test_a_python_without_venv(kit):
    kit.python(version="3.11", no_venv="yes")
    result = kit.run("tests/run.sh")
    assert result.returncode == 1
    assert "venv module is not" in result.err and "apt install python3.11-venv" in result.err


@pytest.mark.parametrize(
    ("said", "explained"),
    [
        (
            (
                "WARNING: Retrying (Retry(total=4)) after connection broken by NewConnectionError: Temporary failure in"
                " name resolution"
            ),
            "is there a network",
        ),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "The disk is full"),
        ("ERROR: No matching distribution found for torch==2.13.0", "no build for Python 3.12"),
        ("ERROR: something else", "The last lines of what pip says"),
    ],
)
def test_a_failing_pip_is_explained_and_can_be_run_again(kit, said, explained):
    kit.python()
    result = kit.run("tests/run.sh", STUB_PIP=said)
    assert result.returncode == 1 and not result.out
    assert said in result.err and explained in result.err
    assert f"The full log is {kit.venv}/install.log" in result.err
    assert said in (kit.venv / "install.log").read_text()
    assert not (kit.venv / "stamp").exists()
    assert kit.run("tests/run.sh").returncode == 0
    assert len(kit.calls()) == 2


def test_a_failing_update_takes_the_stamp_away(kit):
    kit.python()
    kit.run("tests/run.sh")
    settings = (kit.root / "setup.cfg").read_text()
    (kit.root / "setup.cfg").write_text(settings + "# changed\n")
    assert kit.run("tests/run.sh", STUB_PIP="ERROR: no").returncode == 1
    (kit.root / "setup.cfg").write_text(settings)
    kit.calls()
    kit.run("tests/run.sh")
    assert len(kit.calls()) == 1


@pytest.mark.parametrize("broken", ["gone", "old", "without pip"])
def test_a_broken_venv_is_made_anew(kit, broken):
    kit.python()
    kit.run("tests/run.sh")
    python = kit.venv / "bin/python"
    if broken == "gone":
        python.unlink()
        python.symlink_to("/no/such/python")
    elif broken == "old":
        python.write_text(python.read_text().replace("echo 3.12", "echo 3.9"))
    else:
        python.write_text(python.read_text().replace('case "$*" in', 'case "$*" in\n*"import pip"*) exit 1 ;;', 1))
    (kit.venv / "left_over").touch()
    result = kit.run("tests/run.sh")
    assert result.returncode == 0 and f"Making {kit.venv} anew" in result.err
    assert not (kit.venv / "left_over").exists()


def test_a_killed_install_can_be_run_again(kit):
    kit.python()
    process = kit.start("tests/run.sh", STUB_PIP="wait")
    until(kit.log.exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (kit.venv / "stamp").exists()
    result = kit.run("tests/run.sh")
    assert result.returncode == 0 and "cut short" in result.err and "waiting" not in result.err
    assert len(kit.calls()) == 2


@pytest.mark.parametrize("first_is_killed", [False, True])
def test_two_runs_never_install_at_once(kit, first_is_killed):
    """Not even where the first script was killed: its installation works on alone, and the second run takes it over."""
    kit.python()
    first = kit.start("tests/run.sh", STUB_PIP="wait")
    until(kit.log.exists)
    if first_is_killed:
        first.kill()
    second = kit.start("tests/run.sh")
    line = second.stderr.readline()
    assert f"Another run (process {first.pid}) is installing" in line
    time.sleep(0.2)
    assert len(kit.calls()) == 1 and second.poll() is None
    kit.go.touch()
    assert second.communicate(timeout=20)[0].endswith("== 1 passed ==\n")
    assert first_is_killed or first.communicate(timeout=20)[0].endswith("== 1 passed ==\n")
    assert kit.calls() == []


def test_a_place_that_cannot_be_written_to(kit):
    kit.python()
    kit.venv.write_text("a file stands where the folder is wanted")
    result = kit.run("tests/run.sh")
    assert result.returncode == 1 and f"{kit.venv} cannot be made or written to" in result.err


# -------------------------------------------------------------------------------------------------------- step


def step(folder: Path, *arguments: str, before: str = "") -> subprocess.CompletedProcess:
    """Sources run_all.sh, which must not run by that, and calls step."""
    code = 'source "$1/environment.sh"; source "$1/run_all.sh"; out=$2; cd "$2"; shift 2; step "$@"'
    return subprocess.run(
        [BASH, "-c", code, "bash", ROOT / "baselines", folder, "Do it", *arguments], capture_output=True, text=True
    )


def test_step_runs_once(tmp_path):
    (tmp_path / "input").touch()
    arguments = [
        f"{tmp_path}/sub/out put",
        f"{tmp_path}/input",
        f"{tmp_path}/absent",
        "--",
        "touch",
        f"{tmp_path}/sub/out put",
    ]
    assert step(tmp_path, *arguments).stderr == "[1] Do it\n"
    assert step(tmp_path, *arguments).stderr == "[1] Do it: done already\n"


@pytest.mark.parametrize("change", ["input touched", "output gone", "another command", "input appears"])
def test_step_runs_again_when_something_changed(tmp_path, change):
    first, late, output = tmp_path / "first", tmp_path / "late", tmp_path / "output"
    first.touch()
    arguments = [str(output), str(first), str(late), "--", "touch", str(output)]
    step(tmp_path, *arguments)
    future = time.time() + 60
    if change == "input touched":
        os.utime(first, (future, future))
    elif change == "output gone":
        output.unlink()
    elif change == "another command":
        arguments += [str(tmp_path / "other")]
    else:
        late.touch()
        os.utime(late, (future, future))
    assert step(tmp_path, *arguments).stderr == "[1] Do it\n"


def test_step_never_takes_a_half_written_file_for_a_result(tmp_path):
    output = f"{tmp_path}/output"
    result = step(tmp_path, output, "--", "bash", "-c", f"echo half >{output}; echo the cause >&2; exit 3")
    assert result.returncode == 1
    assert (
        "the cause" in result.stderr
        and "Step 1 (Do it) failed" in result.stderr
        and "start this script again" in result.stderr
    )
    assert step(tmp_path, output, "--", "touch", output).stderr == "[1] Do it\n"


def test_step_forgets_a_result_while_it_is_made_anew(tmp_path):
    output = f"{tmp_path}/output"
    step(tmp_path, output, "--", "touch", output)
    step(tmp_path, output, "--", "false")
    assert step(tmp_path, output, "--", "touch", output).stderr == "[1] Do it\n"


# ------------------------------------------------------------------------------------------------- the whole path


def commands(kit, base="ROOT/output") -> list[str]:
    return [call.replace(base, "OUT") for call in kit.calls() if not call.startswith("pip")]


DEMO = """\
blemore-baselines demo --out OUT/demo/data
blemore-baselines extract --encoder gray_flow --metadata OUT/demo/data/train_metadata.csv --clips OUT/demo/data/train --out OUT/demo/features/train
blemore-baselines aggregate --features OUT/demo/features/train/gray_flow --metadata OUT/demo/data/train_metadata.csv --out OUT/demo/features/train/gray_flow.npz
blemore-baselines extract --encoder gray_flow --metadata OUT/demo/data/test_metadata.csv --clips OUT/demo/data/test --out OUT/demo/features/test
blemore-baselines aggregate --features OUT/demo/features/test/gray_flow --metadata OUT/demo/data/test_metadata.csv --out OUT/demo/features/test/gray_flow.npz
blemore-baselines extract --encoder logmel --metadata OUT/demo/data/train_metadata.csv --clips OUT/demo/data/train --out OUT/demo/features/train
blemore-baselines aggregate --features OUT/demo/features/train/logmel --metadata OUT/demo/data/train_metadata.csv --out OUT/demo/features/train/logmel.npz
blemore-baselines extract --encoder logmel --metadata OUT/demo/data/test_metadata.csv --clips OUT/demo/data/test --out OUT/demo/features/test
blemore-baselines aggregate --features OUT/demo/features/test/logmel --metadata OUT/demo/data/test_metadata.csv --out OUT/demo/features/test/logmel.npz
blemore-baselines train --metadata OUT/demo/data/train_metadata.csv --features OUT/demo/features/train/gray_flow.npz --features OUT/demo/features/train/logmel.npz --method aggregate --head mlp512 --preset published --out OUT/demo/run-gray_flow+logmel
blemore-baselines trivial --metadata OUT/demo/data/train_metadata.csv --fit scored
blemore-baselines predict --model OUT/demo/run-gray_flow+logmel --features OUT/demo/features/test/gray_flow.npz --features OUT/demo/features/test/logmel.npz --ids OUT/demo/data/test_metadata.csv --out OUT/demo/run-gray_flow+logmel/submission.zip
blemore-score --check OUT/demo/run-gray_flow+logmel/submission.zip --ids OUT/demo/data/test_metadata.csv
blemore-score OUT/demo/run-gray_flow+logmel/submission.zip OUT/demo/data/test_labels.json --per-clip OUT/demo/run-gray_flow+logmel/per_clip.csv
blemore-baselines report OUT/demo/run-gray_flow+logmel --features OUT/demo/features/train/gray_flow.npz --features OUT/demo/features/train/logmel.npz --labels OUT/demo/data/test_labels.json --submission OUT/demo/run-gray_flow+logmel/submission.zip
""".splitlines()


def test_demo_path(kit):
    kit.python()
    result = kit.run("baselines/run_all.sh")
    assert result.returncode == 0, result.err
    assert commands(kit) == DEMO
    output, run = kit.root / "output", kit.root / "output/demo/run-gray_flow+logmel"
    assert f"Everything is written to {output}" in result.err and f"Everything was written to {output}" in result.out
    for told in (
        f"Report:     {run}/report.html",
        f"Submission: {run}/submission.zip",
        "the score 0.279",
        "the trivial figures",
    ):
        assert told in result.out
    assert {path.name for path in kit.root.iterdir()} == {
        ".ci",
        ".venv",
        "baselines",
        "tests",
        "output",
        "setup.cfg",
        "pyproject.toml",
        "constraints.txt",
    }

    again = kit.run("baselines/run_all.sh")
    assert again.returncode == 0 and again.out == result.out
    assert commands(kit) == []
    assert again.err.count("done already") == len(DEMO)


def test_a_failing_step_stops_and_the_next_run_goes_on_there(kit):
    kit.python()
    result = kit.run("baselines/run_all.sh", STUB_FAIL="train")
    assert result.returncode == 1
    assert "the disk of train is on fire" in result.err
    assert "Step 10 (Train on gray_flow + logmel) failed" in result.err
    assert commands(kit) == DEMO[:10]
    assert kit.run("baselines/run_all.sh").returncode == 0
    assert commands(kit) == DEMO[9:]


def test_what_a_kept_command_printed_is_shown_when_it_fails(kit):
    kit.python()
    kit.run("baselines/run_all.sh")
    (kit.root / "output/demo/run-gray_flow+logmel/check.txt").unlink()
    kit.write(kit.venv / "bin/blemore-score", f"#!{BASH}\necho 'clip test_0001 is missing'; exit 1\n")
    result = kit.run("baselines/run_all.sh")
    assert result.returncode == 1 and "clip test_0001 is missing" in result.err


def test_output_goes_where_it_is_told_to(kit, tmp_path):
    kit.python()
    assert kit.run("baselines/run_all.sh", BLEMORE_OUT=f"{tmp_path}/my own place").returncode == 0
    assert commands(kit, f"{tmp_path}/my own place") == DEMO
    assert not (kit.root / "output").exists()


def test_arguments_are_refused_with_the_usage(kit):
    kit.python()
    result = kit.run("baselines/run_all.sh", "/data")
    assert result.returncode == 1 and "BLEMORE_DATA=/path/to/dataset" in result.err


@pytest.fixture
def dataset(tmp_path):
    """The layout of the real dataset: metadata one level down, official features two or three."""

    def make(*names):
        for name in names:
            path = tmp_path / "the data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                "filename,fold\nA1_ang_int1_ver1,0\n" if path.name == "train_metadata.csv" else "filename\ntest_0001\n"
            )
        return tmp_path / "the data"

    make("train/train_metadata.csv", "test_metadata.csv")
    return make


OFFICIAL = [
    f"pre_extracted_{part}_data/{encoder}_{part}/clip.npy"
    for part in ("train", "test")
    for encoder in ("HiCMAE", "ImageBind", "VideoMAEv2", "WavLM_large")
]


def real(kit, data, **environment):
    result = kit.run("baselines/run_all.sh", BLEMORE_DATA=str(data), **environment)
    return result, [call.replace(str(data), "DATA") for call in commands(kit)]


def test_dataset_with_official_features(kit, dataset):
    kit.python()
    result, calls = real(kit, dataset(*OFFICIAL))
    assert result.returncode == 0, result.err
    run = "OUT/real/run-ImageBind+WavLM_large"
    expected = [
        f"blemore-baselines aggregate --features DATA/pre_extracted_{part}_data/{encoder}_{part} --metadata DATA/{csv}"
        f" --out OUT/real/features/{part}/{encoder}.npz"
        for encoder in ("ImageBind", "WavLM_large")
        for part, csv in (("train", "train/train_metadata.csv"), ("test", "test_metadata.csv"))
    ]
    tables = {
        part: " ".join(f"--features OUT/real/features/{part}/{encoder}.npz" for encoder in ("ImageBind", "WavLM_large"))
        for part in ("train", "test")
    }
    assert calls == [
        *expected,
        (
            f"blemore-baselines train --metadata DATA/train/train_metadata.csv {tables['train']}"
            f" --method aggregate --head mlp512 --preset published --out {run}"
        ),
        "blemore-baselines trivial --metadata DATA/train/train_metadata.csv --fit scored",
        (
            f"blemore-baselines predict --model {run} {tables['test']} --ids DATA/test_metadata.csv --out"
            f" {run}/submission.zip"
        ),
        f"blemore-score --check {run}/submission.zip --ids DATA/test_metadata.csv",
        f"blemore-baselines report {run} {tables['train']}",
    ]
    for name in ("acc_presence", "acc_salience", "score"):
        assert f"  {name:<13} 0.250   over folds 0.500 ± 0.125\n" in result.out
    assert "Next: upload it" in result.out
    result, calls = real(kit, dataset())
    assert result.returncode == 0 and calls == []


@pytest.mark.parametrize(
    ("present", "asked", "taken"),
    [
        (OFFICIAL, "HiCMAE VideoMAEv2", ["HiCMAE", "VideoMAEv2"]),
        ([name for name in OFFICIAL if "ImageBind" not in name], "", ["VideoMAEv2", "WavLM_large"]),
        ([name for name in OFFICIAL if "WavLM" not in name], "", ["HiCMAE", "ImageBind", "VideoMAEv2"]),
        (
            [
                "OpenFace_3_train/clip.csv",
                "deep/er/WavLM_large_train/clip.npy",
                "a/b/c/TooDeep_train/clip.npy",
                "empty_train/notes.txt",
                "all_train/train_metadata.csv",
            ],
            "",
            ["OpenFace_3", "WavLM_large"],
        ),
    ],
)
def test_choice_of_encoders(kit, dataset, present, asked, taken):
    kit.python()
    result, calls = real(kit, dataset(*present), **({"BLEMORE_ENCODERS": asked} if asked else {}))
    (call,) = [call for call in calls if " train " in call]
    assert [Path(word).stem for word in call.split() if word.endswith(".npz")] == taken


def test_missing_test_features_train_all_the_same(kit, dataset):
    kit.python()
    result, calls = real(kit, dataset(*[name for name in OFFICIAL if name.split("/")[1] != "WavLM_large_test"]))
    assert result.returncode == 0, result.err
    assert [call.split()[1] for call in calls] == ["aggregate", "aggregate", "aggregate", "train", "trivial", "report"]
    assert "Submission: none, as features of the test clips are missing for: WavLM_large" in result.out
    assert "WavLM_large_test beside those of train" in result.out


def test_aggregated_files_are_used_as_they_are(kit, dataset):
    kit.python()
    result, calls = real(
        kit,
        dataset(
            "static/ImageBind_static_features.npz",
            "static/WavLM_large_train_static_features.npz",
            "test/ImageBind_static_features.npz",
            "static/WavLM_large_test_static_features.npz",
            "latest/HiCMAE_static_features.npz",
        ),
    )
    assert result.returncode == 0, result.err
    assert "aggregate" not in {call.split()[1] for call in calls}
    assert (
        "--features DATA/static/ImageBind_static_features.npz --features"
        " DATA/static/WavLM_large_train_static_features.npz" in calls[0]
    )
    assert (
        "--features DATA/test/ImageBind_static_features.npz --features DATA/static/WavLM_large_test_static_features.npz"
        in calls[2]
    )


@pytest.mark.parametrize("layout", ["one folder", "a folder an actor"])
def test_videos_alone_are_extracted(kit, dataset, layout):
    kit.python()
    clips = ["A1_ang_int1_ver1", "A2_hap_int1_ver1", "A3_sad_int1_ver1"]
    folders = {clip: "train/videos/" + (clip[:2] + "/" if layout == "a folder an actor" else "") for clip in clips}
    data = dataset("train/other/A0.mov", "test/videos/test_0001.MOV", *(f"{folders[clip]}{clip}.mov" for clip in clips))
    (data / "train/train_metadata.csv").write_text("filename,fold\r\n" + "".join(f"{clip},0\r\n" for clip in clips))
    result, calls = real(kit, data)
    assert result.returncode == 0, result.err
    extractions = [call for call in calls if " extract " in call]
    assert extractions == [
        f"blemore-baselines extract --encoder {encoder} --metadata DATA/{csv} --clips DATA/{part}/videos --out"
        f" OUT/real/features/{part}"
        for encoder in ("gray_flow", "logmel")
        for part, csv in (("train", "train/train_metadata.csv"), ("test", "test_metadata.csv"))
    ]
    assert calls[-2].startswith("blemore-score --check")


@pytest.mark.parametrize(
    ("present", "environment", "told"),
    [
        ([], {}, "There are neither features of gray_flow (such as a folder gray_flow_train) nor videos"),
        (OFFICIAL, {"BLEMORE_ENCODERS": "CLIP"}, "Features found: HiCMAE ImageBind VideoMAEv2 WavLM_large"),
    ],
)
def test_nothing_to_start_from(kit, dataset, present, environment, told):
    kit.python()
    result, calls = real(kit, dataset(*present), **environment)
    assert result.returncode == 1 and calls == []
    assert told in result.err


def test_a_wrong_dataset_folder(kit, tmp_path):
    kit.python()
    assert "no such folder" in kit.run("baselines/run_all.sh", BLEMORE_DATA=f"{tmp_path}/nowhere").err
    result = kit.run("baselines/run_all.sh", BLEMORE_DATA=str(tmp_path / "elsewhere"))
    assert result.returncode == 1 and "There is no train_metadata.csv" in result.err
