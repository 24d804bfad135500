"""Rows in a basis of their span: inner products are preserved, and no coordinate dominates."""

import numpy as np
import pytest

from blemore_baselines.models.basis import span_basis


def rows(n, dim, seed=0):
    X = np.random.default_rng(seed).normal(size=(n, dim))
    return (X - X.mean(axis=0)).astype(np.float32)  # centred, as by a scaler: their span has n - 1 dimensions


def test_products_of_rows_are_preserved_and_entries_have_a_mean_square_of_one():
    X = rows(30, 200)
    basis = span_basis(X, 1024)
    assert basis.shape == (200, 29) and basis.dtype == np.float32
    rotated = X @ basis
    assert np.mean(rotated**2) == pytest.approx(1, rel=1e-4)
    products = X @ X.T
    assert np.allclose(rotated @ rotated.T * np.trace(products) / rotated.size, products, atol=1e-4 * products.max())


def test_a_basis_of_a_part_is_orthogonal_and_inside_the_span():
    X = rows(30, 200)
    basis = span_basis(X, 5)
    gram = basis.T @ basis
    assert basis.shape == (200, 5) and np.allclose(gram / gram[0, 0], np.eye(5), atol=1e-5)
    _, _, inside = np.linalg.svd(X, full_matrices=False)
    assert np.allclose(inside[:29].T @ (inside[:29] @ basis), basis, atol=1e-5)


def test_no_coordinate_is_a_principal_axis():
    """One direction has 10,000 times the variance of any other; the random rotation spreads it over all coordinates."""
    X = rows(41, 100)
    X[:, 0] *= 100
    energy = np.sum((X @ span_basis(X, 40)) ** 2, axis=0)
    assert len(energy) == 40 and energy.max() < 0.5 * energy.sum()


def test_the_same_rows_and_seed_give_the_same_basis():
    X = rows(20, 50)
    assert np.array_equal(span_basis(X, 10), span_basis(X, 10)) and not np.array_equal(
        span_basis(X, 10), span_basis(X, 10, seed=1)
    )


@pytest.mark.parametrize("n, dim, limit", [(30, 29, 1024), (30, 8, 8), (1, 9, 8), (30, 200, 0)])
def test_there_is_no_basis_that_would_gain_nothing(n, dim, limit):
    assert span_basis(rows(n, dim), limit) is None


def test_rows_of_zeros():
    assert np.isfinite(span_basis(np.zeros((5, 20), np.float32), 3)).all()
