"""The study of identity: how folds are dealt, and planted effects."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from blemore.errors import ValidationError
from blemore_baselines.cli import main
from blemore_baselines.dataset import Dataset
from blemore_baselines.models.recipes import Recipe
from blemore_baselines.results.study_files import to_terminal, write
from blemore_baselines.studies.identity import deal, identity

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPE = Recipe(3e-3, 1e-3, 32, 10, 10)
METRICS = ("acc_presence", "acc_salience", "score")


def run(dataset, features, recipe=RECIPE, deals=2):
    return identity(dataset, features, recipe, "linear", 0, "signature", deals=deals)


@given(st.integers(0, 10_000), st.integers(2, 7), st.integers(1, 12))
def test_folds_keep_their_sizes_and_each_actor_is_spread(seed, n_folds, n_actors):
    rng = np.random.default_rng(seed)
    actor = rng.integers(0, n_actors, rng.integers(n_folds * n_actors, 300))
    folds = np.concatenate([np.arange(n_folds), actor[n_folds:] % n_folds])
    dataset = Dataset(
        [f"c{k}" for k in range(len(actor))], rng.integers(0, 36, len(actor)), folds, [f"A{k}" for k in actor]
    )
    dealt = deal(dataset, seed)
    assert np.array_equal(np.bincount(dealt, minlength=n_folds), np.bincount(folds, minlength=n_folds))
    for person in np.unique(actor):
        person_folds = dealt[actor == person]
        expected = len(person_folds) * np.bincount(folds, minlength=n_folds) / len(folds)
        assert (np.abs(np.bincount(person_folds, minlength=n_folds) - expected) < n_folds + 1).all()


def test_a_deal_by_hand():
    """Two actors of six clips, two labels, three equal folds: each fold takes a clip of each actor and label."""
    labels, actors = np.tile([0, 0, 0, 9, 9, 9], 2), ["A"] * 6 + ["B"] * 6
    dataset = Dataset([f"c{k}" for k in range(12)], labels, np.arange(12) // 4, actors)
    dealt = deal(dataset, 3)
    assert {(actor, label, fold) for actor, label, fold in zip(actors, labels, dealt)} == {
        (a, label, f) for a in "AB" for label in (0, 9) for f in range(3)
    }
    assert np.array_equal(deal(dataset, 3), dealt) and not all(
        np.array_equal(deal(dataset, seed), dealt) for seed in range(4, 9)
    )


def test_actor_specific_expressions_are_found(planted):
    """Every actor has columns of their own, which say everything about known actors and nothing about new ones."""
    dataset, (noise,) = planted(noise=(None,))
    actor = np.unique(dataset.actors, return_inverse=True)[1]
    X = (np.eye(12)[actor][:, :, None] * dataset.targets[:, None, :]).reshape(len(actor), -1) * 4
    study = run(dataset, noise._replace(X=X.astype(np.float32)))
    assert study.values["difference"]["acc_presence"] > 0.3
    assert study.values["estimates"]["difference"]["score"]["low"] > 0.1
    assert "The model profits from knowing its actors," in study.findings[1] and "more than chance" in study.findings[0]


def test_expressions_that_all_actors_share_give_no_gap(planted):
    dataset, (shared,) = planted(noise=(0.3,))
    study = run(dataset, shared)
    assert study.values["disjoint"]["acc_presence"] > 0.3
    assert abs(study.values["difference"]["score"]) < 0.05


def test_the_json_holds_the_three_accounts(tiny, tmp_path):
    study = run(tiny.dataset, tiny.read(tiny.sound), Recipe(1e-2, 1e-3, 8, 2, 2))
    write(study, tmp_path)
    content = json.loads((tmp_path / "identity.json").read_text())
    for name in ("disjoint", "inclusive", "difference"):
        assert set(content[name]) == set(METRICS)
    for metric in METRICS:
        assert content["difference"][metric] == pytest.approx(
            content["inclusive"][metric] - content["disjoint"][metric]
        )
    assert (tmp_path / "identity_gap.png").read_bytes().startswith(b"\x89PNG")
    assert all(line in to_terminal(study) for line in study.findings)
    assert run(tiny.dataset, tiny.read(tiny.sound), Recipe(1e-2, 1e-3, 8, 2, 2)) == study


def test_incomparable_folds_are_refused(tiny):
    features = tiny.read(tiny.sound)
    with pytest.raises(ValidationError, match="found 2; expected at least 3"):
        run(tiny.dataset._replace(folds=tiny.dataset.folds % 2), features)
    with pytest.raises(ValidationError, match="no blends in fold 1"):
        run(tiny.dataset._replace(labels=np.where(tiny.dataset.folds == 1, 0, tiny.dataset.labels)), features)
    with pytest.raises(ValidationError, match="every actor has a single clip"):
        run(tiny.dataset._replace(actors=list(tiny.dataset.ids)), features)


def test_the_command_writes_what_the_report_reads(tiny, tmp_path):
    out = tmp_path / "run" / "analysis"
    arguments = [
        "analyse",
        "identity",
        "--metadata",
        str(tiny.train),
        "--features",
        str(tiny.sound),
        "--features",
        str(tiny.look),
        "--head",
        "linear",
        "--out",
        str(out),
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    content = json.loads((out / "identity.json").read_text())
    assert (
        content["study"] == "identity" and content["seeds"] == [0, 1, 2, 3, 4] and content["signature"] in result.output
    )
