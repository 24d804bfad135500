"""The shell scripts, run in minimal copies of the repository with substitutes for Python, pip and the command.

Nothing is installed and no network is needed. The folder's name has spaces in it, and the scripts are called from
another folder, in every test.
"""

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
SHARED_OUT = "[--numprocesses] [logical] [--maxprocesses] [4] [--dist] [loadfile]"  # over the cores
TOOLS = "awk bash cat cksum cp df dirname env find grep mkdir mktemp mv rm sed tail tee touch uname".split()

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
*) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""

# blemore-baselines: writes down what it is called with and, if it is to fail, does.
COMMAND = r"""#!{bash}
echo "blemore-baselines: $* (in $PWD, output to $BLEMORE_OUT)" >>"$STUB_CALLS"
exit "${{STUB_EXIT:-0}}"
"""


class Kit:
    """A copy of what the scripts need, and a PATH with only substitutes and plain tools."""

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
        self.write(self.commands / "blemore-baselines", COMMAND.format(bash=BASH))
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
        """What was called since the previous call of this method, with this kit's folder written as ROOT."""
        lines = self.log.read_text().replace(str(self.root), "ROOT").splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


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
    listing = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-s", ".ci/run", "baselines/run_all.sh", "tests/run.sh"],
        capture_output=True,
        text=True,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    assert [line.split()[0] for line in listing.stdout.splitlines()] == ["100755"] * 3


def test_scripts_support_the_versions_of_setup_cfg():
    lowest = int(re.search(r"^python_requires = >=3\.(\d+)$", (ROOT / "setup.cfg").read_text(), re.M)[1])
    versions = ["2.7", *(f"3.{minor}" for minor in range(20)), ""]
    code = f'source "{ROOT}/baselines/environment.sh"; for v; do if supported "$v"; then echo "$v"; fi; done'
    answer = subprocess.run([BASH, "-c", code, "bash", *versions], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == [f"3.{minor}" for minor in range(lowest, 20)]


# ------------------------------------------------------------------------------------------- finding and making .venv


def test_first_run_installs_and_the_second_does_not(kit):
    kit.python()
    first = kit.run("tests/run.sh", "-k", "two words", "--long")
    assert first.returncode == 0, first.err
    assert first.out.splitlines() == [f"pytest in {kit.root}: {SHARED_OUT} [-k] [two words] [--long]", "== 1 passed =="]
    assert "PyTorch is a large download" in first.err
    (call,) = kit.calls()
    assert call.startswith("pip in ROOT: ") and "-c constraints.txt -e .[test]" in call

    second = kit.run("tests/run.sh")
    assert (second.returncode, second.err, kit.calls()) == (0, "", [])


@pytest.mark.parametrize("options", [[], ["--long"]])
def test_ci_runs_the_suite(kit, options):
    kit.python()
    calls = [line for line in kit.run(".ci/run", *options).out.splitlines() if line.startswith("pytest")]
    assert calls == [f"pytest in {kit.root}: {' '.join([SHARED_OUT, *(f'[{option}]' for option in options)])}"]


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
    assert "Updating" in kit.run("tests/run.sh").err
    assert len(kit.calls()) == 1


def test_extras_are_added_once_and_kept(kit):
    kit.python()
    kit.run("baselines/run_all.sh")
    assert kit.calls()[0].endswith("-e .[baselines]")
    kit.run("tests/run.sh")
    assert kit.calls()[0].endswith("-e .[baselines,test]")
    kit.run("baselines/run_all.sh")
    kit.run("tests/run.sh")
    assert not [call for call in kit.calls() if call.startswith("pip")]
    with open(kit.root / "setup.cfg", "a") as file:
        file.write("# changed\n")
    kit.run("baselines/run_all.sh")
    assert kit.calls()[0].endswith("-e .[baselines,test]")


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
    assert "No Python 3.11 or later was found (python3 is 3.8" in result.err
    assert "PYTHON=/path/to/python3.12" in result.err


def test_no_python_at_all(kit):
    result = kit.run("baselines/run_all.sh")
    assert result.returncode == 1 and "no Python at all" in result.err


def test_the_first_suitable_python_is_used(kit):
    kit.python("python3", version="3.9")
    kit.write(kit.bin / "python3.13", f"#!{BASH}\necho 'not installed' >&2; exit 127\n")  # a version manager's stand-in
    kit.python("python3.12", version="3.12", no_venv="yes")
    fit = kit.python("python3.11", version="3.11")
    assert f"with {fit}" in kit.run("tests/run.sh").err


def test_the_requested_python_is_used(kit):
    kit.python("python3")
    python = kit.python("my own python", version="3.13")
    assert f"with {python}" in kit.run("tests/run.sh", PYTHON=str(python)).err


def test_a_python_without_venv(kit):
    kit.python(version="3.11", no_venv="yes")
    result = kit.run("tests/run.sh")
    assert result.returncode == 1
    assert "has no venv module" in result.err and "apt install python3.11-venv" in result.err


@pytest.mark.parametrize(
    ("message", "explanation"),
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
        ("ERROR: something else", "pip's last lines"),
    ],
)
def test_a_failing_pip_is_explained_and_can_be_run_again(kit, message, explanation):
    kit.python()
    result = kit.run("tests/run.sh", STUB_PIP=message)
    assert result.returncode == 1 and not result.out
    assert message in result.err and explanation in result.err
    assert f"The full log is {kit.venv}/install.log" in result.err
    assert message in (kit.venv / "install.log").read_text()
    assert not (kit.venv / "stamp").exists()
    assert kit.run("tests/run.sh").returncode == 0
    assert len(kit.calls()) == 2


