"""The command group: exit codes, stdout and stderr, and no traceback for a user's mistake."""

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from blemore.cli import main as blemore_score
from blemore.labels import LABELS, to_entry
from blemore_baselines.cli import main
from blemore_baselines.features import scores_csv


def run(*arguments, code=0, command=main):
    """Invoke a command as from the shell. Any exception other than an exit fails the test."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == code, f"{result.exit_code}\n{result.output}"
    if code:
        assert result.stdout == "" and result.stderr.strip() and "Traceback" not in result.stderr
    return result


COMMANDS = sorted(main.commands)


# -------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_has_an_example(name):
    text = run(name, "--help").stdout
    assert re.search(rf"Examples?:\s+blemore-baselines {name}\b", text), text


def test_the_group_lists_its_commands_and_shows_the_path():
    text = run("--help").stdout
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", text, re.M)
    for step in ("demo", "extract", "train", "predict"):
        assert f"blemore-baselines {step} --" in text
    assert run("-h").stdout == text


def test_the_version():
    from blemore.version import VERSION

    assert VERSION in run("--version").stdout


def test_the_examples_name_options_that_exist():
    for name, command in main.commands.items():
        commands = [command, *getattr(command, "commands", {}).values()]  # a group's examples use its commands
        options = {option for command in commands for parameter in command.params for option in parameter.opts}
        used = re.findall(r"--[a-z][a-z-]*", " ".join(command.help for command in commands))
        assert set(used) <= options, (name, set(used) - options)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"], ["train"]])
def test_help_imports_nothing_heavy(arguments):
    program = (
        "import sys\nfrom blemore_baselines.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit:"
        " pass\nprint('HEAVY', sorted({'torch', 'pandas', 'numpy', 'transformers', 'cv2', 'av', 'matplotlib'} &"
        " set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "HEAVY []"


# ---------------------------------------------------------------------------- the whole path


@pytest.mark.usefixtures("quick")
def test_features_to_report(tiny, tmp_path, long):
    if not long:
        pytest.skip("the commands of the READMEs cover the same path: --long")
    steps = {}
    for part, ids in (("train", tiny.train), ("test", tiny.test)):
        out = tmp_path / f"{part}.npz"
        steps[part] = run("aggregate", "--features", tiny.root / f"sound_{part}", "--metadata", ids, "--out", out)
    assert steps["train"].stdout == f"{tmp_path / 'train.npz'}: 36 clips × 35 columns\n"

    model = tmp_path / "run"
    result = run(
        "train",
        "--metadata",
        tiny.train,
        "--features",
        tmp_path / "train.npz",
        "--head",
        "mlp256",
        "--seed",
        3,
        "--out",
        model,
    )
    figures = json.loads((model / "metrics.json").read_text())
    assert "pooled over all clips" in result.stdout and f"{figures['nested']['score']:.4f}" in result.stdout
    assert f"The run is in {model}" in result.stderr and "cross-validation" not in result.stdout

    out = tmp_path / "out" / "submission.zip"
    # The files' names differ between the partitions (train.npz, test.npz); only their metadata counts.
    predicted = run("predict", "--model", model, "--features", tmp_path / "test.npz", "--ids", tiny.test, "--out", out)
    assert predicted.stdout == f"{out}: 8 clips, checked\n"
    table = out.parent / "submission.logits.csv"
    assert sorted(out.parent.iterdir()) == [table, out] and (model / "test_logits.csv").read_text() == table.read_text()
    assert str(table) in predicted.stderr and "trained" not in predicted.stderr
    run("--check", out, "--ids", tiny.test, command=blemore_score)
    before = out.read_bytes()
    run("predict", "--model", model, "--features", tmp_path / "test.npz", "--ids", tiny.test, "--out", out)
    assert out.read_bytes() == before

    # `decode`, which takes any model's scores, gives the same submission from the run's own logits.
    again = tmp_path / "again.zip"
    scores = ["--scores", model, "--test-scores", model]
    run("decode", "--metadata", tiny.train, *scores, "--ids", tiny.test, "--out", again)
    assert again.read_bytes() == before
    check_report(tiny, model, out, tmp_path / "labels.json", figures)


def check_report(tiny, model, submission, labels, figures):
    labels.write_text(json.dumps({"labels": {clip: to_entry(LABELS[k]) for k, clip in enumerate(tiny.test_ids)}}))
    page = Path(run("report", model, "--submission", submission, "--labels", labels).stdout.strip())
    text = page.read_text()
    assert page == model / "report.html" and text.startswith("<!DOCTYPE html>")
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?\s*(https?:)?//""", text) and "<script" not in text
    assert text.count("data:image/png;base64,") == 6 and "The submission&#x27;s score" in text
    assert f"{figures['nested']['score']:.4f}" in text
    run("report", model)
    assert "The submission&#x27;s score" not in page.read_text()


