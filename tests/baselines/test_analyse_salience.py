"""The study of salience: losses and decoding by hand, and planted effects."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from blemore.errors import ValidationError
from blemore.labels import EMOTIONS, LABEL_INDEX, LABELS, Label
from blemore_baselines.decoding.thresholds import Thresholds, decode_thresholds
from blemore_baselines.models.crossval import cross_validate
from blemore_baselines.models.heads import perceptron
from blemore_baselines.models.recipes import Recipe
from blemore_baselines.studies.objectives import (
    OBJECTIVES,
    SHARES,
    by_posterior,
    by_thresholds,
    log_posterior,
    margins,
    ranking_loss,
)
from blemore_baselines.studies.salience import errors, salience
from blemore_baselines.studies.training import out_of_fold

pytestmark = pytest.mark.usefixtures("one_thread")
ANG_HAP_30_70 = LABEL_INDEX[Label(("ang", "hap"), (30, 70))]
PAIR_ANG_HAP = 2  # of ang+disg, ang+fea, ang+hap, …


def sigma(margin):
    return 1 / (1 + np.exp(-margin))


def test_the_ranking_loss_by_hand():
    scores = torch.tensor([[1.0, -1.0, 0.5, 2.0, 0.0, -0.5]])
    # hap (70) over ang (30); both over each absent one; absent ones tie among themselves.
    present, absent = [2.0, 1.0], [-1.0, 0.5, 0.0, -0.5]
    losses = [-np.log(sigma(2.0 - 1.0))]
    losses += [-np.log(sigma(p - a)) for p in present for a in absent]
    losses += [
        -(np.log(sigma(a - b)) + np.log(sigma(b - a))) / 2 for k, a in enumerate(absent) for b in absent[k + 1 :]
    ]
    assert len(losses) == 15
    assert ranking_loss(scores, torch.tensor([ANG_HAP_30_70])).item() == pytest.approx(sum(losses) / 3, rel=1e-6)


def test_ranks_pull_as_hard_as_soft_labels():
    """Weight decay is not scaled with a loss, so a smaller one would be decayed more."""
    pulls = []
    for name in ("soft labels", "ranking"):
        scores = torch.zeros(1, 6, requires_grad=True)
        OBJECTIVES[name].loss(scores, torch.tensor([EMOTIONS.index("hap")])).backward()
        pulls.append(scores.grad.numpy())
    assert pulls[0] == pytest.approx(pulls[1], abs=1e-6) and pulls[0][0, 3] == pytest.approx(-5 / 6)


def test_margins_by_hand():
    scores = margins(np.array([[1.0, -1.0, 0.5, 2.0, 0.0, -0.5]]))
    assert scores[0, 0] == pytest.approx(np.tanh(0.5 / 2))  # ang, second: its lead over fea
    assert scores[0, 3] - scores[0, 0] == pytest.approx(np.tanh(1.0 / 2))  # hap, first: its lead over ang
    assert (scores[0, [1, 2, 4, 5]] <= 0).all()
    assert decode_thresholds(scores, Thresholds(0.2, 0.4)) == [ANG_HAP_30_70]
    assert decode_thresholds(scores, Thresholds(0.3, 0.4)) == [EMOTIONS.index("hap")]
    assert LABELS[decode_thresholds(scores, Thresholds(0.2, 0.5))[0]].saliences == (50, 50)


def test_margins_of_equal_scores_decide_for_the_lower_index():
    scores = margins(np.array([[0.0, 0.0, 3.0, 3.0, 0.0, 0.0]]))
    assert scores[0, 2] == scores[0, 3]
    assert str(LABELS[decode_thresholds(scores, Thresholds(0.5, 0.0))[0]]) == "fea+hap 50/50"


def test_the_posterior_of_the_multi_task_head_sums_to_one_and_knows_its_labels():
    rng = np.random.default_rng(0)
    outputs = torch.from_numpy(rng.normal(size=(4, 46)))
    assert log_posterior(outputs).exp().sum(dim=1).numpy() == pytest.approx(np.ones(4))
    sure = torch.zeros(1, 46)
    sure[0, len(EMOTIONS) + PAIR_ANG_HAP] = sure[0, 16 + 3 * PAIR_ANG_HAP + 2] = 30.0
    assert log_posterior(sure).argmax().item() == ANG_HAP_30_70


@pytest.mark.parametrize(
    ("name", "outputs", "share"),
    [
        ("soft labels", np.log(np.array([0.3, 1e-9, 1e-9, 0.7, 1e-9, 1e-9])), 0.3),
        ("regression", np.array([0.3, 0.0, 0.0, 0.7, 0.0, 0.0]), 0.3),
        ("regression", np.array([-0.5, 0.0, 0.0, 0.9, 0.0, 0.0]), 0.0),  # stays within [0, 1]
        ("ranking", np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]), 0.5),
        ("ranking", np.array([-20.0, 0.0, 0.0, 20.0, 0.0, 0.0]), 0.3),
        ("multi-task", np.eye(46)[16 + 3 * PAIR_ANG_HAP + 2] * 50, 0.3),
        ("multi-task", np.zeros(46), 0.5),
    ],
)
def test_shares_by_hand(name, outputs, share):
    assert OBJECTIVES[name].shares(outputs[None], np.array([PAIR_ANG_HAP])) == pytest.approx([share], abs=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_loss_is_lowest_at_its_label(name):
    """One step of gradient descent from zero, on one clip, makes its decoded label and share right."""
    objective = OBJECTIVES[name]
    outputs = torch.zeros(1, objective.outputs, requires_grad=True)
    optimizer = torch.optim.Adam([outputs], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        objective.loss(outputs, torch.tensor([ANG_HAP_30_70])).backward()
        optimizer.step()
    assert objective.shares(outputs.detach().numpy(), np.array([PAIR_ANG_HAP]))[0] == pytest.approx(SHARES[2], abs=0.05)


@pytest.mark.parametrize("span", [None, 10, 1024])
def test_soft_labels_train_as_the_published_head(span, tiny):
    recipe = Recipe(1e-2, 1e-3, 8, 3, 3, span)
    features = tiny.read(tiny.sound)
    objective = OBJECTIVES["soft labels"]
    logits = out_of_fold(
        tiny.dataset,
        [features],
        recipe,
        lambda widths: perceptron(sum(widths), 512, 6),
        objective.loss,
        seed=3,
        title="soft labels",
    )
    published = cross_validate(tiny.dataset, features, recipe, ["mlp512"], [3]).logits[0, 0]
    assert logits == pytest.approx(published, rel=1e-3, abs=1e-4)


def test_each_part_is_written_in_a_basis_of_its_own(tiny):
    """24 rows of 35 columns span 23; at most 22 of 21 columns leave these as they are."""
    calls = []

    def build(widths):
        calls.append(widths)
        return perceptron(sum(widths), None, 6)

    for span in (None, 22):
        out_of_fold(
            tiny.dataset,
            [tiny.read(tiny.sound), tiny.read(tiny.look)],
            Recipe(1e-2, 0, 8, 1, 1, span),
            build,
            OBJECTIVES["soft labels"].loss,
            0,
            "",
        )
    assert calls == [[35, 21]] * 3 + [[22, 21]] * 3


# --------------------------------------------------------------------------------- the study


def test_errors_by_hand():
    assert errors(np.array([0.5, 0.5, 0.5]), SHARES) == pytest.approx((100 * np.sqrt(0.08 / 3), 40 / 3))
    assert errors(SHARES, SHARES) == (0, 0)


def test_planted_salience_is_found(planted):
    """Features that hold the shares: every head beats the constant, and its salience is far above chance."""
    dataset, (features,) = planted(noise=(0.1,))
    study = salience(dataset, features, Recipe(1e-2, 1e-3, 32, 6, 6), "linear", 0, "signature")
    for name, figures in study.values["heads"].items():
        assert figures["acc_salience"] > 0.4, name
        assert figures["rmse"] < study.values["always_50"]["rmse"], name
    assert set(study.figures) == {"shares", "gained"} and all(
        picture.png.startswith(b"\x89PNG") for picture in study.figures.values()
    )
    assert len(study.tables["heads"].rows) == len(OBJECTIVES)
    *heads, always_50 = study.tables["errors"].rows
    for name, rmse, low, high, mae, *_ in heads:
        assert rmse == pytest.approx(study.values["heads"][name]["rmse"]) and low <= rmse <= high
        assert mae == pytest.approx(study.values["heads"][name]["mae"])
    assert always_50[:2] == ["always 50", pytest.approx(study.values["always_50"]["rmse"])]


def test_noise_predicts_no_share(planted):
    dataset, (noise,) = planted(noise=(None,))
    study = salience(dataset, noise, Recipe(3e-3, 1e-3, 32, 3, 3), "linear", 0, "signature")
    for name, figures in study.values["heads"].items():
        assert figures["score"] < 0.15 and figures["rmse"] > study.values["always_50"]["rmse"] - 0.2, name


@pytest.mark.long
def test_the_same_call_gives_the_same_study(tiny):
    sound, recipe = tiny.read(tiny.sound), Recipe(1e-2, 1e-3, 8, 2, 2)
    first, second = (salience(tiny.dataset, sound, recipe, "mlp256", 1, "signature") for _ in range(2))
    assert first == second


def test_folds_without_blends_are_refused(tiny):
    labels = np.where(tiny.dataset.folds == 0, tiny.dataset.labels, 0)
    with pytest.raises(ValidationError, match="no blends in fold 1, 2"):
        salience(
            tiny.dataset._replace(labels=labels), tiny.read(tiny.sound), Recipe(1e-2, 1e-3, 8, 2, 2), "linear", 0, ""
        )


@given(
    scores=arrays(np.float32, (3, 6), elements=st.floats(-30, 30, width=32)),
    alpha=st.floats(0.01, 0.99),
    beta=st.floats(0, 0.99),
)
def test_ranks_and_margins_decide_alone(scores, alpha, beta):
    """The decision includes the highest score, and does not change if all scores of a clip are shifted."""
    labels = decode_thresholds(margins(scores), Thresholds(alpha, beta))
    for label, row in zip(labels, scores):
        best = EMOTIONS[int(row.argmax())]
        assert best in LABELS[label].emotions or best == "neu" or row.max() == np.sort(row)[-2]
    quarters = np.round(scores * 4) / 4  # exact under the shift
    assert (margins(quarters) == margins(quarters + 8)).all()


@pytest.mark.parametrize(("decode", "width"), [(by_thresholds, 6), (by_posterior, 36)])
def test_a_fold_s_own_labels_choose_nothing_for_it(decode, width, planted):
    dataset, _ = planted(noise=(), n=240)
    rng = np.random.default_rng(8)
    values = rng.dirichlet(np.ones(width), size=(4, 240))
    values[0, dataset.folds != 1] = values[2, dataset.folds == 1] = (
        1 / width
    )  # epochs that are of no use to the others, or to fold 1
    shuffled = dataset.labels.copy()
    shuffled[dataset.folds == 1] = rng.permutation(shuffled[dataset.folds == 1])
    before, after = decode(values, dataset), decode(values, dataset._replace(labels=shuffled))
    own = dataset.folds == 1
    assert (before.labels[own] == after.labels[own]).all() and (before.epochs[own] == after.epochs[own]).all()
    assert len(set(before.epochs[own])) == 1
