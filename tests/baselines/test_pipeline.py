"""The whole path as steps: what is run, what counts as done, what is printed. Most commands are stand-ins."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from blemore.errors import INTERRUPTED
from blemore_baselines import steps
from blemore_baselines.cli import main
from blemore_baselines.steps import Step, perform, quote, split

BASH = shutil.which("bash")
NESTED = {"nested": {**dict.fromkeys(("acc_presence", "acc_salience", "score"), 0.25)}}
NESTED["nested"]["over_folds"] = dict.fromkeys(NESTED["nested"], {"mean": 0.5, "std": 0.125})
# All that a folder can be named, and what makes a shell or a parser stumble.
AWKWARD = [
    "a b",
    "it's",
    'so "called"',
    "été",
    "Ωμέγα 中文",
    "“q”",
    "back\\slash",
    "$HOME `x` $'y'",
    "#a#",
    "~b~",
    "a=~b:~c",
]
AWKWARD += ["{x,y}", "*?[!z]^", "a;b|c&d<e>(f)", "run-A+B", "hf-image:org/model@1%", "-"]


def stand_in(command, capture):
    """Makes the files that one of the kit's commands would make, and prints what it would print."""
    program, *arguments = command

    def option(flag):
        return Path(arguments[arguments.index(flag) + 1])

    paths, text = [], ""
    if program == "blemore-score":
        text = "valid" if "--check" in arguments else "a table with the score 0.279"
    elif arguments[0] == "demo":
        names = ("train/a.mov", "test/b.mov", "train_metadata.csv", "test_metadata.csv", "test_labels.json")
        paths = [option("--out") / name for name in names]
    elif arguments[0] == "extract":
        names = ("a.npy", "meta.json", "failures.csv")
        paths = [option("--out") / option("--encoder") / name for name in names]
    elif arguments[0] in ("aggregate", "actors", "predict"):
        paths = [option("--out")]
    elif arguments[0] == "train":
        paths = [option("--out") / "metrics.json"]
    elif arguments[0] == "report":
        paths = [Path(arguments[1]) / "report.html"]
    elif arguments[0] == "trivial":
        text = "the trivial figures"
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(NESTED))
    assert bool(text) == capture
    return 0, f"{text}\n" if text else ""


class Kit:
    """`blemore-baselines run` with a stand-in for its commands; their calls, with their folder written as OUT."""

    def __init__(self, folder: Path, monkeypatch):
        self.out, self.calls, self.last, self.fails = folder / "an output folder" / "output", [], (), None
        monkeypatch.setattr(steps, "execute", self.execute)
        for name in ("DATA", "ENCODERS", "NORMALISE", "OUT"):
            monkeypatch.delenv(f"BLEMORE_{name}", raising=False)
        (folder / "elsewhere").mkdir()
        monkeypatch.chdir(folder / "elsewhere")

    def execute(self, command, capture):
        self.last = command
        self.calls.append(" ".join(command))
        if self.fails in command:
            click.echo(f"error: the disk of {command[1]} is on fire", err=True)
            return 1, "clip test_0001 is missing\n" if capture else ""
        return stand_in(command, capture)

    def run(self, code=0, **variables):
        environment = {"BLEMORE_OUT": str(self.out)} | {
            f"BLEMORE_{name}": str(text) for name, text in variables.items()
        }
        result = CliRunner(env=environment).invoke(main, ["run"])
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        assert code == 0 or result.stdout == ""
        return result

    def commands(self) -> list[str]:
        """The calls since the last time this was used."""
        calls = [call.replace(str(self.out), "OUT") for call in self.calls]
        self.calls.clear()
        return calls


@pytest.fixture
def kit(tmp_path, monkeypatch):
    return Kit(tmp_path, monkeypatch)


# -------------------------------------------------------------------------------------------------------- the demo

