"""Heads, loss and scaler, compared with explicit arithmetic."""

import math

import numpy as np
import pytest
import torch

from blemore_baselines.models.heads import build_head, fit_scaler, mean_loss, row_losses
from blemore_baselines.models.recipes import HEADS


def test_the_shapes_of_the_heads():
    shapes = {name: [tuple(p.shape) for p in build_head(name, 7, seed=0).parameters()] for name in HEADS}
    assert shapes == {
        "linear": [(6, 7), (6,)],
        "mlp256": [(256, 7), (256,), (6, 256), (6,)],
        "mlp512": [(512, 7), (512,), (6, 512), (6,)],
    }
    assert build_head("mlp256", 7, 0)(torch.zeros(3, 7)).shape == (3, 6)


def test_a_hidden_layer_is_rectified():
    head = build_head("mlp256", 2, seed=1)
    (w1, b1, w2, b2), x = [p.detach().numpy() for p in head.parameters()], np.array([[0.5, -1.5]], np.float32)
    expected = np.maximum(x @ w1.T + b1, 0) @ w2.T + b2
    assert head(torch.from_numpy(x)).detach().numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_depends_on_its_seed_alone_and_does_not_change_the_generator(name):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    head = build_head(name, 4, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    same, other = build_head(name, 4, seed=0), build_head(name, 4, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(head.parameters(), same.parameters()))
    assert not any(torch.equal(a, b) for a, b in zip(head.parameters(), other.parameters()))


def test_heads_built_on_several_threads_are_those_built_alone():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda seed: build_head("mlp256", 30, seed), range(40)))
    for seed, head in enumerate(together):
        assert all(torch.equal(a, b) for a, b in zip(head.parameters(), build_head("mlp256", 30, seed).parameters()))


# ------------------------------------------------------------------------------------ loss


def naive_loss(logits, targets):
    """The mean over rows of Σ t · (log t − log max(p, 1e-8)), where t > 0."""
    total = 0.0
    for row, target in zip(logits, targets):
        largest = max(row)
        sizes = [math.exp(value - largest) for value in row]
        for size, t in zip(sizes, target):
            if t > 0:
                total += t * (math.log(t) - math.log(max(size / sum(sizes), 1e-8)))
    return total / len(logits)


def test_the_loss_equals_plain_loops():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(9, 6)) * 3
    targets = np.eye(6)[[0, 5, 2, 1, 1, 0, 3, 4, 4]]
    targets[3:] = 0.7 * targets[3:] + 0.3 * np.eye(6)[[2, 0, 1, 1, 2, 3]]
    loss = mean_loss(torch.from_numpy(logits), torch.from_numpy(targets)).item()
    assert loss == pytest.approx(naive_loss(logits.tolist(), targets.tolist()), rel=1e-9)


def test_the_loss_by_hand():
    # Even logits give 1/6 each. Single: log 6. Blend 50/50: 2 · ½ (log ½ + log 6) = log 3. Their mean.
    logits, targets = torch.zeros(2, 6), torch.tensor([[1.0, 0, 0, 0, 0, 0], [0.5, 0, 0, 0.5, 0, 0]])
    assert mean_loss(logits, targets).item() == pytest.approx((math.log(6) + math.log(3)) / 2)
    # Certain and right: 0. Certain and wrong: the floor of 1e-8.
    sure = torch.tensor([[100.0, 0, 0, 0, 0, 0]])
    assert row_losses(sure, targets[:1]).item() == 0
    assert row_losses(sure, torch.eye(6)[5:]).item() == pytest.approx(-math.log(1e-8))


# ---------------------------------------------------------------------------------- scaler


def test_the_scaler_by_hand():
    # Columns: 1 3 → mean 2, deviation 1 (ddof 0; it would be 1.41 with ddof 1); constant: only centred.
    scaler = fit_scaler(np.array([[1, 5], [3, 5]], np.float32))
    assert scaler.mean.tolist() == [2, 5] and scaler.scale.tolist() == [1, 1]
    scaled = scaler(np.array([[1, 5], [5, 7]], np.float32))
    assert scaled.tolist() == [[-1, 0], [3, 2]] and scaled.dtype == np.float32


def test_the_scaler_against_numpy():
    X = np.random.default_rng(0).normal(3, 20, (50, 4)).astype(np.float32)
    scaled = fit_scaler(X)(X)
    assert scaled.mean(axis=0) == pytest.approx(0, abs=1e-6) and scaled.std(axis=0) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("value", [0.1, 1e-30, 123456.789, -3e7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_column_is_not_amplified(value, dtype):
    # The mean of many values of 0.1 is not exactly 0.1, so their deviation is tiny; dividing by it would only amplify
    # rounding.
    X = np.full((1001, 1), value, dtype)
    assert np.full(1001, 0.1).std() != 0
    scaler = fit_scaler(X)
    assert scaler.scale.tolist() == [1] and scaler(X) == pytest.approx(0, abs=1e-6 * abs(value))


def test_a_column_whose_deviation_vanishes():
    # The square of 1e-300 is zero: the values differ, but one cannot divide by their deviation.
    scaler = fit_scaler(np.array([[0.0], [1e-300]]))
    assert np.isfinite(scaler(np.array([[0.0], [1.0]]))).all()
