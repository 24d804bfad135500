"""The study of importance: groups of columns, and planted sources."""

import numpy as np
import pytest

from blemore_baselines.decoding.accounts import figures
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.features import Features, fuse
from blemore_baselines.models.crossval import cross_validate
from blemore_baselines.models.recipes import Recipe
from blemore_baselines.sources.meta import STATISTICS
from blemore_baselines.studies.importance import _findings, _worth, best_constant, importance, measure
from blemore_baselines.studies.importance_columns import Group, find_groups
from blemore_baselines.studies.intervals import Estimate

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPE = Recipe(3e-3, 1e-3, 32, 8, 8)


def source(dim, **meta):
    return Features(["a", "b"], np.zeros((2, dim), dtype=np.float32), np.arange(2), meta)


def test_groups_by_their_columns():
    sources = [
        source(14, encoder="wavlm", statistics=list(STATISTICS)),
        source(77, encoder="OpenFace_3", statistics=list(STATISTICS)),
    ]
    groups, left_out = find_groups(["voice", "face"], sources)
    columns = {(group.kind, group.name): group.columns.tolist() for group in groups}
    assert not left_out
    assert columns["source", "voice"] == list(range(14)) and columns["source", "face"] == list(range(14, 91))
    assert columns["statistic", "std"] == [2, 3, *range(14 + 11, 14 + 22)]
    assert columns["OpenFace column", "gaze_yaw"] == [14 + 1 + 11 * k for k in range(7)]
    assert columns["OpenFace column", "AU12"] == [14 + 3 + 5 + 11 * k for k in range(7)]
    assert [group.name for group in groups if group.kind == "OpenFace column"] == [
        "emotion_index",
        "gaze_yaw",
        "gaze_pitch",
        "AU01",
        "AU02",
        "AU04",
        "AU06",
        "AU09",
        "AU12",
        "AU25",
        "AU26",
    ]


@pytest.mark.parametrize(
    ("meta", "dim", "message"),
    [
        ({"statistics": None}, 14, "odd is left out of the statistics: its 14 columns are not known"),
        ({"statistics": list(STATISTICS)}, 15, "odd is left out of the statistics: its 15 columns are not known"),
        ({"statistics": ["mean", "std"]}, 14, "odd is left out of the statistics: its 14 columns are not known"),
        (
            {"statistics": list(STATISTICS), "encoder": "openface3"},
            14,
            "odd is left out of the named columns: it has 2 dimensions; expected 11, as in OpenFace",
        ),
    ],
)
def test_unknown_columns_are_left_out_by_name(meta, dim, message):
    groups, left_out = find_groups(["odd"], [source(dim, **meta)])
    assert len(left_out) == 1 and left_out[0].startswith(message)
    assert [group.name for group in groups if group.kind == "source"] == ["odd"]


def test_the_models_are_those_of_cross_validation(tiny):
    features = tiny.read(tiny.sound)
    whole, permuted = measure(
        tiny.dataset,
        features,
        find_groups(["sound"], [features])[0],
        Recipe(1e-2, 1e-3, 8, 4, 4),
        "mlp256",
        3,
        repeats=2,
    )
    logits = cross_validate(tiny.dataset, features, Recipe(1e-2, 1e-3, 8, 4, 4), ["mlp256"], [3]).logits[0, 0]
    nested = figures(softmax(logits), tiny.dataset.labels, tiny.dataset.folds)["nested"]
    assert whole[:, 1].mean() == pytest.approx(nested["acc_presence"])
    assert permuted.shape == (8, 36, 4) and (permuted[:, :, 0] == 2).all()