@pytest.mark.usefixtures("quick")
def test_fused_and_subsampled_runs(tiny, tmp_path):
    fused, rows = tmp_path / "fused", tmp_path / "rows"
    sound, look = ["--features", tiny.sound], ["--features", tiny.look]
    start, linear, subsample = ["train", "--metadata", tiny.train], ["--head", "linear"], ["--method", "subsample"]
    run(*start, *sound, *look, *linear, "--out", fused)
    both = ["--features", tiny.look_test, "--features", tiny.sound_test]
    run("predict", "--model", fused, *both, "--ids", tiny.test, "--out", tmp_path / "s.zip")
    single = ["--features", tiny.look_test, "--ids", tiny.test, "--out", tmp_path / "t.zip"]
    assert "given matches" in run("predict", "--model", fused, *single, code=1).stderr
    assert not (tmp_path / "t.zip").exists()
    run(*start, *sound, *subsample, *linear, "--out", rows)
    assert "--method aggregate" in run(*start, *sound, *look, *subsample, "--out", tmp_path / "x", code=1).stderr
    assert "another head" in run(*start, *sound, "--out", rows, *subsample, code=1).stderr


@pytest.mark.usefixtures("quick")
def test_each_submission_has_its_own_logits_and_train_clips_are_not_test_clips(tiny, tmp_path):
    model, alone = tmp_path / "run", tmp_path / "alone"
    run("train", "--metadata", tiny.train, "--features", tiny.sound, "--head", "linear", "--out", model)
    test, train = (
        ["--features", features, "--ids", ids]
        for features, ids in ((tiny.sound_test, tiny.test), (tiny.sound, tiny.train))
    )
    assert "trained" not in run("predict", "--model", model, *test, "--out", tmp_path / "test.zip").stderr
    decode = ["decode", "--metadata", tiny.train, "--scores", model, "--test-scores"]
    run(*decode, model, "--out", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "test.zip").read_bytes()

    result = run("predict", "--model", model, *train, "--out", tmp_path / "train.zip")
    assert "trained or chosen on 36 of the 36 clips, so their score says nothing" in result.stderr
    tables = {name: (tmp_path / f"{name}.logits.csv").read_text() for name in ("test", "train")}
    assert [text.count("\n") for text in tables.values()] == [9, 37]
    assert (model / "test_logits.csv").read_text() == tables["train"], "the latest logits"
    for scores in (model, tmp_path / "train.logits.csv", model / "oof_logits.csv"):
        message = " ".join(run(*decode, scores, "--out", tmp_path / "new.zip", code=1).stderr.split())
        assert f"36 of 36 clips are also in {tiny.train}: clip00, " in message and str(scores) in message
    assert not (tmp_path / "new.zip").exists()

    alone.mkdir()
    for name in ("model.json", "model.safetensors"):
        (model / name).rename(alone / name)
    run("predict", "--model", alone, *test, "--out", tmp_path / "alone.zip")
    assert len(list(alone.iterdir())) == 2 and (tmp_path / "alone.logits.csv").read_text() == tables["test"]


# ------------------------------------------------------------------------------------ decode


@pytest.fixture
def scores(tiny, tmp_path):
    """The tables of two models, for train and test: noisy logits, and noisy probabilities."""
    rng = np.random.default_rng(4)
    paths = {}
    for name, of in (("one", lambda x: x), ("two", lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True))):
        for part, ids, signal in (("train", tiny.dataset.ids, 4 * tiny.dataset.targets), ("test", tiny.test_ids, 0)):
            paths[name, part] = tmp_path / f"{name}_{part}.csv"
            order = rng.permutation(len(ids))  # not the metadata's order
            values = of(rng.normal(size=(len(ids), 6)) + signal)
            paths[name, part].write_text(scores_csv([ids[k] for k in order], values[order]))
    return paths


