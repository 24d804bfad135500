"""The training loop, compared with explicit arithmetic, and the models that it trains."""

import numpy as np
import pytest
import torch
from torch import nn

from blemore_baselines.models.heads import build_head, mean_loss
from blemore_baselines.models.loop import fit_model, train_epochs
from blemore_baselines.models.recipes import HEADS, Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(1e-2, 1e-2, 16, 4, 4)


def rows(n, dim=7, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, dim)).astype(np.float32), rng.dirichlet(np.ones(6), size=n).astype(np.float32)


def by_hand(X, targets, recipe, seed):
    """Weights (6, dim + 1), the bias last, and each epoch's loss: a linear head and Adam (Kingma and Ba 2015), in
    float64.
    """
    head = build_head("linear", X.shape[1], seed)
    w = np.hstack([head.weight.detach().numpy(), head.bias.detach().numpy()[:, None]]).astype(float)
    X = np.hstack([X, np.ones((len(X), 1))])
    m, v, step, losses = np.zeros_like(w), np.zeros_like(w), 0, []
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(recipe.epochs):
        order, total = torch.randperm(len(X), generator=shuffle).numpy(), 0.0
        for start in range(0, len(X), recipe.batch_size):
            batch, step = order[start : start + recipe.batch_size], step + 1
            p = np.exp(X[batch] @ w.T)
            p /= p.sum(axis=1, keepdims=True)
            total += (targets[batch] * np.log(targets[batch] / p)).sum()
            gradient = (p - targets[batch]).T @ X[batch] / len(batch) + recipe.weight_decay * w
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            w = w - recipe.learning_rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        losses.append(total / len(X))
    return w, losses


@pytest.mark.parametrize("n", [5, 33, 64])
@pytest.mark.parametrize("seed", [0, 9])
def test_the_loop_equals_explicit_arithmetic(n, seed):
    X, targets = rows(n)
    weights, losses = by_hand(X, targets, RECIPE, seed)
    head = build_head("linear", 7, seed)
    assert list(train_epochs(head, X, targets, mean_loss, RECIPE, RECIPE.epochs, seed)) == pytest.approx(losses)
    assert head.weight.detach().numpy() == pytest.approx(weights[:, :-1], abs=1e-5)
    assert head.bias.detach().numpy() == pytest.approx(weights[:, -1], abs=1e-5)


def test_any_module_loss_and_truth():
    """One weight, squared error, whole numbers as truth: the first step of Adam has the size of the learning rate."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    X, truth = np.array([[1.0], [2.0]], np.float32), np.array([2, 4])
    recipe = Recipe(0.25, 0, 2, 1, 1)
    training = train_epochs(module, X, truth, lambda outputs, t: (outputs[:, 0] - t).square().mean(), recipe, 3, 0)
    assert next(training) == 10 and module.weight.item() == pytest.approx(0.25)  # (2² + 4²) / 2
    assert next(training) == pytest.approx((1.75**2 + 3.5**2) / 2)
    assert (
        len(list(training)) == 1 and 0.5 < module.weight.item() < 0.8
    )  # with momentum, at most one learning rate per step


def test_fit_model_gives_the_loop_s_model_and_losses():
    X, targets = rows(40)
    head, losses = build_head("mlp256", 7, 5), []
    expected = list(train_epochs(head, X, targets, mean_loss, RECIPE, 3, 5))
    model = fit_model(X, targets, "mlp256", RECIPE, 3, 5, losses.append)
    assert losses == expected
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in head.state_dict().items())


def test_the_same_arguments_give_the_same_bytes():
    X, targets = rows(50)
    ends = [fit_model(X, targets, "mlp256", RECIPE, 3, 5).state_dict() for _ in range(2)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize("head", HEADS)
def test_a_model_trained_in_a_basis_takes_the_original_rows(head):
    """A model trained in the basis learns, and its weights stay in the span."""
    X, targets = rows(30, dim=200)
    losses = []
    model = fit_model(X, targets, head, RECIPE._replace(span=12), 8, 0, losses.append)
    first = next(model.parameters())
    assert first.shape[1] == 200 and np.linalg.matrix_rank(first.detach().numpy(), tol=1e-4) <= 12
    assert losses[-1] < 0.7 * losses[0]
    with torch.no_grad():
        assert mean_loss(model(torch.from_numpy(X)), torch.from_numpy(targets)).item() < losses[-1]