def test_noise_has_no_importance_and_planted_columns_do(planted):
    dataset, sources = planted(noise=(0.1, None))
    study = importance(dataset, ["told", "noise"], sources, RECIPE, "mlp256", 0, "signature", repeats=3)
    by_name = {group["name"]: group for group in study.values["groups"]}
    for figure in ("presence", "salience"):
        assert by_name["told"][figure]["low"] > 0.2 and by_name["told"][figure]["value"] < study.values["whole"][figure]
        assert abs(by_name["noise"][figure]["value"]) < 0.06 < by_name["told"][figure]["value"]
    assert all(
        group["pairs"].keys() == {*by_name["told"]["pairs"]} and len(group["pairs"]) == 10 for group in by_name.values()
    )
    assert sum("is left out of the statistics" in finding for finding in study.findings) == 2
    assert set(study.tables) == {"groups", "pairs_presence", "pairs_salience"} and set(study.figures) == {
        "groups",
        "pairs",
    }


def test_a_column_for_one_emotion_matters_to_its_pairs(planted):
    """The columns that signal happiness are a separate source: pairs with happiness lose more than the others."""
    dataset, (rest,) = planted(noise=(None,))
    rng = np.random.default_rng(5)
    X = (dataset.targets + 0.1 * rng.normal(size=dataset.targets.shape)).astype(np.float32)
    others = Features(dataset.ids, X[:, [0, 1, 2, 4, 5]], rest.owner, {})
    happiness = Features(dataset.ids, X[:, [3]], rest.owner, {})
    study = importance(
        dataset, ["others", "happiness"], [others, happiness], RECIPE, "mlp256", 0, "signature", repeats=3
    )
    pairs = study.values["groups"][1]["pairs"]
    losses = {name: figures["presence"]["value"] for name, figures in pairs.items()}
    with_it = [value for name, value in losses.items() if "hap" in name]
    without = [value for name, value in losses.items() if "hap" not in name]
    assert min(with_it) > max(without)


LOSES, GAINS, NOTHING = (
    Estimate(0.1, 0.05, 0.15, 0.001),
    Estimate(-0.1, -0.15, -0.05, 0.001),
    Estimate(-0.02, -0.1, 0.06, 0.6),
)


@pytest.mark.parametrize(
    ("effects", "sentence"),
    [
        (
            [GAINS, NOTHING, GAINS],
            "By statistic, no permutation lowers presence. Beyond chance, of 3, 0 lose and 2 (a, c) gain.",
        ),
        (
            [GAINS, LOSES, NOTHING],
            (
                "By statistic, permuting b costs most presence: +0.100 (95 % interval +0.050 to +0.150, p ="
                " 0.001), more than chance explains. Beyond chance, of 3, 1 (b) lose and 1 (a) gain."
            ),
        ),
    ],
)
def test_findings_name_losses_and_gains(effects, sentence):
    groups = [Group("statistic", name, np.arange(2)) for name in "abc"]
    findings = _findings(groups, {"presence": effects}, {"presence": {"ang+hap": effects}})
    assert sentence in findings
    assert ("No pair loses presence through any permutation." in findings) == (LOSES not in effects)


def test_constant_answers_set_the_floor_for_importance(tiny):
    constant = best_constant(tiny.dataset)
    assert constant == pytest.approx({"presence": 3 / 36, "salience": 1 / 30})  # each of the 36 labels once
    assert (
        _worth({"presence": 0.09, "salience": 0.04}, constant)
        == "Without permutation: presence 0.090 (best constant answer 0.083), salience 0.040 (best constant answer"
        " 0.033)."
    )
    assert _worth({"presence": 0.09, "salience": constant["salience"]}, constant).endswith(
        " Salience is no better than a constant answer's, so its losses say nothing about importance."
    )
    assert _worth({"presence": 0.01, "salience": 0.01}, constant).count("say nothing about importance") == 2


@pytest.mark.long
def test_the_same_call_gives_the_same_study(tiny):
    sources = [tiny.read(tiny.sound), tiny.read(tiny.look)]
    recipe = Recipe(1e-2, 1e-3, 8, 1, 1)
    first, second = (
        importance(tiny.dataset, ["sound", "look"], sources, recipe, "linear", 1, "", repeats=1) for _ in range(2)
    )
    assert fuse(sources).X.shape[1] == 56 and first == second
