"""Models trained side by side become what each would have become alone, in a loop that anybody would write."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from blemore_baselines.models import crossval
from blemore_baselines.models.crossval import cross_validate, fit_model
from blemore_baselines.models.heads import build_head
from blemore_baselines.models.recipes import HEADS, Recipe
from blemore_baselines.models.stack import Rows, Stack

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(1e-2, 1e-2, 16, 4, 4)


def rows(n, dim=7, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.dirichlet(np.ones(6), size=n).astype(np.float32)
    return Rows(rng.normal(size=(n, dim)).astype(np.float32), targets)


def plain(head, data, seed, recipe=RECIPE):
    """The model and its losses, one epoch after the other, one batch after the other."""
    model = build_head(head, data.X.shape[1], seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    shuffle = torch.Generator().manual_seed(seed)
    X, targets = torch.from_numpy(data.X), torch.from_numpy(data.targets)
    losses = []
    for _ in range(recipe.epochs):
        summed = 0.0
        for batch in torch.randperm(len(X), generator=shuffle).split(recipe.batch_size):
            optimizer.zero_grad()
            logs = torch.log(torch.clamp(torch.softmax(model(X[batch]), dim=1), min=1e-8))
            loss = F.kl_div(logs, targets[batch], reduction="batchmean")
            loss.backward()
            optimizer.step()
            summed += loss.item() * len(batch)
        losses.append(summed / len(X))
    return model, losses


def test_members_of_every_length_become_what_they_become_alone():
    # 40 rows: two batches and a half; 33: a last batch of one row; 5: a batch that is not full; 64: four full ones.
    data, seeds, heads = [rows(40), rows(33, seed=1), rows(5, seed=2), rows(64, seed=3)], [3, 1, 4, 1], list(HEADS)
    stack = Stack(heads, data, seeds, RECIPE)
    told = list(stack.epochs(RECIPE.epochs))
    for k, (one, seed) in enumerate(zip(data, seeds)):
        X = torch.from_numpy(one.X)
        for h, head in enumerate(heads):
            model, losses = plain(head, one, seed)
            assert np.array(told)[:, k, h] == pytest.approx(losses, rel=1e-5)
            expected = model(X).detach().numpy()
            assert stack.module(k, head)(X).detach().numpy() == pytest.approx(expected, abs=1e-4)
            assert stack.logits(k, X)[h].numpy() == pytest.approx(expected, abs=1e-4)


def test_seeds_on_the_same_rows_share_them():
    data = rows(50)
    stack = Stack(["linear"], [data, data, data], [0, 1, 2], RECIPE)
    assert stack._X.shape == (1, 50, 7)
    list(stack.epochs(2))
    ends = [stack.module(k, "linear").weight for k in range(3)]
    assert not torch.equal(ends[0], ends[1]) and not torch.equal(ends[1], ends[2])


def test_a_member_alone_gives_the_same_bytes_every_time():
    data = rows(50)
    ends = [fit_model(data.X, data.targets, "mlp256", RECIPE, 3, 5).state_dict() for _ in range(2)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_all_folds_in_one_stack_are_the_folds_one_by_one(tiny, monkeypatch):
    # One stack of all folds is what a GPU gets.
    features, recipe = tiny.read(tiny.sound), Recipe(1e-2, 1e-3, 8, 3, 3)
    arguments = (tiny.dataset, features, recipe, ["linear", "mlp256"], [0, 7])
    apart = cross_validate(*arguments)
    *_, together = crossval._train_folds(tiny.dataset, features, [0, 1, 2], recipe, ["linear", "mlp256"], [0, 7])
    for fold, (logits, losses) in together.items():
        assert logits == pytest.approx(apart.logits[:, :, :, tiny.dataset.folds == fold], abs=1e-4)
        assert losses == pytest.approx(apart.losses[fold], rel=1e-4)
    assert apart.logits.shape == (2, 2, 3, 36, 6) and apart.losses[0].shape == (2, 2, 3)


def test_each_head_and_seed_stands_where_it_should(tiny):
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
