"""The paper's tables from a generated dataset in the official layout: every row, and what happens if features are
missing or wrong.
"""

import csv
import json
import re
import shutil
import subprocess
import sys
import time

import matplotlib.text
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import metadata_csv

from blemore.errors import FileError, Problem, ValidationError
from blemore.evaluate import check
from blemore.labels import LABELS
from blemore.validate import Reference
from blemore_baselines import train
from blemore_baselines.cli import main
from blemore_baselines.dataset import TARGETS, Dataset, read_dataset
from blemore_baselines.decoding.accounts import figures_with_intervals
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.demo.generator import plan
from blemore_baselines.features import fuse, read_features, read_scores
from blemore_baselines.models.crossval import cross_validate
from blemore_baselines.models.recipes import HEADS, PRESETS, Recipe
from blemore_baselines.paper import reproduce, tables
from blemore_baselines.paper.tables import Row
from blemore_baselines.results import plots
from blemore_baselines.results.published import paper_name, read_published, read_published_trivial
from blemore_baselines.sources.meta import STATISTICS

pytestmark = pytest.mark.usefixtures("short", "one_thread")

N, N_TEST, FOLDS = 72, 12, 3
DIMS = {
    "CLIP": 12,
    "HiCMAE": 16,
    "ImageBind": 10,
    "OpenFace_3": 11,
    "VideoMAEv2": 14,
    "VideoSwin": 8,
    "HuBERT_large": 9,
    "WavLM_large": 13,
}
COLUMNS = ("published account", "the paper", "difference")
FEW = ("HiCMAE", "ImageBind", "WavLM_large")
OPENFACE = "frame,emotion_index,gaze_yaw,gaze_pitch,action_units\n"


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    """Progress bars would only slow the tests down."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TQDM_DISABLE", "1")
        yield


@pytest.fixture
def short(monkeypatch):
    """Both presets with a few epochs and a large step."""
    for preset, rate in (("published", 1e-2), ("fast", 3e-2)):
        monkeypatch.setitem(
            PRESETS, preset, {"aggregate": Recipe(rate, 1e-3, 16, 4, 3), "subsample": Recipe(rate, 1e-3, 64, 3, 3)}
        )


@pytest.fixture
def root(tmp_path):
    """The official layout, for the given encoders, with train.csv, test.csv and labelled.csv next to it."""
    rng = np.random.default_rng(3)
    labels = np.concatenate([rng.permutation(36), rng.permutation(36)])
    truth = {"train": labels, "test": rng.choice(36, N_TEST, replace=False)}
    (tmp_path / "train.csv").write_text(metadata_csv(labels, FOLDS))
    ids = {"train": [f"clip{k:02}" for k in range(N)], "test": [f"test_{k:04}" for k in range(1, N_TEST + 1)]}
    (tmp_path / "test.csv").write_text("filename\n" + "".join(f"{clip}.mov\n" for clip in ids["test"]))
    rows = metadata_csv(truth["test"], FOLDS).splitlines()
    (tmp_path / "labelled.csv").write_text(
        "\n".join([rows[0], *(f"{clip}.mov,{row.partition(',')[2]}" for clip, row in zip(ids["test"], rows[1:]))])
        + "\n"
    )

    def make(*encoders):
        for encoder in encoders or DIMS:
            mixing = rng.normal(size=(6, DIMS[encoder]))
            for part in ("train", "test"):
                folder = tmp_path / "data" / f"pre_extracted_{part}_data" / f"{encoder}_{part}"
                folder.mkdir(parents=True)
                for clip, label in zip(ids[part], truth[part]):
                    frames = (TARGETS[label] @ mixing + rng.normal(size=(4, DIMS[encoder]))).astype(np.float32)
                    if encoder == "OpenFace_3":
                        cells = [
                            ["nan"] * 8 if k == 9 else frame[3:].tolist()
                            for k, frame in enumerate(np.repeat(frames, 4, axis=0))
                        ]
                        rows = [
                            f'{k},{k % 8},{frames[0, 1]},{frames[0, 2]},"[{", ".join(map(str, cell))}]"'
                            for k, cell in enumerate(cells)
                        ]
                        (folder / f"{clip}.csv").write_text(OPENFACE + "\n".join(rows) + "\n")
                    else:
                        more_axes = encoder == "VideoMAEv2" and int(clip[-2:]) % 5 == 0
                        np.save(folder / f"{clip}.npy", frames.reshape(2, 2, -1) if more_axes else frames)
        return tmp_path / "data"

    return make


def run(root, out, test=None, **options):
    base = root.parent
    return reproduce.reproduce(root, base / "train.csv", out, test=test and base / test, **options)


def names(outcome):
    return [result.row.name for result in outcome.results]


def contents(folder):
    return {
        path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


# ------------------------------------------------------------------------------- the published figures


def test_the_published_figures():
    rows = {(*row.encoders, row.method): row for row in read_published()}
    assert len(rows) == 13 and sum("subsample" in key for key in rows) == 2 and sum(len(key) == 3 for key in rows) == 4
    best = rows["ImageBind", "WavLM", "aggregate"]
    assert best.validation == {
        "acc_presence": {"mean": 0.345, "std": 0.035},
        "acc_salience": {"mean": 0.170, "std": 0.055},
    }
    assert best.test == {"acc_presence": 0.327, "acc_salience": 0.114}
    assert rows["VideoSwin", "subsample"].test == {"acc_presence": 0.197, "acc_salience": 0.087}
    assert read_published_trivial()["blend"]["test"] == {"acc_presence": 0.059, "acc_salience": 0.036}


@pytest.mark.parametrize(
    "name, spellings",
    {
        "WavLM": ["WavLM_large", "wavlm", "WAVLM-Large"],
        "HuBERT": ["hubert", "HuBERT_large"],
        "OpenFace": ["OpenFace_3", "openface2"],
        "VideoMAEv2": ["VideoMAEv2", "videomae_v2", "videomaev2-base"],
        "VideoSwin": ["videoswin", "Video_Swin"],
        "CLIP": ["clip"],
        "videoswin-t": ["videoswin-t"],
    }.items(),
)
def test_names_of_encoders(name, spellings):
    assert {paper_name(spelling) for spelling in spellings} == {name}


# ------------------------------------------------------------------------------------------ all of it


def test_every_row_of_the_paper(root, tmp_path):
    outcome = run(root(), tmp_path / "out", test="labelled.csv")
    assert outcome.not_run == []
    assert names(outcome) == [*(Row(row.encoders, row.method).name for row in read_published()), "HiCMAE"]
    assert [result.row.name for result in outcome.results if result.row.published is None] == ["HiCMAE"]
    dims = {result.row.name: [features["dim"] for features in result.features] for result in outcome.results}
    assert (
        dims["VideoMAEv2"] == [7 * 14]
        and dims["VideoMAEv2 (subsampled)"] == [14]
        and dims["OpenFace"] == [77]
        and dims["ImageBind + WavLM"] == [70, 91]
    )
    for name in ("results.txt", "results.csv", "results.tex", "results.json"):
        text = (tmp_path / "out" / name).read_text()
        assert "clips:72|folds:3|" in text and "preset:published" in text and "WavLM" in text
    signature = outcome.text.splitlines()[-1].encode()
    for form, start in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        content = (tmp_path / "out" / f"results.{form}").read_bytes()
        assert content.startswith(start) and content.count(signature) == 1
    assert outcome.text == (tmp_path / "out" / "results.txt").read_text()
    folder = tmp_path / "out" / "VideoSwin-subsample"  # a score source
    assert read_scores(folder).X.shape == (N, 6) and read_scores(folder, test=True).X.shape == (N_TEST, 6)
    with open(tmp_path / "out" / "results.csv") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert len(rows) == 14 * 3 and {row["head"] for row in rows} == set(HEADS)
    (row,) = [
        row
        for row in rows
        if (row["features"], row["method"], row["head"]) == ("VideoMAEv2 + HuBERT", "aggregate", "mlp512")
    ]
    assert (
        float(row["paper_presence"]),
        float(row["paper_presence_std"]),
        float(row["paper_test_salience"]),
    ) == (0.332, 0.016, 0.114)
    assert float(row["presence_difference"]) == float(row["published_account_presence"]) - 0.332
    assert float(row["test_salience_difference"]) == float(row["test_salience"]) - 0.114
    assert all(row["paper_presence"] == "" for row in rows if row["head"] != "mlp512" or row["features"] == "HiCMAE")


def test_a_row_s_figures_are_those_of_training(root, tmp_path):
    data = root(*FEW)
    outcome = run(data, tmp_path / "out", test="labelled.csv", preset="fast", seed=3)
    assert names(outcome) == ["ImageBind", "WavLM", "ImageBind + WavLM", "HiCMAE"]
    dataset = read_dataset(tmp_path / "train.csv")
    paths = [data / "pre_extracted_train_data" / f"{encoder}_train" for encoder in ("ImageBind", "WavLM_large")]
    sources = [read_features(path, dataset.ids) for path in paths]
    logits = cross_validate(dataset, fuse(sources), PRESETS["fast"]["aggregate"], list(HEADS), [3]).logits
    pair = outcome.results[2]
    for head, head_logits in zip(HEADS, logits[:, 0]):
        assert pair.heads[head] == json.loads(json.dumps(figures_with_intervals(dataset, softmax(head_logits))))
    # `train` with the protocol `retrain`, by which the paper's test table was made
    metrics = train.train(
        dataset,
        sources,
        paths,
        method="aggregate",
        head="mlp512",
        preset="fast",
        seed=3,
        out=tmp_path / "run",
        test_protocol="retrain",
    )
    # The published account is the same. A row chooses its nested epochs; a run uses those of the model that it saves.
    assert metrics["published"] == pair.heads["mlp512"]["published"]
    assert {fold["epoch"] for fold in metrics["nested"]["folds"]} == {metrics["final"]["epochs"]}
    assert {key: metrics["final"][key] for key in ("alpha", "beta", "epochs")} == {
        key: pair.test[key] for key in ("alpha", "beta", "epochs")
    }
    test_paths = [data / "pre_extracted_test_data" / f"{encoder}_test" for encoder in ("WavLM_large", "ImageBind")]
    from blemore_baselines.predict import predict

    clips = [f"test_{k:04}" for k in range(1, N_TEST + 1)]
    _, labels = predict(tmp_path / "run", test_paths, clips)
    submitted = check(tmp_path / "out" / "ImageBind+WavLM-aggregate" / "submission.zip", clips)
    assert [submitted[clip].label for clip in clips] == [LABELS[label] for label in labels]
    truth = [next(LABELS[label] for label in range(36) if to_row(label) == row) for row in labelled(tmp_path)]
    right = sum(submitted[clip].label.emotions == label.emotions for clip, label in zip(clips, truth))
    assert pair.test["figures"]["acc_presence"] == right / N_TEST


def to_row(label):
    return metadata_csv([label]).splitlines()[1].split(",")[2:7]


def labelled(base):
    return [line.split(",")[2:7] for line in (base / "labelled.csv").read_text().splitlines()[1:]]


# ------------------------------------------------------------------------------ tables and the figure


@pytest.fixture
def outcome_of(tmp_path):
    """write(dataset): the files of a row of the paper and a row of our own, for these clips; nothing is trained."""

    def write(dataset, labels=None):
        rng = np.random.default_rng(5)
        accounts = figures_with_intervals(dataset, softmax(rng.normal(size=(2, len(dataset.ids), 6))))
        published = next(row for row in read_published() if row.encoders == ("WavLM",))
        test = {"features": ["f"], "figures": {"acc_presence": 0.25, "acc_salience": 0.125}}
        results = [
            tables.Result(Row(encoders, "aggregate", row), [{"digest": "f"}], {"mlp512": accounts}, test)
            for encoders, row in ((("WavLM",), published), (("own_1",), None))
        ]
        setting = tables.Setting(dataset, tmp_path, "fast", 0, "retrain", ["a"], labels)
        return tables.write_results(results, [], {}, setting), accounts

    return write


def dataset_of(names):
    ids = list(names)
    labels = np.arange(len(ids)) % 36
    return Dataset(ids, labels, np.arange(len(ids)) // 36, [f"actor{k // 12}" for k in range(len(ids))])


LABELLED = Reference({"a": LABELS[0], "b": LABELS[7]}, {}, {})


def test_accounts_have_names_and_nested_figures_their_intervals(outcome_of, tmp_path):
    text, accounts = outcome_of(dataset_of(f"clip{k}" for k in range(72)), LABELLED)
    assert "ours" not in text and "demo" not in text
    header = text.splitlines()[1]
    assert re.split("  +", header) == [
        "features",
        *(f"{metric}, {kind}" for metric in ("presence", "salience") for kind in COLUMNS),
        "nested score",
        "low",
        "high",
    ]
    nested = accounts["nested"]
    low, high = nested["ci"]["intervals"]["score"]
    assert low < nested["score"] < high
    cells = re.split("  +", text.splitlines()[2])
    assert cells[-3:] == [f"{value:.4f}" for value in (nested["score"], low, high)]
    assert "presence, test" in text and text.count("0.250") == 2 and "-0.061" in text  # 0.250 − 0.311, the paper's
    (row, own) = csv.DictReader(line for line in open(tmp_path / "results.csv") if not line.startswith("#"))
    assert (float(row["nested_score_low"]), float(row["nested_score_high"])) == (low, high)
    assert float(row["test_presence_difference"]) == pytest.approx(0.25 - 0.311) and own["presence_difference"] == ""


def test_on_the_demo_there_are_no_differences(outcome_of, tmp_path):
    text, _ = outcome_of(dataset_of(take.name for take in plan()[0]), LABELLED)
    assert text.startswith("These are the demo's invented clips, so their figures are not subtracted from the paper's")
    for name in ("results.txt", "results.csv", "results.tex"):
        content = (tmp_path / name).read_text()
        assert "difference" not in content and "+0." not in content
    assert "0.311" in text  # the paper's own figures are still there
    assert (tmp_path / "results.tex").read_text().startswith("% These are the demo's")


def test_latex_is_whole_and_has_one_column_for_an_interval(outcome_of, tmp_path):
    outcome_of(dataset_of(f"clip{k}" for k in range(72)), LABELLED)
    text = (tmp_path / "results.tex").read_text()
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 3
    assert text.count(r"\caption{") == text.count(r"\label{tab:") == 3
    for part in text.split(r"\begin{tabular}{")[1:]:
        columns, _, rest = part.partition("}")
        body = rest.partition(r"\end{tabular}")[0]
        rows = [line for line in body.splitlines() if line.endswith(r" \\")]
        assert {line.count(" & ") + 1 for line in rows} == {len(columns)}
        for mark in (r"\toprule", r"\midrule", r"\bottomrule"):
            assert body.count(mark) == 1
        assert " low" not in rows[0] and not re.search(r"(?<![\w.)-])-\d", body)  # a minus, no hyphen
    assert text.count(r"95 \% interval") == 1 + 3 and "$-$0.061" in text and r"own\_1" in text


def test_the_figure_names_both_accounts_and_holds_no_signature(outcome_of, monkeypatch):
    drawings = []
    picture = plots.picture
    monkeypatch.setattr(plots, "picture", lambda canvas: drawings.append(canvas) or picture(canvas))
    outcome_of(dataset_of(take.name for take in plan()[0]))
    texts = " ".join(text.get_text() for text in drawings[0].findobj(matplotlib.text.Text))
    assert "published account, ± std" in texts and "nested, 95 % interval" in texts and "the paper" in texts
    assert "ours" not in texts and "|" not in texts and "version:" not in texts
    assert "the demo's clips are invented" in texts


# ----------------------------------------------------------------- missing and wrong features


def test_missing_features_are_named_and_are_not_a_failure(root, tmp_path):
    data = root(*FEW)
    shutil.rmtree(data / "pre_extracted_test_data" / "HiCMAE_test")
    outcome = run(data, tmp_path / "out", test="test.csv")
    reasons = {(entry.row.name, entry.part): entry.why for entry in outcome.not_run}
    assert len(reasons) == 10 + 1 and not any(entry.bad for entry in outcome.not_run)
    assert (
        reasons["CLIP", "train"] == "no features of CLIP"
        and reasons["VideoMAEv2 + HuBERT", "train"] == "no features of VideoMAEv2 and HuBERT"
    )
    assert reasons["HiCMAE", "test"] == "no features of HiCMAE"
    assert outcome.results[-1].row.name == "HiCMAE" and outcome.results[-1].test is None  # but validated
    not_run = json.loads((tmp_path / "out" / "results.json").read_text())["not_run"]
    assert len(not_run) == 11 and all(row["why"] in outcome.text for row in not_run)
    assert "has only ids" in outcome.text and outcome.results[0].test["figures"] is None
    assert check(
        tmp_path / "out" / "ImageBind-aggregate" / "submission.zip", [f"test_{k:04}" for k in range(1, N_TEST + 1)]
    )


def test_a_clip_missing_in_one_encoder_refuses_only_its_rows(root, tmp_path):
    data = root(*FEW)
    (data / "pre_extracted_train_data" / "WavLM_large_train" / "clip07.npy").unlink()
    outcome = run(data, tmp_path / "out")
    reasons = {entry.row.name: entry.why for entry in outcome.not_run if entry.bad}
    assert set(reasons) == {"WavLM", "ImageBind + WavLM"} and all(
        "1 of 72 clips have no features: clip07" in reason for reason in reasons.values()
    )
    assert names(outcome) == ["ImageBind", "HiCMAE"]
    assert outcome.text.count("clip07") == 1 and "Refused:\n  WavLM, ImageBind + WavLM:\n" in outcome.text
    result = CliRunner().invoke(
        main,
        [
            "reproduce",
            "--features-root",
            str(data),
            "--metadata",
            str(tmp_path / "train.csv"),
            "--out",
            str(tmp_path / "out"),
        ],
    )
    assert result.exit_code == 1 and result.stdout == outcome.text and "Traceback" not in result.output


def test_only_refused_rows(root, tmp_path):
    data = root("WavLM_large")
    np.save(data / "pre_extracted_train_data" / "WavLM_large_train" / "clip07.npy", np.full((4, 13), np.nan))
    outcome = run(data, tmp_path / "out", test="labelled.csv")
    assert outcome.results == [] and [entry.row.name for entry in outcome.not_run if entry.bad] == ["WavLM"]
    assert "hold NaN or Infinity: clip07" in outcome.text and "trivial: single" in outcome.text
    assert {path.name for path in (tmp_path / "out").glob("results.*")} == {
        f"results.{kind}" for kind in ("txt", "csv", "tex", "json")
    }, "without results, there is no figure"
    assert not list((tmp_path / "out").glob("*/figures.json"))


def own(base, encoder, preset, part="train"):
    """Features as `extract` writes them."""
    folder = base / part / encoder
    shutil.copytree(
        base / f"pre_extracted_{part}_data" / f"{'WavLM_large' if encoder == 'wavlm' else 'ImageBind'}_{part}", folder
    )
    (folder / "meta.json").write_text(json.dumps({"encoder": encoder, "revision": "1", "preset": preset}))
    return folder


def test_presets_of_train_and_test_must_agree(root, tmp_path):
    data = root("WavLM_large")
    own(data, "wavlm", "published"), own(data, "wavlm", "reference", "test")
    for part in ("train", "test"):
        shutil.rmtree(data / f"pre_extracted_{part}_data")
    outcome = run(data, tmp_path / "out", test="labelled.csv")
    (refusal,) = [entry for entry in outcome.not_run if entry.bad]
    assert (refusal.row.name, refusal.part) == ("WavLM", "test")
    assert 'preset is "reference", the model\'s "published"' in refusal.why
    assert names(outcome) == ["WavLM"] and not (tmp_path / "out" / "WavLM-aggregate" / "submission.zip").exists()


@pytest.mark.parametrize("visual, fits", [("videomaev2", False), ("imagebind", True)])
def test_presets_within_a_row_must_agree_where_there_is_a_choice(root, tmp_path, visual, fits):
    """ImageBind has only one preset, so its preset need not be that of the other encoder."""
    data = root("ImageBind", "WavLM_large")
    own(data, visual, "reference"), own(data, "wavlm", "published")
    shutil.rmtree(data / "pre_extracted_train_data")
    outcome = run(data, tmp_path / "out")
    refusals = [entry for entry in outcome.not_run if entry.bad]
    assert ("VideoMAEv2 + WavLM" in [entry.row.name for entry in refusals]) == (not fits)
    assert ("ImageBind + WavLM" in names(outcome)) == fits
    if not fits:
        assert '"reference" and "published"' in refusals[0].why and str(data / "train" / "wavlm") in refusals[0].why


def test_our_own_folders_and_aggregated_files(root, tmp_path):
    data = root("ImageBind", "WavLM_large")
    official = data / "pre_extracted_train_data"
    table = read_features(official / "ImageBind_train")
    np.savez(data / "videoswin_static_features.npz", X=table.X, filenames=np.array(table.ids))
    own(data, "wavlm", "published")
    outcome = run(data, tmp_path / "out")
    assert names(outcome) == ["ImageBind", "VideoSwin", "WavLM", "ImageBind + WavLM"]
    assert outcome.results[1].features[0]["statistics"] == list(STATISTICS)
    (aggregated_alone,) = [entry for entry in outcome.not_run if entry.row.name == "VideoSwin (subsampled)"]
    assert not aggregated_alone.bad and "videoswin_static_features.npz" in aggregated_alone.why
    assert outcome.results[2].features[0]["path"] == str(official / "WavLM_large_train")
    assert f"{official / 'WavLM_large_train'} was used, not {data / 'train' / 'wavlm'}" in outcome.text


@pytest.mark.parametrize(
    "make, code, message",
    [
        (lambda base: base / "nowhere", 3, "no such folder"),
        (lambda base: (base / "empty").mkdir() or base / "empty", 1, "contains no features"),
    ],
)
def test_nothing_to_start_from(root, tmp_path, make, code, message):
    result = CliRunner().invoke(
        main,
        [
            "reproduce",
            "--features-root",
            str(make(tmp_path)),
            "--metadata",
            str(tmp_path / "train.csv"),
            "--out",
            str(tmp_path / "out"),
        ],
    )
    assert (
        result.exit_code == code
        and message in result.stderr
        and result.stdout == ""
        and not (tmp_path / "out").exists()
    )


# ------------------------------------------------------------------------------------- resuming


def test_a_stopped_run_resumes_and_a_finished_one_does_nothing(root, tmp_path, monkeypatch):
    data = root(*FEW)
    rows = []  # the trained ones

    def count(*arguments, **options):
        if len(rows) == 2 and options["title"] not in rows:
            raise KeyboardInterrupt
        rows.append(options["title"])
        return cross_validate(*arguments, **options)

    monkeypatch.setattr(reproduce, "cross_validate", count)
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "out", test="labelled.csv")
    assert rows == ["ImageBind", "WavLM"]
    rows[:] = ["elsewhere"] * 3
    outcome = run(data, tmp_path / "out", test="labelled.csv")
    assert rows[3:] == ["ImageBind + WavLM", "HiCMAE"]
    before = {path: state for path, state in contents(tmp_path / "out").items() if path.parent.name}
    monkeypatch.setattr(reproduce, "fit_final", None)
    again = run(data, tmp_path / "out", test="labelled.csv")
    assert len(rows) == 5 and again == outcome
    assert before == {
        path: state for path, state in contents(tmp_path / "out").items() if path.parent.name
    }  # and nothing is written again
    assert run(data, tmp_path / "other", test=None).results[0].heads == outcome.results[0].heads


def test_finished_folds_are_kept(root, tmp_path, monkeypatch):
    data = root("ImageBind")

    def stopped(*arguments, keep, **options):
        cross_validate(*arguments, keep=keep, **options)
        (keep / "fold_1.npz").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(reproduce, "cross_validate", stopped)
        run(data, tmp_path / "out")
    folder = tmp_path / "out" / "ImageBind-aggregate"
    assert sorted(path.name for path in (folder / "folds").iterdir()) == ["fold_0.npz", "fold_2.npz"]
    first = run(data, tmp_path / "out")
    assert not (folder / "folds").exists() and first.results == run(data, tmp_path / "other").results


@pytest.mark.parametrize("options", [{"preset": "fast"}, {"seed": 1}])
def test_another_preset_or_seed_is_refused_immediately(root, tmp_path, options):
    data = root("ImageBind")
    run(data, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(ValidationError, match=f"another {[*options][0]}"):
        run(data, tmp_path / "out", **options)
    assert contents(tmp_path / "out") == before


def test_changed_features_refuse_their_rows(root, tmp_path):
    data = root(*FEW)
    run(data, tmp_path / "out")
    np.save(data / "pre_extracted_train_data" / "HiCMAE_train" / "clip00.npy", np.ones((3, 16), dtype=np.float32))
    outcome = run(data, tmp_path / "out")
    (refusal,) = [entry for entry in outcome.not_run if entry.bad]
    assert (
        refusal.row.name == "HiCMAE"
        and "trained on different features (source 1)" in refusal.why
        and len(outcome.results) == 3
    )


def test_another_test_protocol_predicts_again(root, tmp_path, capfd):
    data = root("WavLM_large")
    retrain = run(data, tmp_path / "out", test="test.csv").results[0].test
    best = run(data, tmp_path / "out", test="test.csv", test_protocol="best-fold").results[0].test
    assert "WavLM: test_protocol and epochs changed" in capfd.readouterr().err
    assert (best["alpha"], best["beta"], best["fitted_on"]) == (retrain["alpha"], retrain["beta"], retrain["fitted_on"])
    assert best["epochs"] == int(best["fitted_on"].rpartition(" ")[2]) and retrain["epochs"] == 3
    scored = run(data, tmp_path / "out", test="labelled.csv", test_protocol="best-fold")
    assert scored.results[0].test["figures"]["n"] == N_TEST
    assert capfd.readouterr().err == ""  # the clips are the same, so they are scored but not predicted again
    labelled = data.parent / "labelled.csv"
    labelled.write_text(labelled.read_text().replace("ang", "?").replace("fea", "ang").replace("?", "fea"))
    others = run(data, tmp_path / "out", test="labelled.csv", test_protocol="best-fold")
    before, now = (
        dict(field.split(":", 1) for field in outcome.text.splitlines()[-1].split("|")) for outcome in (scored, others)
    )
    assert [name for name in now if now[name] != before[name]] == ["test_labels"], (
        "a signature covers everything that figures depend on"
    )


def test_a_full_disk_stops_all_rows(root, tmp_path, monkeypatch):
    data = root(*FEW)

    def full(path, _):
        raise FileError(Problem("cannot-write", str(path), "cannot be written: no space left on device"))

    monkeypatch.setattr(reproduce, "write_atomic", full)
    with pytest.raises(FileError, match="oof_logits.csv"):
        run(data, tmp_path / "out")


def test_killed_again_and_again(root, tmp_path, long):
    """Real kills, up to five seconds after each start; the result equals that of an uninterrupted run."""
    if not long:
        pytest.skip("takes a minute: --long")
    data = root(*FEW)
    command = [
        sys.executable,
        "-P",
        "-c",
        "from blemore_baselines.cli import main; main()",
        "reproduce",
        "--features-root",
        data,
        "--metadata",
        tmp_path / "train.csv",
        "--test",
        tmp_path / "labelled.csv",
        "--preset",
        "fast",
        "--out",
    ]
    subprocess.run([*command, tmp_path / "whole"], check=True, capture_output=True)
    for seconds in (2, 3, 4, 4.5, 5):
        process = subprocess.Popen(
            [*command, tmp_path / "broken"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(seconds)
        process.kill()
        process.wait()
    subprocess.run([*command, tmp_path / "broken"], check=True, capture_output=True)
    whole, broken = (
        {path: raw for path, (raw, _) in contents(tmp_path / name).items() if path.name[0] != "."}
        for name in ("whole", "broken")
    )
    assert whole == broken
