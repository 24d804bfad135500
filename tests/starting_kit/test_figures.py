"""The notebook's own figures: they show what its text says."""

import numpy as np
import pytest

from blemore_baselines.dataset import TARGETS, Dataset
from blemore_baselines.decoding.thresholds import fit_exact
from blemore_baselines.results import plots, tour_plots


@pytest.fixture
def drawing(monkeypatch):
    """drawing(function, *arguments): the matplotlib figure behind the bytes, laid out."""

    def draw(function, *arguments):
        figures = []
        for module in (plots, tour_plots):
            monkeypatch.setattr(module, "png", lambda figure: figures.append(figure) or b"")
        function(*arguments)
        figures[0].canvas.draw()
        return figures[0]

    return draw


def scores(labels, noise=1.0):
    raw = TARGETS[labels] + noise * np.random.default_rng(3).random((len(labels), 6))
    return raw / raw.sum(axis=1, keepdims=True)


def test_the_lines_are_at_the_star_s_thresholds(drawing):
    labels = np.arange(144) % 36
    rule, surface, *_ = drawing(tour_plots.decisions, scores(labels), labels, np.arange(144) % 5).axes
    border, alpha, beta = rule.lines
    [star] = [line for line in surface.lines if line.get_marker() == "*" and len(line.get_xdata())]
    best = fit_exact(scores(labels), labels).thresholds
    assert (*star.get_xdata(), *star.get_ydata()) == (*alpha.get_xdata()[:1], *beta.get_ydata()[:1]) == best
    assert {text.get_text() for text in rule.texts} == {"single", "50/50", "70/30"}
    # Regions end where the second probability would exceed the first, or their sum would exceed 1.
    assert alpha.get_ydata()[1] == pytest.approx(1 - 2 * best.alpha) and beta.get_xdata()[1] == pytest.approx(
        (1 - best.beta) / 2
    )


def test_empty_regions_have_no_name(drawing):
    labels = np.arange(60) % 6
    rule = drawing(tour_plots.decisions, scores(labels, 0.2), labels, np.arange(60) % 5).axes[0]
    assert [text.get_text() for text in rule.texts] == ["single"]
    assert all(
        (0 <= line.get_xdata()).all() and (line.get_xdata() <= 0.5).all() and (0 <= line.get_ydata()).all()
        for line in rule.lines
    )


@pytest.mark.parametrize("people", [3, 12, 47])
def test_actors_and_emotions_are_distinguishable(drawing, people):
    labels = np.tile(np.arange(36), people)
    actors = [f"A{100 + k}" for k in np.repeat(np.arange(people), 36)]
    dataset = Dataset([str(k) for k in range(len(labels))], labels, np.zeros(len(labels), dtype=int), actors)
    X = np.random.default_rng(3).normal(size=(len(labels), 8))
    figure = drawing(tour_plots.actor_and_emotion, X, dataset, "some features")
    for axes, entries in zip(figure.axes, (min(people, 6), 6)):
        legend = axes.get_legend()
        marks = {
            (tuple(mark.get_facecolor()[0]), mark.get_paths()[0].vertices.tobytes()) for mark in legend.legend_handles
        }
        colours, shapes = map(set, zip(*marks))
        assert len(marks) == len(colours) == len(shapes) == len(legend.get_texts()) == entries
        assert not legend.get_window_extent().overlaps(axes.get_window_extent())  # it hides no point
        assert len(axes.collections[0].get_offsets()) == len(labels)  # both show all clips
    assert figure.axes[0].get_title() == f"{min(people, 6)} of {people} actors"