def test_decode_prints_and_writes_the_same_figures(tiny, scores, tmp_path):
    result = run(
        "decode",
        "--metadata",
        tiny.train,
        "--scores",
        scores["one", "train"],
        "--report",
        tmp_path / "new" / "report.json",
    )
    report = json.loads((tmp_path / "new" / "report.json").read_text())
    assert set(report) == {"published", "nested", "final", "models"} and len(report["nested"]["folds"]) == 3
    for fold in report["published"]["folds"] + report["nested"]["folds"]:
        assert re.search(
            rf"{fold['alpha']:.4f} +{fold['beta']:.4f} .* {fold['score']:.4f}$", result.stdout, re.MULTILINE
        )
    assert f"{report['final']['alpha']:.6f}" in result.stdout


def test_decode_with_two_models(tiny, scores, tmp_path):
    from blemore_baselines import decoding as decode
    from blemore_baselines.features import read_scores

    first, second = scores["one", "train"], scores["two", "train"]
    out, report = tmp_path / "submission.zip", tmp_path / "report.json"
    train = ["--scores", first, "--scores", second]
    test = ["--test-scores", scores["one", "test"], "--test-scores", scores["two", "test"], "--ids", tiny.test]
    result = run("decode", "--metadata", tiny.train, *train, "--report", report, *test, "--out", out)
    assert result.stdout.endswith(f"{out}: 8 clips, checked\n")
    ids = tiny.dataset.ids
    mean = (decode.softmax(read_scores(first, ids).X) + read_scores(second, ids).X) / 2
    thresholds = decode.fit_exact(mean, tiny.dataset.labels).thresholds
    assert json.loads(report.read_text())["final"]["alpha"] == thresholds.alpha
    test = (
        decode.softmax(read_scores(scores["one", "test"], tiny.test_ids).X)
        + read_scores(scores["two", "test"], tiny.test_ids).X
    ) / 2
    summary = json.loads(run("--check", out, "--ids", tiny.test, "--json", command=blemore_score).stdout)
    assert summary["n_blends"] == int((decode.decode_thresholds(test, thresholds) >= 6).sum())


def test_decode_without_ids_takes_the_clips_of_the_test_scores(tiny, scores, tmp_path):
    run(
        "decode",
        "--metadata",
        tiny.train,
        "--scores",
        scores["one", "train"],
        "--test-scores",
        scores["one", "test"],
        "--out",
        tmp_path / "s.zip",
    )
    run("--check", tmp_path / "s.zip", "--ids", tiny.test, command=blemore_score)


def test_decode_options_that_go_together(tiny, scores, tmp_path):
    train, test = scores["one", "train"], scores["one", "test"]
    start = ["decode", "--metadata", tiny.train, "--scores", train]
    assert "go together" in run(*start, "--test-scores", test, code=2).stderr
    assert "go together" in run(*start, "--out", tmp_path / "s.zip", code=2).stderr
    assert (
        "2 --scores but 1 --test-scores"
        in run(*start, "--scores", train, "--test-scores", test, "--out", tmp_path / "s.zip", code=2).stderr
    )
    assert (
        "1 --scores but 2 --test-scores"
        in run(*start, "--test-scores", test, "--test-scores", test, "--out", tmp_path / "s.zip", code=2).stderr
    )
    assert "Missing option '--scores'" in run("decode", "--metadata", tiny.train, code=2).stderr
    run(*start, "--decoder", "magic", code=2)
    assert "ends in .json" in run(*start, "--report", tmp_path / "figures.csv", code=2).stderr
    assert not list(tmp_path.glob("*.zip"))


def test_decode_refuses_unsound_scores(tiny, scores, tmp_path):
    lines = scores["one", "train"].read_text().splitlines()

    def refused(changed, code=1):
        (tmp_path / "bad.csv").write_text("\n".join(changed) + "\n")
        return run("decode", "--metadata", tiny.train, "--scores", tmp_path / "bad.csv", code=code).stderr

    assert "1 of 36 clips have no scores from any model" in refused(lines[:-1])
    assert "more than once" in refused([*lines, lines[-1]])
    assert "1 clips hold NaN" in refused([*lines[:-1], lines[-1].split(",")[0] + ",nan,0,0,0,0,0"])
    assert "1 of 36 rows are probabilities" in refused([*lines[:-1], lines[-1].split(",")[0] + ",1,0,0,0,0,0"])
    assert "expected filename and the six emotions" in refused([lines[0].replace("neu", "surprise"), *lines[1:]])


