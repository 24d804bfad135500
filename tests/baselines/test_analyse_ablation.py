"""The study of modalities: each fold's own model, ways of disturbing its input, and planted effects."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from blemore.errors import ValidationError
from blemore_baselines.cli import main
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.models.crossval import cross_validate
from blemore_baselines.models.recipes import Recipe
from blemore_baselines.studies.ablation import ablation
from blemore_baselines.studies.held_out import DISTURB, held_out
from blemore_baselines.studies.intervals import outcomes
from blemore_baselines.studies.objectives import by_thresholds

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPE = Recipe(1e-2, 1e-3, 32, 10, 10)


def test_each_folds_own_model_decides_as_in_cross_validation(tiny):
    recipe, features = Recipe(1e-2, 1e-3, 8, 4, 3), tiny.read(tiny.sound)
    logits = cross_validate(tiny.dataset, features, recipe, ["mlp256"], [5]).logits[0, 0]
    expected = outcomes(by_thresholds(softmax(logits), tiny.dataset).labels, tiny.dataset.labels)
    judgements = np.full((36, 4), -1.0)
    for fold in held_out(tiny.dataset, features, recipe, "mlp256", 5):
        assert not fold.inside[tiny.dataset.folds != tiny.dataset.folds[fold.inside][0]].any()
        judgements[fold.inside] = fold.judge(fold.X)
    assert np.array_equal(judgements, expected)


def test_held_out_rows_are_standardised_by_the_training_clips(tiny):
    features = tiny.read(tiny.sound)
    for fold in held_out(tiny.dataset, features, Recipe(1e-2, 1e-3, 8, 1, 1), "linear", 0):
        train = features.X[~fold.inside].astype(np.float64)
        assert fold.X == pytest.approx((features.X[fold.inside] - train.mean(axis=0)) / train.std(axis=0), abs=1e-4)


def test_ways_of_disturbing():
    X = np.random.default_rng(1).normal(3, 2, size=(2000, 4)).astype(np.float32)
    rng = np.random.default_rng(0)
    assert not DISTURB["zeroed"](X, rng).any()
    noise = DISTURB["noised"](X, rng) - X
    assert noise.mean() == pytest.approx(0, abs=0.05) and noise.std() == pytest.approx(1, abs=0.05)
    swapped = DISTURB["swapped"](X, rng)
    assert not np.array_equal(swapped, X) and np.array_equal(np.sort(swapped[:, 0]), np.sort(X[:, 0]))
    assert {tuple(row) for row in swapped} == {tuple(row) for row in X}  # a clip's columns stay together


def test_a_modality_of_noise_gives_and_costs_nothing(planted):
    dataset, (signal, noise) = planted(noise=(0.2, None))
    study = ablation(dataset, [signal], [noise], RECIPE, "linear", 0, "signature", repeats=3)
    gains, losses = study.values["gained_by_both"], study.values["lost"]
    assert gains["video"]["score"]["low"] < 0 and gains["audio"]["score"]["low"] > 0.1
    for disturbance in DISTURB:
        assert abs(losses[f"audio {disturbance}"]["score"]["value"]) < 0.06
    assert losses["video zeroed"]["score"]["low"] > 0.1 and losses["video swapped"]["score"]["low"] > 0.1
    assert study.values["trained"]["audio"]["presence"]["value"] < 0.2
    for row in (study.tables["trained"].rows[0], study.tables["disturbed"].rows[1]):
        assert all(row[k + 1] <= row[k] <= row[k + 2] for k in (1, 4, 7))  # each figure within its interval
    assert len(study.tables["pairs"].rows) == 11 and [row[1] for row in study.tables["pairs"].rows] == [60] * 10 + [120]


def test_modalities_that_complete_each_other_gain(planted):
    """One modality knows only the first three emotions, the other only the last three."""
    dataset, (features,) = planted(noise=(None,))
    blurred = dataset.targets + 0.05 * np.random.default_rng(0).normal(size=(len(dataset.ids), 6))
    video, audio = (
        features._replace(X=blurred[:, columns].astype(np.float32)) for columns in (slice(0, 3), slice(3, 6))
    )
    study = ablation(dataset, [video], [audio], RECIPE, "linear", 0, "signature", repeats=2)
    assert all(study.values["gained_by_both"][name]["presence"]["low"] > 0 for name in ("video", "audio"))
    assert all(study.values["lost"][f"{name} zeroed"]["presence"]["low"] > 0 for name in ("video", "audio"))
    assert set(study.figures) == {"pairs", "disturbed"} and all(
        picture.png.startswith(b"\x89PNG") for picture in study.figures.values()
    )


def test_missing_modalities_are_reported(tiny):
    look, sound = tiny.read(tiny.look), tiny.read(tiny.sound)
    with pytest.raises(ValidationError, match="audio.*no features; expected at least one source"):
        ablation(tiny.dataset, [look], [], RECIPE, "linear", 0, "")
    with pytest.raises(ValidationError, match="found 2; expected at least 3"):
        ablation(tiny.dataset._replace(folds=tiny.dataset.folds % 2), [look], [sound], RECIPE, "linear", 0, "")


def test_the_command(tiny, tmp_path):
    arguments = [
        "analyse",
        "ablation",
        "--metadata",
        str(tiny.train),
        "--video",
        str(tiny.look),
        "--head",
        "linear",
        "--out",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and "--audio" in result.output
    result = CliRunner().invoke(main, [*arguments, "--audio", str(tiny.sound)])
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert set(content["trained"]) == {"video", "audio", "both"} and len(content["lost"]) == 6
    assert "head:linear" in content["signature"] and all(text in result.output for text in content["findings"])