DEMO = """\
blemore-baselines demo --out OUT/demo/data
blemore-baselines extract --encoder gray_flow --metadata OUT/demo/data/train_metadata.csv --clips \
OUT/demo/data/train --out OUT/demo/features/train
blemore-baselines aggregate --features OUT/demo/features/train/gray_flow --metadata OUT/demo/data/train_metadata.csv \
--out OUT/demo/features/train/gray_flow.npz
blemore-baselines extract --encoder gray_flow --metadata OUT/demo/data/test_metadata.csv --clips OUT/demo/data/test \
--out OUT/demo/features/test
blemore-baselines aggregate --features OUT/demo/features/test/gray_flow --metadata OUT/demo/data/test_metadata.csv \
--out OUT/demo/features/test/gray_flow.npz
blemore-baselines extract --encoder logmel --metadata OUT/demo/data/train_metadata.csv --clips OUT/demo/data/train \
--out OUT/demo/features/train
blemore-baselines aggregate --features OUT/demo/features/train/logmel --metadata OUT/demo/data/train_metadata.csv \
--out OUT/demo/features/train/logmel.npz
blemore-baselines extract --encoder logmel --metadata OUT/demo/data/test_metadata.csv --clips OUT/demo/data/test \
--out OUT/demo/features/test
blemore-baselines aggregate --features OUT/demo/features/test/logmel --metadata OUT/demo/data/test_metadata.csv \
--out OUT/demo/features/test/logmel.npz
blemore-baselines train --metadata OUT/demo/data/train_metadata.csv --features OUT/demo/features/train/gray_flow.npz \
--features OUT/demo/features/train/logmel.npz --method aggregate --head mlp512 --preset published --out \
OUT/demo/run-gray_flow+logmel
blemore-baselines trivial --metadata OUT/demo/data/train_metadata.csv --fit scored
blemore-baselines predict --model OUT/demo/run-gray_flow+logmel --features OUT/demo/features/test/gray_flow.npz \
--features OUT/demo/features/test/logmel.npz --ids OUT/demo/data/test_metadata.csv --out \
OUT/demo/run-gray_flow+logmel/submission.zip
blemore-score --check OUT/demo/run-gray_flow+logmel/submission.zip --ids OUT/demo/data/test_metadata.csv
blemore-score OUT/demo/run-gray_flow+logmel/submission.zip OUT/demo/data/test_labels.json --per-clip \
OUT/demo/run-gray_flow+logmel/per_clip.csv
blemore-baselines report OUT/demo/run-gray_flow+logmel --features OUT/demo/features/train/gray_flow.npz --features \
OUT/demo/features/train/logmel.npz --labels OUT/demo/data/test_labels.json --submission \
OUT/demo/run-gray_flow+logmel/submission.zip
""".splitlines()


def test_demo_path(kit):
    result = kit.run()
    assert kit.commands() == DEMO
    run = kit.out / "demo/run-gray_flow+logmel"
    assert f"Everything is written to {kit.out}\n" in result.stderr
    assert result.stdout.endswith(f"Everything was written to {kit.out}\n")
    for line in (
        f"Report:     {run}/report.html",
        f"Submission: {run}/submission.zip",
        "a table with the score 0.279",
        "the trivial figures",
    ):
        assert f"\n{line}\n" in result.stdout
    first, *titles = result.stderr.splitlines()
    assert len(titles) == len(DEMO)
    assert all(title.startswith(f"[{number}] ") for number, title in enumerate(titles, 1))

    again = kit.run()
    assert again.stdout == result.stdout
    assert kit.commands() == []
    assert again.stderr.splitlines() == [first, *(f"{title}: done already" for title in titles)]