def test_an_output_never_overwrites_an_input(tiny, scores, tmp_path):
    (tmp_path / "sub.expected.csv").write_text(scores["one", "test"].read_text())
    link, page, sub = (tmp_path / name for name in ("link.zip", "figures.json", "there/../sub.zip"))
    link.symlink_to(scores["one", "train"])
    start, tests = (
        ["decode", "--metadata", tiny.train, "--scores", scores["one", "train"]],
        ["--test-scores", scores["one", "test"]],
    )
    commands = {
        f"'--out' would overwrite {link}, which '--scores' names": [*start, *tests, "--out", link],
        "sub.expected.csv, which '--test-scores' names": [
            *start,
            "--test-scores",
            tmp_path / "sub.expected.csv",
            "--out",
            sub,
        ],
        "figures.json, which '--ids' names": [
            *start,
            *tests,
            "--ids",
            page,
            "--report",
            page,
            "--out",
            tmp_path / "new.zip",
        ],
        "sub.logits.csv, which '--features' names": [
            "predict",
            "--model",
            "x",
            "--ids",
            tiny.test,
            "--features",
            tmp_path / "sub.logits.csv",
            "--out",
            sub,
        ],
    }
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for message, arguments in commands.items():
        assert message in re.sub(r"\s+", " ", run(*arguments, code=2).stderr), message
    assert {
        path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()
    } == before and link.is_symlink()


def test_decode_refuses_test_scores_of_other_clips(tiny, scores, tmp_path):
    start = [
        "decode",
        "--metadata",
        tiny.train,
        "--scores",
        scores["one", "train"],
        "--out",
        tmp_path / "s.zip",
        "--ids",
        tiny.test,
    ]
    lines = scores["one", "test"].read_text().splitlines()
    (tmp_path / "seven.csv").write_text("\n".join(lines[:-1]))
    assert (
        "1 of 8 clips have no scores from any model"
        in run(*start, "--test-scores", tmp_path / "seven.csv", code=1).stderr
    )
    run(*start, "--test-scores", scores["one", "train"], code=1)
    run(*start[:-2], "--test-scores", tiny.sound_test, code=1)  # a folder of features, and no --ids
    assert not (tmp_path / "s.zip").exists()


# ------------------------------------------------------------------------------------ trivial


def test_trivial(tiny, tmp_path):
    # Each of the 36 labels occurs once: a single emotion is 1 of 36, a pair 3 of 36, a blend 1 of 30.
    text = run("trivial", "--metadata", tiny.train).stdout
    for figure, clips in (("0.0278", "1/36"), ("0.0833", "3/36"), ("0.0333", "1/30")):
        assert re.search(rf"{figure} +{clips}", text)
    answers = json.loads(run("trivial", "--metadata", tiny.train, "--json").stdout)
    assert answers["single"]["answer"] == "ang"  # the lowest index of equals
    assert answers["pair"]["answer"] == answers["blend"]["answer"] == "ang+disg 70/30"


def test_trivial_is_fitted_on_the_scored_labels_or_on_train(tiny, tmp_path):
    labels = tmp_path / "labels.json"
    labels.write_text(
        json.dumps({"labels": {"t1": to_entry(LABELS[3]), "t2": to_entry(LABELS[3]), "t3": to_entry(LABELS[35])}})
    )
    scored = json.loads(run("trivial", "--metadata", tiny.train, "--labels", labels, "--json").stdout)
    train_answers = json.loads(
        run("trivial", "--metadata", tiny.train, "--labels", labels, "--fit", "train", "--json").stdout
    )
    assert (scored["single"]["answer"], scored["single"]["presence"], scored["single"]["n"]) == ("hap", 2, 3)
    assert (train_answers["single"]["answer"], train_answers["single"]["presence"], train_answers["single"]["n"]) == (
        "ang",
        0,
        3,
    )


