"""Training on a tiny dataset: reproducible to the byte, resumable, and without leaks from the held-out fold."""

import json
import math
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from blemore.errors import FileError, ValidationError
from blemore_baselines import decoding as decode
from blemore_baselines import train
from blemore_baselines.models import crossval, heads, run_folder
from blemore_baselines.models.crossval import fold_seed
from blemore_baselines.models.heads import build_head, clip_logits, fit_scaler, row_losses
from blemore_baselines.models.loop import fit_model, fit_models
from blemore_baselines.models.recipes import HEADS, Recipe

pytestmark = pytest.mark.usefixtures("quick", "one_thread")


def run(
    tiny,
    out,
    features=None,
    dataset=None,
    method="aggregate",
    head="linear",
    seed=0,
    preset="published",
    paths=("features",),
    **options,
):
    sources = [tiny.read(tiny.sound, aggregated=method == "aggregate")] if features is None else features
    return train.train(
        dataset or tiny.dataset, sources, paths, method=method, head=head, preset=preset, seed=seed, out=out, **options
    )


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def oof(folder):
    with np.load(folder / "oof_logits.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive}


FILES = {
    "config.json",
    "folds.csv",
    "labels.csv",
    "learning_curves.csv",
    "metrics.json",
    "model.json",
    "model.safetensors",
    "oof_logits.csv",
    "oof_logits.npz",
}


# ---------------------------------------------------------------------- the same bytes


@pytest.mark.parametrize("method, head", [("aggregate", "linear"), ("aggregate", "mlp256"), ("subsample", "mlp256")])
def test_the_same_seed_gives_the_same_bytes(tiny, tmp_path, method, head):
    run(tiny, tmp_path / "one", method=method, head=head)
    torch.manual_seed(12345)  # earlier states must not matter
    np.random.seed(6)
    run(tiny, tmp_path / "two", method=method, head=head)
    first, second = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert set(first) == FILES and [name for name in first if first[name] != second[name]] == []


def test_the_number_of_threads_does_not_matter(tiny, tmp_path, monkeypatch):
    run(tiny, tmp_path / "one", head="mlp512")
    monkeypatch.setattr(crossval, "available_cores", lambda: 1)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        run(tiny, tmp_path / "two", head="mlp512")
        assert torch.get_num_threads() == 4  # restored
    finally:
        torch.set_num_threads(before)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_another_seed_gives_another_run_and_zero_is_a_seed(tiny, tmp_path):
    logits = []
    for seed in (0, 1, 2):
        run(tiny, tmp_path / str(seed), seed=seed)
        logits.append(oof(tmp_path / str(seed))["logits"])
    assert (
        not np.allclose(logits[0], logits[1])
        and not np.allclose(logits[1], logits[2])
        and not np.allclose(logits[0], logits[2])
    )


def test_each_fold_has_its_own_seed():
    seeds = [fold_seed(seed, fold) for seed in (0, 1) for fold in (-1, 0, 1, 2, 3, 4)]
    assert len(set(seeds)) == 12 and fold_seed(0, 0) == fold_seed(0, np.int64(0))


# ---------------------------------------------------------------------- what is in the folder


def test_the_artefact_is_complete_and_its_figures_follow_from_the_logits(tiny, tmp_path, quick, monkeypatch):
    inputs = []
    monkeypatch.setattr(train, "fit_exact", lambda p, labels: inputs.append(p) or decode.fit_exact(p, labels))
    metrics = run(tiny, tmp_path / "run")
    out, arrays = tmp_path / "run", oof(tmp_path / "run")
    assert arrays["logits"].shape == (4, 36, 6) and arrays["logits"].dtype == np.float32
    assert arrays["filenames"].tolist() == tiny.dataset.ids and (arrays["folds"] == tiny.dataset.folds).all()
    assert json.loads((out / "metrics.json").read_text()) == json.loads(json.dumps(metrics))

    # The final model trains for 4 epochs, so its nested account, thresholds and score table are those of epoch 4.
    probabilities = decode.softmax(arrays["logits"])
    last = decode.figures(probabilities[3:], tiny.dataset.labels, tiny.dataset.folds)["nested"]
    ci = metrics["nested"].pop("ci")
    assert metrics["nested"] == {**last, "folds": [{**fold, "epoch": 4} for fold in last["folds"]]}
    assert ci["unit"] == "actor" and set(ci["intervals"]) == {"acc_presence", "acc_salience", "score"}
    published = decode.figures(probabilities, tiny.dataset.labels, tiny.dataset.folds)["published"]
    assert metrics["published"] == published  # of all epochs
    thresholds = decode.fit_exact(probabilities[3], tiny.dataset.labels).thresholds
    (pooled,) = [rows for rows in inputs if len(rows) == 36]
    assert (pooled == probabilities[3]).all()
    assert (metrics["final"]["alpha"], metrics["final"]["beta"], metrics["final"]["epochs"]) == (*thresholds, 4)
    from blemore_baselines.features import read_scores

    assert np.float32(read_scores(out, tiny.dataset.ids).X).tolist() == arrays["logits"][3].tolist()
    check_model(out, thresholds, quick)
    scaler = fit_scaler(tiny.read(tiny.sound).X)  # of all of train
    tensors = load_file(out / "model.safetensors")
    assert set(tensors) == {"head.weight", "head.bias", "scaler.mean", "scaler.scale"}
    assert (tensors["scaler.mean"] == scaler.mean).all() and (tensors["scaler.scale"] == scaler.scale).all()
    check_curves(out, tiny.dataset, arrays["logits"])
    assert len((out / "folds.csv").read_text().splitlines()) == 1 + 2 * 3


def check_model(out, thresholds, quick):
    model = json.loads((out / "model.json").read_text())
    assert model["emotions"] == ["ang", "disg", "fea", "hap", "sad", "neu"]
    assert (model["head"], model["method"], model["seed"], model["folds"]) == ("linear", "aggregate", 0, [0, 1, 2])
    assert model["decoder"] == {"name": "thresholds", **thresholds._asdict()}
    assert model["recipe"] == quick["aggregate"]._asdict()
    assert set(model["versions"]) == {"blemore", "python", "numpy", "torch"}
    (source,) = model["features"]
    assert (
        source["encoder"] == "sound"
        and source["dim"] == 35
        and source["statistics"][0] == "mean"
        and source["path"] == "features"
    )


def check_curves(out, dataset, logits):
    curves = (out / "learning_curves.csv").read_text().splitlines()
    assert curves[0] == "fold,epoch,train_loss,validation_loss,published_score" and len(curves) == 1 + 3 * 4
    fold, epoch, _, loss, score = curves[1 + 4 + 2].split(",")  # fold 1, epoch 3
    inside = dataset.folds == 1
    assert (fold, epoch) == ("1", "3")
    assert float(score) == pytest.approx(
        decode.fit_grid(decode.softmax(logits[2, inside]), dataset.labels[inside])[1], abs=1e-6
    )
    validation = row_losses(torch.from_numpy(logits[2, inside]), torch.from_numpy(dataset.targets[inside])).mean()
    assert float(loss) == pytest.approx(validation.item(), abs=1e-5)


def test_retrain_takes_the_thresholds_of_the_best_fold(tiny, tmp_path):
    metrics = run(tiny, tmp_path / "run", test_protocol="retrain")
    folds = metrics["published"]["folds"]
    best = folds[int(np.argmax([fold["score"] for fold in folds]))]  # argmax: the first if several are equal
    model = json.loads((tmp_path / "run" / "model.json").read_text())
    assert model["decoder"] == {"name": "thresholds", "alpha": best["alpha"], "beta": best["beta"]}
    assert (model["epochs"], model["folds"], metrics["final"]["fitted_on"]) == (
        3,
        [0, 1, 2],
        f"fold {best['fold']} at its epoch {best['epoch']}",
    )
    # The nested account is at its number of epochs, 3 of 4, and so is the score table.
    assert {fold["epoch"] for fold in metrics["nested"]["folds"]} == {3}
    from blemore_baselines.features import read_scores

    table, logits = read_scores(tmp_path / "run", tiny.dataset.ids).X, oof(tmp_path / "run")["logits"]
    assert np.float32(table).tolist() == logits[2].tolist()


@pytest.mark.parametrize(
    "folds, best",  # (score, presence) of folds 0, 1, …
    [
        ([(0.1, 0.5), (0.3, 0.2), (0.3, 0.9)], 1),
        ([(0.1, 0.2), (None, 1.0), (0.2, 0.1)], 2),
        ([(0.0, 0.0), (None, 1.0)], 0),
        ([(None, 0.1), (None, 0.4)], 1),
    ],
)
def test_the_best_fold_is_the_first_with_the_best_score_and_has_blends(folds, best):
    accounts = [
        {"fold": k, "epoch": k + 1, "alpha": k / 10, "beta": k / 20, "score": score, "acc_presence": presence}
        for k, (score, presence) in enumerate(folds)
    ]
    final = train.best_fold_final("best-fold", Recipe(1e-2, 1e-3, 8, 5, 3), {"published": {"folds": accounts}})
    assert final == (best, best + 1, (best / 10, best / 20), f"fold {best} at its epoch {best + 1}")


@pytest.mark.parametrize(
    "options", [{"test_protocol": "retrian"}, {"test_protocol": "best-fold", "decoder": "structured"}]
)
def test_an_unknown_test_protocol_is_refused(tiny, tmp_path, options):
    expected = "expected one of pooled, retrain, best-fold, and pooled with a decoder other than thresholds"
    with pytest.raises(ValueError, match=expected):
        run(tiny, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"decoder": "magic"}, "decoder 'magic'; expected one of thresholds, structured"),
        ({"weight": 0.5}, "options weight for decoder 'thresholds'; expected none"),
        ({"decoder": "structured", "wieght": 0.5}, "options wieght for decoder 'structured'; expected weight"),
    ],
)
def test_an_unknown_decoder_or_option_is_refused(tiny, tmp_path, options, says):
    with pytest.raises(ValueError, match=says):
        run(tiny, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_the_best_fold_s_model_has_its_own_scaler_and_gives_its_out_of_fold_logits(tiny, tmp_path):
    metrics = run(tiny, tmp_path / "run", test_protocol="best-fold", head="mlp256")
    folds = metrics["published"]["folds"]
    best = folds[int(np.argmax([fold["score"] for fold in folds]))]
    model = json.loads((tmp_path / "run" / "model.json").read_text())
    assert (model["epochs"], model["folds"]) == (best["epoch"], [fold for fold in (0, 1, 2) if fold != best["fold"]])
    X, inside = tiny.read(tiny.sound).X, tiny.dataset.folds == best["fold"]
    scaler, tensors = fit_scaler(X[~inside]), load_file(tmp_path / "run" / "model.safetensors")
    assert (tensors["scaler.mean"] == scaler.mean).all() and (tensors["scaler.scale"] == scaler.scale).all()
    from blemore_baselines.predict import predict

    (tmp_path / "held_out.csv").write_text(
        "filename\n" + "\n".join(clip for clip, is_inside in zip(tiny.dataset.ids, inside) if is_inside) + "\n"
    )
    for clip, outside in zip(tiny.dataset.ids, ~inside):
        if outside:
            (tiny.sound / f"{clip}.npy").unlink()
    logits, labels = predict(
        tmp_path / "run", [tiny.sound], [clip for clip, is_inside in zip(tiny.dataset.ids, inside) if is_inside]
    )
    assert logits == pytest.approx(oof(tmp_path / "run")["logits"][best["epoch"] - 1, inside], abs=1e-6)
    assert decode.count(labels, tiny.dataset.labels[inside]).score == best["score"]
    logits = oof(tmp_path / "run")["logits"]
    del metrics["nested"]["ci"]
    assert (
        metrics["nested"] == decode.figures(decode.softmax(logits), tiny.dataset.labels, tiny.dataset.folds)["nested"]
    )


def test_the_artefact_contains_its_structured_decoder(tiny, tmp_path):
    metrics = run(tiny, tmp_path / "run", decoder="structured", weight=0.5)
    model = json.loads((tmp_path / "run" / "model.json").read_text())
    assert (model["decoder"]["name"], model["decoder"]["weight"]) == ("structured", 0.5)
    assert metrics["structured"]["nested"]["n"] == 36 and metrics["structured"]["weight"] == 0.5
    from blemore_baselines.decoding import posterior as model_of
    from blemore_baselines.decoding.structured import decide
    from blemore_baselines.predict import predict

    logits, labels = predict(tmp_path / "run", [tiny.sound_test], tiny.test_ids)
    decoder = model_of.from_dict(
        {key: value for key, value in model["decoder"].items() if key not in ("name", "weight")}
    )
    posterior = model_of.posterior(decoder, model_of.log_probabilities([logits], ["logits"]))
    assert labels.tolist() == decide(posterior, decoder.share, 0.5)[0].tolist()
    # The same figures as `decode` gives for the run's own score table.
    from blemore_baselines.decoding import decoders
    from blemore_baselines.decoding import scores as fusion

    models = fusion.read_models([tmp_path / "run"], tiny.dataset.ids)
    decoded = decoders.fit("structured", tiny.dataset, models, weight=0.5)
    assert decoded.figures["nested"]["score"] == metrics["structured"]["nested"]["score"]


@pytest.mark.parametrize("damage", [{"name": "other"}, {"weight": 2}, {"strength": None}, {"parameters": {}}])
def test_a_damaged_decoder_is_refused(tiny, tmp_path, damage):
    run(tiny, tmp_path / "run", decoder="structured", weight=0.5)
    path = tmp_path / "run" / "model.json"
    model = json.loads(path.read_text())
    model["decoder"] |= damage
    path.write_text(json.dumps(model))
    from blemore_baselines.predict import predict

    with pytest.raises(ValidationError, match="model.json"):
        predict(tmp_path / "run", [tiny.sound_test], tiny.test_ids)


def test_the_published_recipe(monkeypatch):
    monkeypatch.undo()
    assert train.PRESETS["published"] == {
        "aggregate": Recipe(5e-6, 1e-3, 32, 200, 100),
        "subsample": Recipe(5e-6, 1e-3, 512, 300, 300),
    }


def test_training_learns():
    rng = np.random.default_rng(0)
    targets = np.eye(6, dtype=np.float32)[rng.integers(0, 6, 120)]
    X = (targets @ rng.normal(size=(6, 8)) + 0.1 * rng.normal(size=(120, 8))).astype(np.float32)
    losses = []
    model = fit_model(X, targets, "linear", Recipe(1e-2, 1e-3, 16, 40, 40), 40, 0, losses.append)
    assert len(losses) == 40 and losses[-1] < 0.2 * losses[0]
    assert (clip_logits(model, X, np.arange(120), 120).argmax(axis=1) == targets.argmax(axis=1)).mean() > 0.95


def test_one_step_of_adam_by_hand():
    # One batch, one epoch: the gradient is g = mean of (softmax − t) xᵀ + 1e-3 · w (coupled weight decay).
    # Adam's first step is lr · g / (|g| + ε), whatever the size of g.
    rng = np.random.default_rng(0)
    X, targets = rng.normal(size=(5, 3)).astype(np.float32), np.eye(6, dtype=np.float32)[[0, 1, 2, 3, 4]]
    before = build_head("linear", 3, seed=9)
    w, b = (p.detach().numpy().astype(float) for p in before.parameters())
    p = decode.softmax(X @ w.T + b)
    g = (p - targets).T @ X / 5 + 1e-3 * w
    after = fit_model(X, targets, "linear", Recipe(0.01, 1e-3, 5, 1, 1), 1, 9)
    assert after.weight.detach().numpy() == pytest.approx(w - 0.01 * g / (np.abs(g) + 1e-8), abs=1e-6)


def test_a_fold_s_model_is_trained_on_the_other_folds_with_their_own_targets(tiny, tmp_path, quick):
    # Fold 1, computed step by step.
    run(tiny, tmp_path / "run")
    X, outside = tiny.read(tiny.sound).X, tiny.dataset.folds != 1
    scaler = fit_scaler(X[outside])
    recipe = quick["aggregate"]
    model = fit_model(
        scaler(X[outside]), tiny.dataset.targets[outside], "linear", recipe, recipe.epochs, fold_seed(0, 1)
    )
    expected = clip_logits(model, scaler(X[~outside]), np.arange((~outside).sum()), (~outside).sum())
    assert oof(tmp_path / "run")["logits"][-1, ~outside] == pytest.approx(expected, abs=1e-6)


# ------------------------------------------------------------------------------- no leak


def logits_of_fold(tiny, out, fold, dataset=None, features=None):
    run(tiny, out, features=features, dataset=dataset)
    return oof(out)["logits"][:, tiny.dataset.folds == fold]


def test_a_fold_s_own_labels_and_features_do_not_change_its_model(tiny, tmp_path):
    before = logits_of_fold(tiny, tmp_path / "before", 1)
    inside = tiny.dataset.folds == 1
    scrambled = tiny.dataset._replace(labels=np.where(inside, (tiny.dataset.labels + 5) % 36, tiny.dataset.labels))
    assert (logits_of_fold(tiny, tmp_path / "labels", 1, dataset=scrambled) == before).all()
    assert (
        logits_of_fold(tiny, tmp_path / "other", 0, dataset=scrambled)
        != oof(tmp_path / "before")["logits"][:, tiny.dataset.folds == 0]
    ).any()
    # Large changes to the features of all but one of the fold's clips do not change the logits of that clip.
    features = tiny.read(tiny.sound)
    rows = np.flatnonzero(inside)[1:]
    X = features.X.copy()
    X[rows] = X[rows] * 100 + 1000
    assert (
        logits_of_fold(tiny, tmp_path / "features", 1, features=[features._replace(X=X)])[:, 0] == before[:, 0]
    ).all()


def test_the_scaler_of_a_fold_is_fitted_on_the_other_folds(tiny, tmp_path, monkeypatch):
    inputs = []
    for module in (heads, train):
        monkeypatch.setattr(module, "fit_scaler", lambda X: inputs.append(X) or fit_scaler(X))
    run(tiny, tmp_path / "run")
    X = tiny.read(tiny.sound).X
    expected = [X[tiny.dataset.folds != fold] for fold in range(3)] + [X]  # and the final model, on all of train
    assert len(inputs) == 4
    for rows in expected:
        assert any(rows.shape == X.shape and (rows == X).all() for X in inputs)


# --------------------------------------------------------------------------- subsampling


def test_a_clip_s_logits_are_the_mean_over_its_rows():
    head = build_head("linear", 2, seed=0)
    X = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    owner = np.array([2, 0, 2, 1, 2])  # in no particular order
    row_logits = head(torch.from_numpy(X)).detach().numpy()
    logits = clip_logits(head, X, owner, 3)
    assert logits == pytest.approx(
        np.stack([row_logits[1], row_logits[3], row_logits[[0, 2, 4]].mean(axis=0)]), abs=1e-6
    )


def test_rows_of_a_held_out_clip_train_nothing(tiny, tmp_path, monkeypatch):
    training_sets, original = [], crossval.Stack

    def stack(heads, data, *rest):
        training_sets.extend((len(rows.X), rows.targets) for rows in data)
        return original(heads, data, *rest)

    def fit(X, targets, *rest):
        training_sets.append((len(X), targets))
        return fit_models(X, targets, *rest)

    monkeypatch.setattr(crossval, "Stack", stack)
    monkeypatch.setattr(train, "fit_models", fit)
    run(tiny, tmp_path / "run", method="subsample")
    features = tiny.read(tiny.sound, aggregated=False)
    sizes = [int((tiny.dataset.folds[features.owner] != fold).sum()) for fold in range(3)] + [len(features.X)]
    assert sorted(size for size, _ in training_sets) == sorted(sizes)
    whole = next(targets for size, targets in training_sets if size == len(features.X))
    assert (whole == tiny.dataset.targets[features.owner]).all()  # each row has its clip's target


# ----------------------------------------------------------------------- interrupted and resumed


class Stopped(Exception):
    pass


def stop_in_fold(monkeypatch, fold, at_epoch):
    """Raises after some epochs of a fold; returns a list to which the folds that start are added."""
    original, starts = crossval._train_folds, []

    def train_folds(dataset, features, folds, *rest):
        starts.extend(folds)
        for epoch, results in enumerate(original(dataset, features, folds, *rest), 1):
            if fold in folds and epoch == at_epoch:
                raise Stopped
            yield results

    monkeypatch.setattr(crossval, "_train_folds", train_folds)
    return starts


def test_an_interrupted_run_resumes_to_the_same_bytes(tiny, tmp_path, monkeypatch):
    run(tiny, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(crossval, "available_cores", lambda: 1)  # one fold after the other
        stop_in_fold(patch, 1, at_epoch=2)
        with pytest.raises(Stopped):
            run(tiny, tmp_path / "run")
    assert set(contents(tmp_path / "run")) == {"config.json", "folds/fold_0.npz"}
    with monkeypatch.context() as patch:
        starts = stop_in_fold(patch, None, 0)
        run(tiny, tmp_path / "run")
    assert sorted(starts) == [1, 2]  # the finished fold is not trained again
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    "module, step",
    [
        (train, "save_model"),
        (run_folder, "scores_csv"),
        (run_folder, "_learning_curves"),
        (run_folder, "_folds_csv"),
    ],
)
def test_a_run_that_was_interrupted_while_it_wrote_its_results(tiny, tmp_path, monkeypatch, module, step):
    run(tiny, tmp_path / "whole")

    def stop(*_):
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(module, step, stop)
        with pytest.raises(Stopped):
            run(tiny, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.json").exists()
    run(tiny, tmp_path / "run")
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_a_run_that_was_interrupted_at_the_very_end_leaves_no_folds(tiny, tmp_path, monkeypatch):
    run(tiny, tmp_path / "whole")

    def stop(*_, **__):
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(train.shutil, "rmtree", stop)
        with pytest.raises(Stopped):
            run(tiny, tmp_path / "run")
    run(tiny, tmp_path / "run")
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


PROGRAM = """
import sys
from pathlib import Path
from blemore_baselines import train
from blemore_baselines.dataset import read_dataset
from blemore_baselines.features import read_features

metadata, folder, out, epochs = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
train.PRESETS["published"]["aggregate"] = train.Recipe(1e-2, 1e-3, 8, epochs, 3)
dataset = read_dataset(metadata)
print("begins", flush=True)
sources = [read_features(folder, dataset.ids)]
choices = {"method": "aggregate", "head": "mlp256", "preset": "published"}
train.train(dataset, sources, ["features"], **choices, seed=0, out=out)
"""


def exists(path):
    """Whether a file exists, or a folder with a finished fold."""
    return path.is_file() or any(path.glob("*.npz"))


def test_a_killed_run_resumes(tiny, tmp_path, monkeypatch, long):
    recipe = Recipe(1e-2, 1e-3, 8, 60, 3)
    monkeypatch.setattr(train, "PRESETS", {"published": {"aggregate": recipe}})
    features = [tiny.read(tiny.sound)]
    run(tiny, tmp_path / "whole", features=features, head="mlp256")
    rng = random.Random(0)
    kills = 0
    for attempt in range(12 if long else 2):
        out = tmp_path / f"run{attempt}"
        arguments = [sys.executable, "-P", "-c", PROGRAM, tiny.train, tiny.sound, out, str(recipe.epochs)]
        with subprocess.Popen(
            [*map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout.readline() == "begins\n"
            deadline = time.monotonic() + 60
            # Without --long: as soon as a fold is finished. With it: at any moment.
            target = out / ("folds" if attempt % 2 else "config.json") if not long else out / "config.json"
            while process.poll() is None and time.monotonic() < deadline and not exists(target):
                time.sleep(0.002)
            time.sleep(rng.random() * 0.5 if long else 0)
            process.send_signal(signal.SIGKILL)
        kills += process.returncode == -signal.SIGKILL
        run(tiny, out, features=features, head="mlp256")
        rest = {
            name: content for name, content in contents(out).items() if not name.endswith(".tmp")
        }  # a kill cannot clean up
        whole = contents(tmp_path / "whole")
        assert [name for name in {*rest, *whole} if rest.get(name) != whole.get(name)] == []
    assert kills > 0


def test_a_finished_run_is_not_redone(tiny, tmp_path, monkeypatch):
    first = run(tiny, tmp_path / "run")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    monkeypatch.setattr(train, "fit_models", None)  # nothing may be trained
    monkeypatch.setattr(train, "versions", lambda: {"blemore": "9"})  # a later version also accepts it
    assert run(tiny, tmp_path / "run", paths=["elsewhere"]) == json.loads(
        json.dumps(first)
    )  # the features' path does not matter
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == times


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    "change, message",
    [
        ({"seed": 1}, "another seed: 0; now 1"),
        ({"head": "mlp256"}, 'another head: "linear"; now "mlp256"'),
        ({"method": "subsample"}, 'another method: "aggregate"; now "subsample"'),  # another recipe follows from it
    ],
)
def test_a_run_with_another_config_is_refused(tiny, tmp_path, finished, change, message):
    run(tiny, tmp_path / "run")
    if not finished:
        (tmp_path / "run" / "metrics.json").unlink()
    before = contents(tmp_path / "run")
    with pytest.raises(ValidationError) as error:
        run(tiny, tmp_path / "run", **change)
    messages = [problem.message.removeprefix("the folder holds a run with ") for problem in error.value.problems]
    assert messages[0] == message and (len(messages) == 1 or "method" in change), (
        messages
    )  # rows that are not aggregated are others, too
    assert "Choose another --out" in str(error.value)
    assert contents(tmp_path / "run") == before


def test_a_run_with_other_inputs_is_refused(tiny, tmp_path):
    run(tiny, tmp_path / "run")
    features = tiny.read(tiny.sound)
    X = features.X.copy()
    X[3, 3] += 1e-3
    with pytest.raises(ValidationError, match=r"trained on different features \(source 1\)"):
        run(tiny, tmp_path / "run", features=[features._replace(X=X)])
    other = features._replace(meta={**features.meta, "encoder": "other"})
    with pytest.raises(ValidationError, match='another encoder of source 1: "sound"; now "other"'):
        run(tiny, tmp_path / "run", features=[other])
    with pytest.raises(ValidationError, match="a run with different clips, labels, folds or actors"):
        run(tiny, tmp_path / "run", dataset=tiny.dataset._replace(labels=tiny.dataset.labels[::-1].copy()))


def test_precision_is_recorded_and_a_run_without_it_resumes(tiny, tmp_path):
    """Earlier versions did not record it; the digest shows whether features differ."""
    features = tiny.read(tiny.sound)
    features = features._replace(meta={**features.meta, "precision": "bf16"})
    first = run(tiny, tmp_path / "run", features=[features])
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    assert config["features"][0].pop("precision") == "bf16"
    assert json.loads((tmp_path / "run" / "model.json").read_text())["features"][0]["precision"] == "bf16"
    path.write_text(json.dumps(config))
    assert run(tiny, tmp_path / "run", features=[features]) == json.loads(json.dumps(first))


@pytest.mark.parametrize(
    "name, content",
    [("notes.txt", "mine"), ("metrics.json", "{}"), ("config.json", '{"model_type": "bert"}'), ("config.json", "mine")],
)
def test_a_folder_with_other_contents_is_refused_and_not_changed(tiny, tmp_path, name, content):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text(content)
    with pytest.raises(ValidationError, match="holds no run"):
        run(tiny, tmp_path / "mine")
    assert contents(tmp_path / "mine") == {name: content.encode()}


def test_a_file_instead_of_the_folder(tiny, tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(FileError, match="cannot be written"):
        run(tiny, tmp_path / "run")


def test_an_empty_folder_is_accepted(tiny, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.json.abc.tmp").write_text(
        "{"
    )  # from a run that was killed while it wrote its first file
    assert run(tiny, tmp_path / "run")["nested"]["n"] == 36


def test_fused_sources_in_one_model(tiny, tmp_path):
    run(tiny, tmp_path / "run", features=[tiny.read(tiny.sound), tiny.read(tiny.look)], paths=["sound", "look"])
    model = json.loads((tmp_path / "run" / "model.json").read_text())
    assert [source["encoder"] for source in model["features"]] == ["sound", "look"]
    assert load_file(tmp_path / "run" / "model.safetensors")["head.weight"].shape == (6, 7 * (5 + 3))


def test_every_head_trains(tiny, tmp_path):
    for head in HEADS:
        assert not math.isnan(run(tiny, tmp_path / head, head=head)["nested"]["score"])