@pytest.mark.parametrize(
    ("touched", "again"),
    [
        ("data/train_metadata.csv", [1, 2, 5, 6, 9, 10, 11, 12, 13, 14]),
        ("data/test_metadata.csv", [3, 4, 7, 8, 11, 12, 13, 14]),
        ("data/test_labels.json", [13]),
        ("data/test", [3, 4, 7, 8, 11, 12, 13, 14]),
        ("features/train/gray_flow/meta.json", [2, 9, 11, 12, 13, 14]),
        ("features/test/logmel/failures.csv", [8, 11, 12, 13, 14]),
        ("features/test/logmel.npz", [11, 12, 13, 14]),
        ("run-gray_flow+logmel/metrics.json", [11, 12, 13, 14]),
        ("run-gray_flow+logmel/submission.zip", [12, 13, 14]),
        ("run-gray_flow+logmel/report.html", []),
    ],
)
def test_what_follows_from_a_newer_file_is_done_again(kit, touched, again):
    kit.run()
    kit.commands()
    before = time.time() - 60
    for path in kit.out.rglob("*"):
        os.utime(path, (before, before))
    os.utime(kit.out / "demo" / touched)
    kit.run()
    assert kit.commands() == [DEMO[number] for number in again]


def test_a_failing_step_stops_and_the_next_run_resumes_there(kit):
    kit.fails = "train"
    result = kit.run(1)
    assert "the disk of train is on fire" in result.stderr
    assert "\n\nStep 10 (Train on gray_flow + logmel) failed; the lines above say why." in result.stderr
    assert (
        f"\n    {quote(kit.last)}\nAfter fixing that, start the script again: it continues with this step.\n"
        in result.stderr
    )
    assert kit.commands() == DEMO[:10]
    kit.fails = None
    kit.run()
    assert kit.commands() == DEMO[9:]


def test_what_a_kept_command_printed_is_shown_when_it_fails(kit):
    kit.run()
    output = kit.out / "demo/run-gray_flow+logmel/check.txt"
    output.unlink()
    kit.fails = "--check"
    assert "clip test_0001 is missing\n\nStep 13 (Check the submission) failed" in kit.run(1).stderr
    assert not output.exists()


def test_output_goes_to_the_chosen_folder(kit, tmp_path):
    kit.run(OUT="")
    assert [call.replace(f"{tmp_path}/elsewhere/output", "OUT") for call in kit.commands()] == DEMO
    kit.run(OUT="../my own place")
    assert [call.replace(f"{tmp_path}/my own place", "OUT") for call in kit.commands()] == DEMO
    assert not kit.out.exists()


def test_an_output_folder_that_cannot_be_made(kit, tmp_path):
    (tmp_path / "file").touch()
    result = kit.run(1, OUT=tmp_path / "file/out")
    assert f"{tmp_path}/file/out cannot be created: set BLEMORE_OUT to another folder." in result.stderr


def test_arguments_are_refused(kit):
    result = CliRunner().invoke(main, ["run", "/data"])
    assert result.exit_code == 2 and kit.commands() == []


# ------------------------------------------------------------------------------------------------------ a dataset


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


def real(kit, data, code=0, **variables):
    result = kit.run(code, DATA=data, **variables)
    return result, [call.replace(str(data), "DATA") for call in kit.commands()]


def test_dataset_with_official_features(kit, dataset):
    result, calls = real(kit, dataset(*OFFICIAL))
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
        assert f"  {name:<13} 0.250   over folds 0.500 ± 0.125\n" in result.stdout
    assert "Next: upload it" in result.stdout
    result, calls = real(kit, dataset())
    assert calls == []


def test_normalising_groups_the_test_clips_first(kit, dataset):
    _, calls = real(kit, dataset("ImageBind_train/a.npy", "ImageBind_test/a.npy"), NORMALISE="centre")
    run, test = "OUT/real/run-ImageBind-centre", "--features OUT/real/features/test/ImageBind.npz"
    ids = "--ids DATA/test_metadata.csv"
    assert calls[2].endswith(f"--preset published --normalise centre --out {run}")
    assert calls[4:6] == [
        f"blemore-baselines actors {test} {ids} --out {run}/groups.csv",
        f"blemore-baselines predict --model {run} {test} {ids} --groups {run}/groups.csv --out {run}/submission.zip",
    ]
    message = real(kit, dataset("ImageBind_train/a.npy"), 1, NORMALISE="center")[0].stderr
    assert "BLEMORE_NORMALISE is center; expected one of none, centre, standardise." in message