def test_trivial_submissions(tiny, tmp_path):
    out = tmp_path / "trivial"
    result = run("trivial", "--metadata", tiny.train, "--ids", tiny.test, "--out", out)
    assert sorted(path.name for path in out.iterdir()) == [
        "trivial_blend.zip",
        "trivial_pair.zip",
        "trivial_single.zip",
    ]
    assert result.stderr.count("8 clips, checked") == 3 and "checked" not in result.stdout
    for path in out.iterdir():
        run("--check", path, "--ids", tiny.test, command=blemore_score)


# -------------------------------------------------------------------------- a user's mistakes


def good(tiny):
    return ["--metadata", tiny.train, "--features", tiny.sound]


def absent_files(tiny, path, out, zipped, table):
    return [
        # a missing file
        (["train", "--metadata", path / "absent", "--features", tiny.sound, *out], 3, "cannot be opened"),
        (["train", "--metadata", tiny.train, "--features", path / "absent", *out], 3, "cannot be opened"),
        (["train", "--metadata", tiny.root, "--features", tiny.sound, *out], 3, "cannot be opened"),
        (
            ["predict", "--model", path / "absent", "--features", tiny.sound_test, "--ids", tiny.test, *zipped],
            3,
            "model.json",
        ),
        (
            ["predict", "--model", path / "empty", "--features", tiny.sound_test, "--ids", tiny.test, *zipped],
            3,
            "model.json",
        ),
        (
            ["predict", "--model", path / "absent", "--features", tiny.sound_test, "--ids", path / "absent", *zipped],
            3,
            "cannot be opened",
        ),
        (["decode", "--metadata", tiny.train, "--scores", path / "absent"], 3, "cannot be opened"),
        (["aggregate", "--features", path / "absent", "--metadata", tiny.train, *table], 3, "cannot be opened"),
        (["trivial", "--metadata", path / "absent"], 3, "cannot be opened"),
        (["report", path / "absent"], 3, "holds no run"),
        (["train", *good(tiny), "--out", path / "text.csv" / "run"], 3, "cannot be written"),
        (
            ["aggregate", "--features", tiny.sound, "--metadata", tiny.train, "--out", path / "folder.npz"],
            3,
            "cannot be written",
        ),
    ]


def other_contents(tiny, path, out, table):
    return [
        # a file with other contents
        (["train", "--metadata", path / "text.csv", "--features", tiny.sound, *out], 1, "text.csv"),
        (["train", "--metadata", path / "binary.csv", "--features", tiny.sound, *out], 1, "UTF-8"),
        (["train", "--metadata", path / "empty.csv", "--features", tiny.sound, *out], 1, "empty"),
        (["train", "--metadata", tiny.test, "--features", tiny.sound, *out], 1, "only ids"),
        (["train", "--metadata", tiny.train, "--features", path / "text.csv", *out], 1, "expected filename"),
        (["train", "--metadata", tiny.train, "--features", path / "binary.csv", *out], 1, "not a CSV table"),
        (["train", "--metadata", tiny.train, "--features", path / "empty", *out], 1, "no .npy or .csv files"),
        (
            ["train", "--metadata", tiny.train, "--features", tiny.sound_test, *out],
            1,
            "36 of 36 clips have no features",
        ),
        (["train", *good(tiny), "--out", tiny.root], 1, "holds no run"),
        (["decode", "--metadata", tiny.train, "--scores", tiny.sound], 1, "expected filename and the six emotions"),
        (["decode", "--metadata", tiny.train, "--scores", path / "text.csv"], 1, "expected filename"),
        (["aggregate", "--features", tiny.sound, "--metadata", tiny.test, *table], 1, "8 of 8 clips have no features"),
        # the labels to score on are the organiser's
        (["trivial", "--metadata", path / "text.csv"], 4, "text.csv"),
        (["trivial", "--metadata", tiny.train, "--labels", path / "labels.json"], 4, "labels.json"),
    ]


