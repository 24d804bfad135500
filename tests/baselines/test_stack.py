"""Models trained side by side equal those that the loop trains one by one."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from blemore_baselines.models import crossval, heads
from blemore_baselines.models.captured import CapturedSteps
from blemore_baselines.models.crossval import cross_validate, fold_seed
from blemore_baselines.models.heads import FLOOR, build_head, clip_logits, fit_scaler, mean_loss
from blemore_baselines.models.loop import fit_model, train_epochs
from blemore_baselines.models.recipes import HEADS, PRESETS, Recipe
from blemore_baselines.models.stack import Rows, Stack

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(1e-2, 1e-2, 16, 4, 4)
RECIPES = {
    "large steps": RECIPE,
    "no weight decay": RECIPE._replace(weight_decay=0),
    "published": PRESETS["published"]["aggregate"]._replace(epochs=20),
    "published, subsample": PRESETS["published"]["subsample"]._replace(epochs=20),
    "fast": PRESETS["fast"]["aggregate"],
}


def rows(n, dim=7, seed=0, size=1.0):
    rng = np.random.default_rng(seed)
    targets = rng.dirichlet(np.ones(6), size=n).astype(np.float32)
    return Rows(size * rng.normal(size=(n, dim)).astype(np.float32), targets)


def check_against_the_loop(data, seeds, recipe, captured=False):
    """Losses, weights and logits of each member and head, to 1e-5."""
    stack = Stack(list(HEADS), data, seeds, recipe)
    if captured:
        stack._captured = CapturedSteps(stack._step, len(data), len(HEADS), recipe.batch_size, "cpu")
    stack_losses = np.array(list(stack.epochs(recipe.epochs)))  # (epochs, members, heads)
    for k, (member, seed) in enumerate(zip(data, seeds)):
        X = torch.from_numpy(member.X)
        for h, head in enumerate(HEADS):
            model = build_head(head, X.shape[1], seed)
            losses = list(train_epochs(model, member.X, member.targets, mean_loss, recipe, recipe.epochs, seed))
            assert stack_losses[:, k, h] == pytest.approx(losses, rel=1e-5)
            weights = stack.module(k, head).state_dict()
            for name, tensor in model.state_dict().items():
                assert weights[name].numpy() == pytest.approx(tensor.numpy(), abs=1e-5)
            logits = model(X).detach().numpy()
            assert stack.logits(k, X)[h].numpy() == pytest.approx(logits, rel=1e-5, abs=1e-5)
            assert stack.module(k, head)(X).detach().numpy() == pytest.approx(logits, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_members_of_any_length_equal_the_loop(recipe):
    # With a batch size of 16, 40 rows make two and a half batches; 33 a last batch of one row; 5 one incomplete batch;
    # 64 four full batches.
    check_against_the_loop([rows(40), rows(33, seed=1), rows(5, seed=2), rows(64, seed=3)], [3, 1, 4, 1], recipe)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_members_trained_in_a_gpu_s_buffers_equal_the_loop(recipe, monkeypatch):
    actives = []
    monkeypatch.setattr(CapturedSteps, "_run", lambda steps, active: actives.append(active) or steps._train(active))
    data = [rows(40), rows(33, seed=1), rows(5, seed=2), rows(64, seed=3)]
    check_against_the_loop(data, [3, 1, 4, 1], recipe, captured=True)
    # All four begin an epoch; those with more batches continue without the others.
    first = {16: [4, 3, 3, 1], 32: [4, 3], 128: [4], 512: [4]}[recipe.batch_size]
    assert actives == first * recipe.epochs


def test_a_step_is_plain_then_captured_then_replayed(monkeypatch):
    """In this order, for each number of members. A capture computes nothing, so it is also replayed."""
    events = []

    class Graph:
        def replay(self):
            events.append("replayed")

    @contextmanager
    def capture(graph):
        events.append("capture")
        yield
        events.append("captured")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)

    def step(batch, counts):
        events.append(tuple(batch.shape))
        return torch.zeros(len(batch), 1)

    steps = CapturedSteps(step, 2, 1, 4, "cpu")
    steps.epoch([torch.arange(13), torch.arange(12)])
    full = [(2, 4), "capture", (2, 4), "captured", "replayed", "replayed"]
    assert events == [*full, (1, 4)]
    steps.epoch([torch.arange(13), torch.arange(12)])
    assert events[len(full) + 1 :] == ["replayed"] * 3 + ["capture", (1, 4), "captured", "replayed"]


def test_wide_rows_equal_the_loop():
    check_against_the_loop([rows(70, dim=300), rows(64, dim=300, seed=1)], [0, 1], PRESETS["fast"]["aggregate"])


def test_probabilities_below_the_floor_equal_the_loop():
    data = rows(40, size=20)
    with torch.no_grad():
        assert (torch.softmax(build_head("linear", 7, 3)(torch.from_numpy(data.X)), dim=1) < FLOOR).any()
    check_against_the_loop([data], [3], RECIPES["published"])


@pytest.mark.parametrize("span", [None, 10, 1024])
@pytest.mark.parametrize("aggregated", [True, False], ids=["aggregate", "subsample"])
@pytest.mark.parametrize("head", HEADS)
def test_a_fold_s_out_of_fold_logits_are_those_of_a_model_trained_by_the_loop(tiny, head, aggregated, span):
    """As `--test-protocol best-fold` requires: for all epochs, folds and seeds, with several rows per clip unless they
    are aggregated.
    """
    features, recipe = tiny.read(tiny.sound, aggregated=aggregated), Recipe(1e-2, 1e-3, 8, 3, 3, span)
    assert aggregated == (len(features.X) == len(tiny.dataset.ids))
    logits = cross_validate(tiny.dataset, features, recipe, [head], [0, 7]).logits[0]
    for fold in (0, 1, 2):
        inside = tiny.dataset.folds == fold
        train_rows = ~inside[features.owner]
        scaler = fit_scaler(features.X[train_rows])
        X, targets = scaler(features.X[train_rows]), tiny.dataset.targets[features.owner[train_rows]]
        owner = np.searchsorted(np.flatnonzero(inside), features.owner[~train_rows])
        for s, seed in enumerate((0, 7)):
            for epochs in (1, 3):
                model = fit_model(X, targets, head, recipe, epochs, fold_seed(seed, fold))
                expected = clip_logits(model, scaler(features.X[~train_rows]), owner, inside.sum())
                assert logits[s, epochs - 1, inside] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("dim", [5, 1030])
def test_rows_standardised_on_a_device_are_the_same(dim):
    X = rows(40, dim).X * 3 + 100
    X[:, 2] = 0.1  # constant
    X[:30, 3] = 7  # constant inside
    inside = np.arange(40) < 30
    for on_device, plain in zip(heads._standardised_on("cpu", X, inside), heads.standardised(X, inside), strict=True):
        assert on_device.dtype == np.float32 and on_device == pytest.approx(plain, abs=1e-6)


def test_seeds_on_the_same_rows_share_them():
    data = rows(50)
    stack = Stack(["linear"], [data, data, data], [0, 1, 2], RECIPE)
    assert stack._X.shape == (1, 50, 7)
    list(stack.epochs(2))
    ends = [stack.module(k, "linear").weight for k in range(3)]
    assert not torch.equal(ends[0], ends[1]) and not torch.equal(ends[1], ends[2])


def test_all_folds_in_one_stack_equal_the_folds_one_by_one(tiny, monkeypatch):
    # A GPU trains all folds in one stack.
    features, recipe = tiny.read(tiny.sound), Recipe(1e-2, 1e-3, 8, 3, 3)
    arguments = (tiny.dataset, features, recipe, ["linear", "mlp256"], [0, 7])
    apart = cross_validate(*arguments)
    *_, together = crossval._train_folds(tiny.dataset, features, [0, 1, 2], recipe, ["linear", "mlp256"], [0, 7])
    for fold, (logits, losses) in together.items():
        assert logits == pytest.approx(apart.logits[:, :, :, tiny.dataset.folds == fold], abs=1e-4)
        assert losses == pytest.approx(apart.losses[fold], rel=1e-4)
    assert apart.logits.shape == (2, 2, 3, 36, 6) and apart.losses[0].shape == (2, 2, 3)


def test_each_head_and_seed_is_at_its_own_index(tiny):
    features, recipe = tiny.read(tiny.sound), Recipe(1e-2, 1e-3, 8, 3, 3)
    both = cross_validate(tiny.dataset, features, recipe, ["mlp256", "linear"], [4, 9]).logits
    for h, head in enumerate(("mlp256", "linear")):
        for s, seed in enumerate((4, 9)):
            alone = cross_validate(tiny.dataset, features, recipe, [head], [seed]).logits[0, 0]
            assert both[h, s] == pytest.approx(alone, abs=1e-4)


def test_finished_folds_are_kept_and_not_trained_again(tiny, tmp_path, monkeypatch):
    features, recipe = tiny.read(tiny.sound), Recipe(1e-2, 1e-3, 8, 2, 2)
    first = cross_validate(tiny.dataset, features, recipe, keep=tmp_path)
    monkeypatch.setattr(crossval, "_train_folds", None)
    again = cross_validate(tiny.dataset, features, recipe, keep=tmp_path)
    assert (first.logits == again.logits).all() and all(
        (first.losses[fold] == again.losses[fold]).all() for fold in first.losses
    )