def test_a_failing_update_removes_the_stamp(kit):
    kit.python()
    kit.run("tests/run.sh")
    settings = (kit.root / "setup.cfg").read_text()
    (kit.root / "setup.cfg").write_text(settings + "# changed\n")
    assert kit.run("tests/run.sh", STUB_PIP="ERROR: no").returncode == 1
    (kit.root / "setup.cfg").write_text(settings)
    kit.calls()
    kit.run("tests/run.sh")
    assert len(kit.calls()) == 1


@pytest.mark.parametrize("defect", ["gone", "old", "without pip"])
def test_a_broken_venv_is_recreated(kit, defect):
    kit.python()
    kit.run("tests/run.sh")
    python = kit.venv / "bin/python"
    if defect == "gone":
        python.unlink()
        python.symlink_to("/no/such/python")
    elif defect == "old":
        python.write_text(python.read_text().replace("echo 3.12", "echo 3.9"))
    else:
        python.write_text(python.read_text().replace('case "$*" in', 'case "$*" in\n*"import pip"*) exit 1 ;;', 1))
    (kit.venv / "left_over").touch()
    result = kit.run("tests/run.sh")
    assert result.returncode == 0 and f"Making {kit.venv} again" in result.err
    assert not (kit.venv / "left_over").exists()


def test_a_killed_install_can_be_run_again(kit):
    kit.python()
    process = kit.start("tests/run.sh", STUB_PIP="wait")
    until(kit.log.exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (kit.venv / "stamp").exists()
    result = kit.run("tests/run.sh")
    assert result.returncode == 0 and "installation was interrupted" in result.err and "waiting" not in result.err
    assert len(kit.calls()) == 2


@pytest.mark.parametrize("first_is_killed", [False, True])
def test_two_runs_never_install_at_once(kit, first_is_killed):
    """Not even if the first script was killed: its installation continues alone, and the second run takes it over."""
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


def test_a_folder_that_cannot_be_written(kit):
    kit.python()
    kit.venv.write_text("a file stands where the folder is wanted")
    result = kit.run("tests/run.sh")
    assert result.returncode == 1 and f"{kit.venv} cannot be created or written to" in result.err


# ---------------------------------------------------------------------------------------------------- run_all.sh


def test_run_all_sets_up_first_and_then_calls_the_command(kit):
    kit.python()
    result = kit.run("baselines/run_all.sh")
    assert result.returncode == 0, result.err
    installation, call = kit.calls()
    assert installation.startswith("pip in ROOT: ") and installation.endswith("-c constraints.txt -e .[baselines]")
    assert call == f"blemore-baselines: run (in {kit.elsewhere}, output to ROOT/output)"
    again = kit.run("baselines/run_all.sh")
    assert (again.returncode, again.out, again.err, kit.calls()) == (0, "", "", [call])


def test_output_goes_to_the_chosen_folder(kit, tmp_path):
    kit.python()
    kit.run("baselines/run_all.sh", BLEMORE_OUT=f"{tmp_path}/my own place")
    assert kit.calls()[1].endswith(f"output to {tmp_path}/my own place)")


@pytest.mark.parametrize("status", [1, 3, 130])
def test_exit_status_of_run_all_is_that_of_the_command(kit, status):
    kit.python()
    assert kit.run("baselines/run_all.sh", STUB_EXIT=str(status)).returncode == status


def test_arguments_are_refused_with_the_usage(kit):
    kit.python()
    result = kit.run("baselines/run_all.sh", "/data")
    assert result.returncode == 1 and kit.calls() == []
    for variable in ("BLEMORE_DATA=/path/to/dataset", "BLEMORE_ENCODERS=", "BLEMORE_NORMALISE=", "BLEMORE_OUT="):
        assert variable in result.err