def misuse(tiny, path, out, table):
    return [
        # usage
        ([], 2, "Usage"),
        (["trian"], 2, "No such command"),
        (["train", *good(tiny)], 2, "--out"),
        (
            ["aggregate", "--features", tiny.sound, "--metadata", tiny.train, "--out", path / "out.csv"],
            2,
            "expected a name that ends in .npz",
        ),
        (
            ["predict", "--model", path / "absent", "--features", tiny.sound_test, "--ids", tiny.test, *out],
            2,
            "expected a name that ends in .zip",
        ),
        (
            [
                "decode",
                "--metadata",
                tiny.train,
                "--scores",
                path / "text.csv",
                "--test-scores",
                path / "text.csv",
                *table,
            ],
            2,
            "expected a name that ends in .zip",
        ),
        # a file instead of a folder
        (["demo", "--out", path / "text.csv"], 2, "is a file"),
        (["extract", "--clips", tiny.root, "--encoder", "logmel", "--out", path / "text.csv"], 2, "is a file"),
        (["train", *good(tiny), "--out", path / "text.csv"], 2, "is a file"),
        (["trivial", "--metadata", tiny.train, "--out", path / "text.csv"], 2, "is a file"),
        (["template", "--out", path / "text.csv"], 2, "is a file"),
        (["data", "check", tiny.root, "--figures", path / "text.csv"], 2, "is a file"),
        (
            ["reproduce", "--features-root", tiny.root, "--metadata", tiny.train, "--out", path / "text.csv"],
            2,
            "is a file",
        ),
        (["train", *good(tiny), *out, "--seed", "-1"], 2, "--seed"),
        (["train", *good(tiny), *out, "--head", "mlp1024"], 2, "mlp512"),
        (["report", path / "absent", "--submission", path / "text.csv"], 2, "go together"),
    ]


def misuse_of_decoders(tiny, path, out):
    return [
        (["train", *good(tiny), *out, "--weight", "0.3"], 2, "--weight goes with --decoder structured"),
        (
            ["decode", "--metadata", tiny.train, "--scores", path / "absent", "--weight", "0"],
            2,
            "--weight goes with --decoder structured",
        ),
        (
            ["train", *good(tiny), *out, "--decoder", "structured", "--test-protocol", "retrain"],
            2,
            "--decoder structured goes with --test-protocol pooled; retrain uses the best fold's thresholds",
        ),
    ]


def mistakes(tiny, tmp_path):
    """(arguments, exit code, part of the message) of each mistake. `tiny` is a valid dataset."""
    (tmp_path / "text.csv").write_text("hello\nworld\n")
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "labels.json").write_text("{")
    out, zipped, table = (["--out", tmp_path / name] for name in ("out", "out.zip", "out.npz"))
    return [
        *absent_files(tiny, tmp_path, out, zipped, table),
        *other_contents(tiny, tmp_path, out, table),
        *misuse(tiny, tmp_path, out, table),
        *misuse_of_decoders(tiny, tmp_path, out),
    ]


def test_a_user_s_mistake_has_a_message_and_an_exit_code(tiny, tmp_path):
    codes = set()
    for arguments, code, message in mistakes(tiny, tmp_path):
        codes.add(code)
        result = run(*arguments, code=code)
        assert message in result.stderr, (arguments, result.stderr)
        assert not list(tmp_path.glob("out*")), arguments
    assert codes == {1, 2, 3, 4}


@pytest.mark.usefixtures("quick")
def test_a_report_on_an_incomplete_run(tiny, tmp_path):
    run("train", "--metadata", tiny.train, "--features", tiny.sound, "--head", "linear", "--out", tmp_path / "run")
    for name in ("learning_curves.csv", "config.json"):
        (tmp_path / "run" / name).unlink()
        assert name in run("report", tmp_path / "run", code=3).stderr


@pytest.mark.usefixtures("quick")
def test_predict_cannot_overwrite_a_folder(tiny, tmp_path):
    run("train", "--metadata", tiny.train, "--features", tiny.sound, "--head", "linear", "--out", tmp_path / "run")
    (tmp_path / "folder.zip").mkdir()
    result = run(
        "predict",
        "--model",
        tmp_path / "run",
        "--features",
        tiny.sound_test,
        "--ids",
        tiny.test,
        "--out",
        tmp_path / "folder.zip",
        code=3,
    )
    assert "cannot be written" in result.stderr


def test_the_console_script_runs():
    assert isinstance(main, click.Group)
    program = Path(sys.executable).with_name("blemore-baselines")
    if not program.exists():
        pytest.skip("the console script is not installed with this Python")
    result = subprocess.run([program, "trivial", "--metadata", "nowhere.csv"], capture_output=True, text=True)
    assert result.returncode == 3 and result.stdout == "" and "nowhere.csv: cannot be opened" in result.stderr
