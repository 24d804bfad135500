"""A run reports what its saved model achieves: nested figures compared with figures on unseen actors."""

import numpy as np
import pytest

from blemore.significance import intervals
from blemore_baselines.dataset import TARGETS, Dataset
from blemore_baselines.decoding.accounts import scored
from blemore_baselines.features import read_features
from blemore_baselines.models.recipes import PRESETS
from blemore_baselines.predict import predict
from blemore_baselines.results.run import read_run
from blemore_baselines.results.text import nested_model
from blemore_baselines.train import train

pytestmark = pytest.mark.usefixtures("one_thread")
ACTORS, CLIPS, FOLDS = 12, 18, 5


def people(seed, dim=1000):
    """Clips of known actors in five folds, and of as many new ones: soft labels in a basis of `dim` columns, noise, and
    an offset per actor.
    """
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(6, dim))
    parts = []
    for name in ("known", "new"):
        labels, actor = rng.integers(0, 36, ACTORS * CLIPS), np.repeat(np.arange(ACTORS), CLIPS)
        own = 0.3 * rng.normal(size=(ACTORS, dim))
        X = TARGETS[labels] @ basis + rng.normal(size=(len(labels), dim)) + own[actor]
        ids = [f"{name}{k:03}" for k in range(len(labels))]
        parts.append((Dataset(ids, labels, actor % FOLDS, [f"{name}{k}" for k in actor]), X.astype(np.float32)))
    return parts


def reported_and_achieved(folder, preset, head, seed):
    """A run, its nested report, and the report on its saved model's predictions for clips of new actors."""
    (train_data, X), (new_data, X_new) = people(seed)
    for name, ids, rows in (("known", train_data.ids, X), ("new", new_data.ids, X_new)):
        (folder / name).mkdir()
        np.savez(folder / name / "table.npz", X=rows, filenames=np.array(ids))
    features = [read_features(folder / "known" / "table.npz", train_data.ids)]
    choices = {"method": "aggregate", "head": head, "preset": preset}
    train(train_data, features, [folder / "known" / "table.npz"], **choices, seed=seed, out=folder / "run")
    run = read_run(folder / "run")
    _, labels = predict(folder / "run", [folder / "new" / "table.npz"], new_data.ids)
    return run, scored(train_data, run.decoded("nested")), scored(new_data, labels)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_the_saved_model_achieves_what_the_run_reports(tmp_path, preset, long):
    for seed, head in [(0, "linear"), *((seed, "mlp256") for seed in (range(1, 4) if long else ()))]:
        folder = tmp_path / f"{head}{seed}"
        folder.mkdir()
        run, nested, achieved = reported_and_achieved(folder, preset, head, seed)
        # The interval of a difference of independent figures; a figure that is perfect for each actor has no width.
        ends = [intervals(report).intervals.get("score", (0, 0)) for report in (nested, achieved)]
        widths = [(high - low) / 2 for low, high in ends]
        difference = achieved.counts.score - nested.counts.score
        assert abs(difference) <= np.hypot(*widths), (preset, head, seed, nested.counts.score, achieved.counts.score)
        assert {fold["epoch"] for fold in run.metrics["nested"]["folds"]} == {run.metrics["final"]["epochs"]}


def run_metrics(epochs, final, test_protocol="pooled"):
    return {
        "nested": {"folds": [{"epoch": epoch} for epoch in epochs]},
        "final": {"epochs": final, "test_protocol": test_protocol},
    }


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        (
            run_metrics([200, 200], 200),
            "describe the model for new clips: each fold's model is also trained for 200 epochs",
        ),
        (
            run_metrics([100, 100], 100, "retrain"),
            "number of epochs, 100, but thresholds chosen on all other folds",
        ),
        (run_metrics([150, 150], 150, "best-fold"), "but thresholds chosen on all other folds"),
        # A run of an earlier version, and one whose folds have fewer epochs than the final model
        (
            run_metrics([190, 151], 100),
            "they use epoch 151 to 190 of each fold, but that model is trained for 100 epochs",
        ),
        (run_metrics([4, 4], 7, "retrain"), "they use epoch 4 of each fold, but that model is trained for 7 epochs"),
    ],
)
def test_a_run_states_which_model_its_nested_figures_describe(metrics, says):
    assert says in nested_model(metrics)
