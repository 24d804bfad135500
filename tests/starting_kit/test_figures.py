"""The notebook's own figures: whether what they draw is what its text says."""

import numpy as np
import pytest

from blemore_baselines.dataset import TARGETS, Dataset
from blemore_baselines.decoding.thresholds import fit_exact
from blemore_baselines.results import plots, tour_plots


@pytest.fixture
def drawn(monkeypatch):
    """drawn(function, *arguments): the matplotlib figure behind the bytes, laid out."""

    def draw(function, *arguments):
        kept = []
        for module in (plots, tour_plots):
            monkeypatch.setattr(module, "png", lambda made: kept.append(made) or b"")
        function(*arguments)
        kept[0].canvas.draw()
        return kept[0]

    return draw


def scores(labels, noise=1.0):
    raw = TARGETS[labels] + noise * np.random.default_rng(3).random((len(labels), 6))
    return raw / raw.sum(axis=1, keepdims=True)


def test_the_lines_are_the_stars_thresholds(drawn):
    labels = np.arange(144) % 36
    rule, surface, *_ = drawn(tour_plots.decisions, scores(labels), labels, np.arange(144) % 5).axes
    border, alpha, beta = rule.lines
    [star] = [line for line in surface.lines if line.get_marker() == "*" and len(line.get_xdata())]
    best = fit_exact(scores(labels), labels).thresholds
    assert (*star.get_xdata(), *star.get_ydata()) == (*alpha.get_xdata()[:1], *beta.get_ydata()[:1]) == best
    assert {text.get_text() for text in rule.texts} == {"single", "50/50", "70/30"}
    # regions end where the second of two probabilities would be the larger, or their sum more than 1
    assert alpha.get_ydata()[1] == pytest.approx(1 - 2 * best.alpha) and beta.get_xdata()[1] == pytest.approx(
        (1 - best.beta) / 2
    )


def test_regions_that_are_empty_have_no_name(drawn):
    labels = np.arange(60) % 6
    rule = drawn(tour_plots.decisions, scores(labels, 0.2), labels, np.arange(60) % 5).axes[0]
    assert [text.get_text() for text in rule.texts] == ["single"]
    assert all(
        (0 <= line.get_xdata()).all() and (line.get_xdata() <= 0.5).all() and (0 <= line.get_ydata()).all()
        for line in rule.lines
    )


@pytest.mark.parametrize("people", [3, 12, 47])
def test_actors_and_emotions_can_be_told_apart(drawn, people):
    labels = np.tile(np.arange(36), people)
    actors = [f"A{100 + k}" for k in np.repeat(np.arange(people), 36)]
    dataset = Dataset([str(k) for k in range(len(labels))], labels, np.zeros(len(labels), dtype=int), actors)
    X = np.random.default_rng(3).normal(size=(len(labels), 8))
    made = drawn(tour_plots.actor_and_emotion, X, dataset, "some features")
    for axes, entries in zip(made.axes, (min(people, 6), 6)):
        legend = axes.get_legend()
        marks = {
            (tuple(one.get_facecolor()[0]), one.get_paths()[0].vertices.tobytes()) for one in legend.legend_handles
        }
        colours, shapes = map(set, zip(*marks))
        assert len(marks) == len(colours) == len(shapes) == len(legend.get_texts()) == entries
        assert not legend.get_window_extent().overlaps(axes.get_window_extent())  # it covers no point
        assert len(axes.collections[0].get_offsets()) == len(labels)  # all clips are there, in both
    assert made.axes[0].get_title() == f"{min(people, 6)} of {people} actors"