@pytest.mark.parametrize(
    ("present", "setting", "choice"),
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
def test_choice_of_encoders(kit, dataset, present, setting, choice):
    result, calls = real(kit, dataset(*present), **({"ENCODERS": setting} if setting else {}))
    (call,) = [call for call in calls if " train " in call]
    assert [Path(word).stem for word in call.split() if word.endswith(".npz")] == choice


def test_missing_test_features_do_not_prevent_training(kit, dataset):
    result, calls = real(kit, dataset(*[name for name in OFFICIAL if name.split("/")[1] != "WavLM_large_test"]))
    assert [call.split()[1] for call in calls] == ["aggregate", "aggregate", "aggregate", "train", "trivial", "report"]
    assert "Submission: none, because features of the test clips are missing for WavLM_large" in result.stdout
    assert "WavLM_large_test next to those of train" in result.stdout


def test_aggregated_files_are_used_as_they_are(kit, dataset):
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
    assert "aggregate" not in {call.split()[1] for call in calls}
    assert (
        "--features DATA/static/ImageBind_static_features.npz --features"
        " DATA/static/WavLM_large_train_static_features.npz" in calls[0]
    )
    assert (
        "--features DATA/test/ImageBind_static_features.npz --features DATA/static/WavLM_large_test_static_features.npz"
        in calls[2]
    )


def test_features_of_both_partitions_are_made_in_the_same_way(kit, dataset):
    """Features that exist only for test are not used; those that exist only for train are not extracted for test."""
    videos = ["train/A1_ang_int1_ver1.mov", "test/test_0001.mov"]
    result, calls = real(
        kit, dataset("logmel_test/clip.npy", "WavLM_large_train/clip.npy", *videos), ENCODERS="logmel WavLM_large"
    )
    assert [call for call in calls if " extract " in call] == [
        f"blemore-baselines extract --encoder logmel --metadata DATA/{csv} --clips DATA/{part} --out"
        f" OUT/real/features/{part}"
        for part, csv in (("train", "train/train_metadata.csv"), ("test", "test_metadata.csv"))
    ]
    assert "missing for WavLM_large\n" in result.stdout


@pytest.mark.parametrize("layout", ["one folder", "a folder an actor"])
def test_videos_alone_are_extracted(kit, dataset, layout):
    clips = ["A1_ang_int1_ver1", "A2_hap_int1_ver1", "A3_sad_int1_ver1"]
    folders = {clip: "train/videos/" + (clip[:2] + "/" if layout == "a folder an actor" else "") for clip in clips}
    data = dataset("train/other/A0.mov", "test/videos/test_0001.MOV", *(f"{folders[clip]}{clip}.mov" for clip in clips))
    (data / "train/train_metadata.csv").write_text("filename,fold\r\n" + "".join(f"{clip},0\r\n" for clip in clips))
    result, calls = real(kit, data)
    extractions = [call for call in calls if " extract " in call]
    assert extractions == [
        f"blemore-baselines extract --encoder {encoder} --metadata DATA/{csv} --clips DATA/{part}/videos --out"
        f" OUT/real/features/{part}"
        for encoder in ("gray_flow", "logmel")
        for part, csv in (("train", "train/train_metadata.csv"), ("test", "test_metadata.csv"))
    ]
    assert calls[-2].startswith("blemore-score --check")


@pytest.mark.parametrize(
    ("present", "environment", "message"),
    [
        ([], {}, "has neither features of gray_flow (such as a folder gray_flow_train) nor videos"),
        (OFFICIAL, {"ENCODERS": "CLIP"}, "Features found: HiCMAE ImageBind VideoMAEv2 WavLM_large"),
    ],
)
def test_nothing_to_start_from(kit, dataset, present, environment, message):
    result, calls = real(kit, dataset(*present), 1, **environment)
    assert calls == []
    assert message in result.stderr


def test_a_wrong_dataset_folder(kit, tmp_path):
    nowhere = tmp_path / "nowhere"
    assert f"\nBLEMORE_DATA is {nowhere}: no such folder.\n" in kit.run(1, DATA=nowhere).stderr
    result = kit.run(1, DATA=tmp_path / "elsewhere")
    assert f"\nThere is no train_metadata.csv in {tmp_path}/elsewhere or its subfolders.\n" in result.stderr
    assert kit.commands() == []


def test_metadata_that_is_not_a_table(kit, dataset):
    data = dataset()
    (data / "train/train_metadata.csv").write_text("filename;fold\n")
    result, calls = real(kit, data, 1)
    assert calls == [] and "train_metadata.csv: line 1" in result.stderr


def test_all_encoders_without_features_are_named_at_once(kit, dataset):
    result, calls = real(kit, dataset(*OFFICIAL), 1, ENCODERS="CLIP HiCMAE VideoSwin")
    assert calls == [] and [f"features of {name} " in result.stderr for name in ("CLIP", "HiCMAE", "VideoSwin")] == [
        True,
        False,
        True,
    ]


# --------------------------------------------------------------------------------------------------------- a step


@pytest.fixture
def do(tmp_path, monkeypatch):
    """Performs a step whose command is a Python function. Returns its messages."""

    def do(output, inputs=(), action=None, words=("blemore-baselines", "x"), keep=False, expected=True):
        def execute(command, capture):
            assert (command, capture) == (words, keep)
            return (action or (lambda: output.touch()))() or (0, "printed\n" if keep else "")

        monkeypatch.setattr(steps, "execute", execute)
        lines = []
        step = Step("Do it", output, tuple(inputs), words, keep)
        assert perform(step, "[1] Do it", tmp_path, lines.append) is expected
        return lines

    return do


DONE, ANEW = ["[1] Do it: done already"], ["[1] Do it"]


def test_step_runs_once(tmp_path, do):
    (tmp_path / "input").touch()
    arguments = (tmp_path / "sub/out put", [tmp_path / "input", tmp_path / "absent"])
    assert do(*arguments) == ANEW
    assert do(*arguments) == DONE


@pytest.mark.parametrize("change", ["input touched", "output gone", "another command", "input appears"])
def test_step_runs_again_when_something_changed(tmp_path, do, change):
    first, late, output = tmp_path / "first", tmp_path / "late", tmp_path / "output"
    first.touch()
    do(output, [first, late])
    future, words = time.time() + 60, ("blemore-baselines", "x")
    if change == "input touched":
        os.utime(first, (future, future))
    elif change == "output gone":
        output.unlink()
    elif change == "another command":
        words += ("other",)
    else:
        late.touch()
        os.utime(late, (future, future))
    assert do(output, [first, late], words=words) == ANEW


def test_step_never_takes_a_half_written_file_for_a_result(tmp_path, do):
    output = tmp_path / "output"

    def fail():
        output.write_text("half")
        return 3, ""

    assert do(output, action=fail, expected=False) == ANEW
    assert do(output) == ANEW


@pytest.mark.parametrize("keep", [False, True])
def test_step_forgets_a_result_while_it_is_recomputed(tmp_path, do, keep):
    output, words = tmp_path / "output", ("blemore-baselines", "x")
    do(output, keep=keep)
    assert do(output, keep=keep) == DONE
    (tmp_path / "input").touch()
    os.utime(tmp_path / "input", (time.time() + 60,) * 2)

    def interrupt():
        assert output.exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        do(output, [tmp_path / "input"], interrupt, keep=keep)
    assert do(output, words=words, keep=keep) == ANEW


def test_what_is_kept_replaces_the_output_as_a_whole(tmp_path, do):
    output = tmp_path / "output"
    output.write_text("before")
    assert do(output, keep=True, action=lambda: (1, "the cause\n"), expected=False) == [*ANEW, "the cause"]
    assert output.read_text() == "before"
    do(output, keep=True, action=lambda: None)
    assert output.read_text() == "printed\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".done", "output"]


# ---------------------------------------------------------------------------------- markers of the version before


def by_bash(words, locale):
    """The text of a marker as the script of version 0.1.0 wrote it."""
    code = "printf '%q ' \"$@\"; echo"
    environment = {"PATH": os.environ["PATH"], "LC_ALL": locale}
    return subprocess.run([BASH, "-c", code, "bash", *words], capture_output=True, check=True, env=environment).stdout


needs_bash = pytest.mark.skipif(BASH is None, reason="there is no bash here")


@needs_bash
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_words_that_bash_quotes_are_read(locale):
    words = [*AWKWARD, "a\ttab", "a\nline", "été\n中文", "back\\slash\ttab"]
    text = by_bash(words, locale).decode()
    assert ("\\303" in text) == (locale == "C"), "bash has no other form to read"
    assert split(text) == words


@needs_bash
def test_words_are_quoted_as_bash_does():
    characters = [chr(code) for code in range(32, 127)]
    words = [*AWKWARD, *characters, *(f"a{character}b" for character in characters), *(f"{c}{c}" for c in characters)]
    for word in words:
        assert f"{quote([word])}\n".encode() == by_bash([word], "C.UTF-8"), word
        assert split(quote([word])) == [word]


@needs_bash
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize("keep", [False, True])
def test_what_the_version_before_did_is_done(tmp_path, do, locale, keep):
    output = tmp_path / 'it\'s “my” "été" & $HOME' / "out put"
    output.parent.mkdir()
    output.touch()
    words = ("blemore-baselines", "x", *AWKWARD, str(output))
    marker = tmp_path / ".done" / 'it\'s “my” "été" & $HOME,out put'
    marker.parent.mkdir()
    marker.write_bytes(by_bash(["keep", str(output), *words] if keep else words, locale))
    assert do(output, words=words, keep=keep) == DONE
    assert do(output, words=words, keep=not keep) == ANEW
    assert do(output, words=words[:-1], keep=keep) == ANEW


@needs_bash
def test_the_whole_path_of_the_version_before_is_done(kit):
    kit.run()
    for marker in (kit.out / ".done").iterdir():
        words = split(marker.read_text())
        assert marker.read_bytes() == by_bash(words, "C.UTF-8"), "the version before would not read it"
        marker.write_bytes(by_bash(words, "C"))
    kit.commands()
    assert kit.run().stderr.count("done already") == len(DEMO)
    assert kit.commands() == []


@pytest.mark.parametrize(
    "rest", [b"", b"blemore-baselines", b"blemore-baselines x\\", b"blemore-baselines $'x", b"\xff"]
)
def test_an_incomplete_marker_does_not_count(tmp_path, do, rest):
    do(tmp_path / "output")
    (tmp_path / ".done/output").write_bytes(rest)
    assert do(tmp_path / "output") == ANEW


# ------------------------------------------------------------------------------------------- processes of their own


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Makes a module with this source the steps' command."""

    def write(source):
        (tmp_path / "modules").mkdir()
        (tmp_path / "modules/stand_in.py").write_text(f"import os, sys\ndef main(prog_name):\n    {source}\n")
        monkeypatch.setitem(steps.MODULES, "blemore-baselines", "stand_in")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))

    return write


def test_a_real_step(tiny, tmp_path, monkeypatch):
    """In a folder with an awkward name, without a PATH, and where a file is named like a package."""
    folder = tmp_path / "it's a “naïve” folder"
    shutil.move(tiny.root, folder)
    (folder / "blemore_baselines.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", "")
    words = ("blemore-baselines", "trivial", "--metadata", str(folder / "train_metadata.csv"), "--fit", "scored")
    step = Step("Trivial baselines", folder / "trivial.txt", (folder / "train_metadata.csv",), words, keep=True)
    lines = []
    assert perform(step, "[1]", folder, lines.append) and perform(step, "[1]", folder, lines.append)
    assert lines == ["[1]", "[1]: done already"]
    assert step.output.read_text("utf-8") == CliRunner().invoke(main, words[1:]).stdout


def test_a_real_failure(tmp_path, capfd):
    words = ("blemore-score", "--check", str(tmp_path / "absent.json"))
    step = Step("Check", tmp_path / "check.txt", (), words, keep=True)
    assert not perform(step, "[1]", tmp_path, print)
    assert "absent.json: cannot be opened" in capfd.readouterr().err
    assert not list((tmp_path / ".done").glob("*")) and not step.output.exists()


def test_characters_that_a_terminal_lacks_are_kept(tmp_path, program, monkeypatch):
    program("print('0.5 ± 0.1, 中文')")
    for name, text in (("LC_ALL", "C"), ("PYTHONUTF8", "0"), ("PYTHONCOERCECLOCALE", "0"), ("PYTHONIOENCODING", "")):
        monkeypatch.setenv(name, text)
    assert steps.execute(("blemore-baselines",), capture=True) == (0, "0.5 ± 0.1, 中文\n")


def test_a_killed_step_leaves_no_result(tmp_path, program, capfd):
    program("open(sys.argv[1], 'w').write('half'); os.kill(os.getpid(), 9)")
    step = Step("Do it", tmp_path / "output", (), ("blemore-baselines", str(tmp_path / "output")))
    for _ in range(2):
        lines = []
        assert not perform(step, "[1] Do it", tmp_path, lines.append)
        assert lines == ANEW and step.output.read_text() == "half"


def test_an_interrupted_step_interrupts_the_path(program):
    program(f"sys.exit({INTERRUPTED})")
    with pytest.raises(KeyboardInterrupt):
        steps.execute(("blemore-baselines",), capture=False)


def start(*words, **environment):
    code = "from blemore_baselines.cli import main; main(prog_name='blemore-baselines')"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, *words],
        env=os.environ | environment,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_an_interrupt_in_a_step(tmp_path):
    """Like the keyboard: the signal goes to the pipeline, its step and the step's workers."""
    running = start("run", BLEMORE_OUT=str(tmp_path / "out"), BLEMORE_DATA="")
    while not list(tmp_path.rglob("*.mov")) and running.poll() is None:
        time.sleep(0.01)
    error = None
    while error is None:  # a library's own callback can swallow the exception that a signal becomes
        os.killpg(running.pid, signal.SIGINT)
        try:
            error = running.communicate(timeout=5)[1]
        except subprocess.TimeoutExpired:
            pass
    assert running.returncode == INTERRUPTED, error
    assert "Traceback" not in error and error.endswith("\nStopped. Run the same command again to continue.\n"), error
    assert "[1] Make the demo dataset\n" in error and "failed" not in error
    assert not list(tmp_path.rglob(".done/*"))


def test_an_interrupt_of_the_path_alone_ends_its_step(tmp_path, program):
    """Like `kill -INT` or an editor."""
    program("print(os.getpid(), flush=True); import time; time.sleep(600)")
    code = "from blemore_baselines import steps; steps.PATIENCE = 0.1; steps.MODULES['a'] = 'stand_in'; "
    running = subprocess.Popen(
        [sys.executable, "-P", "-c", code + "steps.execute(('a',), capture=False)"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    step = int(running.stdout.readline())
    os.kill(running.pid, signal.SIGINT)
    assert "KeyboardInterrupt" in running.communicate(timeout=60)[1]
    assert running.stdout.closed, "whoever held the pipe has ended"
    with pytest.raises(ProcessLookupError):
        os.kill(step, 0)
