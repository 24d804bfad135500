"""Figures: what is drawn where, and the same bytes for the same input. Their looks are not tested."""

import io
import re
import subprocess
import sys
import zlib
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from blemore_baselines.dataset import TARGETS
from blemore_baselines.results import pictures, plots, stability, tour_plots

ROOT = Path(__file__).resolve().parents[2]


def case(n=72):
    rng = np.random.default_rng(3)
    labels = np.arange(n) % 36
    scores = TARGETS[labels] + rng.random((n, 6))
    return (
        scores / scores.sum(axis=1, keepdims=True),
        labels,
        np.arange(n) % 4,
        [f"A{k % 8}" for k in range(n)],
        rng.normal(size=(n, 9)),
    )


def drawings():
    probabilities, labels, folds, actors, X = case()
    measurement = stability.measure(probabilities, labels, folds, actors, resamples=10)
    curves = pd.DataFrame(
        [(fold, epoch, 1 / epoch, 2 / epoch, fold / 10) for fold in range(9) for epoch in (1, 2, 3)],
        columns=["fold", "epoch", "train_loss", "validation_loss", "published_score"],
    )
    return {
        "learning_curves": plots.learning_curves(curves),
        "confusion": plots.confusion(labels, labels[::-1]),
        "principal_components": plots.principal_components(X, actors, labels),
        "one pair": plots.principal_components(X, actors, labels, [("disg", "sad")]),
        "threshold_map": plots.threshold_map(measurement),
        "threshold_spread": plots.threshold_spread(measurement),
        "decisions": tour_plots.decisions(probabilities, labels, folds),
        "intervals": plots.intervals(
            ["a", "b"], {"": {"ours": [(0.5, 0.1), None], "published": [(0.4, None), (None, None)]}}, "score", ""
        ),
    }


@pytest.mark.long
def test_the_same_input_gives_the_same_bytes():
    first, second = drawings(), drawings()
    for name, drawing in first.items():
        assert drawing == second[name], name
        picture = matplotlib.image.imread(io.BytesIO(getattr(drawing, "png", drawing)))
        assert 600 <= picture.shape[1] <= 1500 and 0.01 < (picture[..., :3] < 0.99).any(axis=2).mean(), name


# --------------------------------------------------------------------------------- files

SIGNATURE = "clips:3|train:0f|name:a(b\\c|version:0"


def small():
    canvas, axes = plots.figure(2, 2)
    axes[0, 0].set(title="αβ − ≥ é", xlabel="share of clips")
    axes[0, 0].imshow(np.eye(2))
    return plots.picture(canvas)


def streams(pdf):
    """What is in the compressed streams of a PDF."""
    parts = re.findall(rb"/Filter /FlateDecode.*?stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    return [zlib.decompress(part) for part in parts]


def test_a_pdf_embeds_its_fonts():
    pdf = small().pdf
    assert pdf.startswith(b"%PDF-1.") and b"/FontFile2" in pdf and b"/Type0" in pdf and b"/Type3" not in pdf
    (content,) = [stream for stream in streams(pdf) if b" Tf" in stream]
    assert content.count(b" Tf") > 3 and b" Do" in content  # text as text; the map is an image


def test_a_pdf_s_bytes_depend_neither_on_the_time_nor_on_the_order_of_hashes():
    code = (
        "import hashlib, sys; sys.path.insert(0, 'tests/baselines'); import test_plots as t;"
        " print(*(hashlib.sha256(content).hexdigest() for content in t.pictures.sign(t.small(), t.SIGNATURE)))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-P", "-c", code],
            env={"PYTHONHASHSEED": seed, "SOURCE_DATE_EPOCH": seed, "MPLCONFIGDIR": "/nonexistent"},
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout
        for seed in ("1", "1000000000")
    ]
    assert runs[0] == runs[1] and len(runs[0].split()) == 2
    assert b"CreationDate" not in small().pdf


def objects(pdf):
    """Number → what an object of a PDF begins with, found as readers do: by the tables, the last of which counts."""
    entries, offset = {}, int(re.findall(rb"startxref\s+(\d+)\s+%%EOF", pdf)[-1])
    trailers = []
    while True:
        table, _, trailer = pdf[offset:].partition(b"trailer")
        assert table.startswith(b"xref")
        first, count = map(int, table.split()[1:3])
        for k, line in enumerate(re.findall(rb"(\d{10}) \d{5} ([nf]) ", table)):
            if line[1] == b"n":
                entries.setdefault(first + k, pdf[int(line[0]) :])
        assert k + 1 == count
        trailers.append(trailer[: trailer.index(b"startxref")])
        earlier = re.search(rb"/Prev (\d+)", trailers[-1])
        if not earlier:
            return entries, trailers[0]
        offset = int(earlier[1])


def test_a_signature_is_in_the_metadata_of_both_files(tmp_path):
    bare = small()
    png, pdf = pictures.write_figure(tmp_path, "a.b", bare, SIGNATURE)
    assert (png.name, pdf.name) == ("a.b.png", "a.b.pdf")
    with Image.open(png) as image:
        assert image.text == {"Signature": SIGNATURE}
        assert (np.asarray(image) == np.asarray(Image.open(io.BytesIO(bare.png)))).all()
    entries, trailer = objects(pdf.read_bytes())
    info, root = (int(re.search(rb"/%s (\d+) 0 R" % name, trailer)[1]) for name in (b"Info", b"Root"))
    assert all(content.startswith(b"%d 0 obj" % number) for number, content in entries.items())
    assert entries[info].startswith(b"%d 0 obj\n<< /Keywords (clips:3|train:0f|name:a\\(b\\\\c|version:0) >>" % info)
    assert b"/Catalog" in entries[root][:60] and f"/Size {info + 1}".encode() in trailer
    assert pdf.read_bytes().startswith(bare.pdf)
    assert [path.read_bytes() for path in pictures.write_figure(tmp_path, "c", bare, None)] == list(bare)


def test_a_signature_with_other_letters_is_kept():
    png, pdf = pictures.sign(small(), "é|β")
    assert Image.open(io.BytesIO(png)).text == {"Signature": "é|β"}
    assert b"/Keywords <FEFF00e9007c03b2>" in pdf


def drawn(monkeypatch, function, *arguments):
    """The matplotlib figure behind the bytes."""
    figures = []
    monkeypatch.setattr(plots, "picture", figures.append)
    monkeypatch.setattr(tour_plots, "png", figures.append)
    function(*arguments)
    return figures[0]


def test_confusion_puts_truth_in_rows(monkeypatch):
    figure = drawn(monkeypatch, plots.confusion, np.array([0, 0, 0, 7]), np.array([0, 6, 6, 8]))
    axes = figure.axes[0]
    shares = axes.images[0].get_array()
    assert (shares[0, 0], shares[0, 6], shares[7, 8]) == pytest.approx(
        (1 / 3, 2 / 3, 1)
    ) and shares.sum() == pytest.approx(2)
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {
        ((0, 0), "1"),
        ((6, 0), "2"),
        ((8, 7), "1"),
    }
    assert (axes.get_ylabel(), axes.get_yticklabels()[7].get_text()) == ("true", "ang+disg 50/50")


def test_differences_between_actors_are_removed():
    X = np.array([[1.0, 5, 0], [3, 5, 2], [101, 7, 20], [103, 7, 22]])
    assert plots._by_actor(X, ["a", "a", "b", "b"]).tolist() == [[-1, 0, -1], [1, 0, 1]] * 2


@pytest.mark.parametrize("value", [0.1, 1e-300, 1e6 + 0.1])
def test_rounding_gives_a_constant_column_no_spread(value):
    X = np.stack([np.full(6, value), np.arange(6.0)], axis=1)  # the mean of six times 0.1 is another number than 0.1
    normal = plots._by_actor(X, list("aaaaaa"))
    assert (normal[:, 0] == 0).all() and normal[:, 1].std() == pytest.approx(1)


def test_main_axes_are_those_of_an_eigendecomposition():
    X = np.random.default_rng(0).normal(size=(30, 5)) * [5, 3, 1, 1, 1]
    places, shares = plots._main_axes(X)
    values = np.sort(np.linalg.eigvalsh(np.cov(X.T)))[::-1]
    assert places.var(axis=0, ddof=1) == pytest.approx(values[:2]) and shares == pytest.approx(
        values[:2] / values.sum()
    )


def test_components_of_a_pair_are_of_its_five_labels_alone(monkeypatch):
    _, labels, _, actors, X = case()
    figure = drawn(monkeypatch, plots.principal_components, X, actors, labels, [("ang", "disg")])
    points = [cloud for cloud in figure.axes[0].collections if len(cloud.get_offsets()) > 1]
    assert [len(cloud.get_offsets()) for cloud in points] == [2] * 5
    first, second = points[0].get_offsets(), points[-1].get_offsets()
    assert (first.mean(axis=0) <= second.mean(axis=0)).all()  # the first emotion lies left and below


@pytest.mark.parametrize("labels", [np.full(4, 5), np.array([0, 0, 0, 0]), np.array([0, 1, 6, 7])])
def test_components_where_clips_are_few_or_equal(labels):
    assert plots.principal_components(np.ones((4, 3)), list("aabb"), labels).png.startswith(b"\x89PNG")


def test_the_map_marks_each_optimum_where_it_is(monkeypatch):
    probabilities, labels, folds, actors, _ = case()
    measurement = stability.measure(probabilities, labels, folds, actors, resamples=2)
    axes = drawn(monkeypatch, plots.threshold_map, measurement).axes[0]
    star = next(line for line in axes.lines if line.get_marker() == "*")
    assert (star.get_xdata()[0], star.get_ydata()[0]) == measurement.pooled.thresholds
    discs = {text.get_text(): text.get_position() for text in axes.texts}
    assert discs == {
        str(fold): (min(own.thresholds.alpha, 0.5), min(own.thresholds.beta, 1))
        for fold, own in measurement.folds.items()
    }
    assert np.array_equal(axes.collections[0].get_array(), measurement.scores.T)
    texts = {text.get_text() for text in axes.get_legend().get_texts()}
    assert texts == {"within 0.005 of the best", f"best: {measurement.pooled.score:.3f}"}
    # Between points of the grid on either side of it, and there are both.
    (level,), paths = axes.collections[1].levels, axes.collections[1].get_paths()
    assert level == measurement.pooled.score - 0.005 and any(len(path.vertices) for path in paths)
    inside = measurement.scores >= level
    for alpha, beta in np.concatenate([path.vertices for path in paths]):
        around = inside[np.abs(stability.ALPHAS - alpha) < 0.0041][:, np.abs(stability.BETAS - beta) < 0.0081]
        assert around.any() and not around.all()


def test_a_flat_map_has_no_region(monkeypatch):
    probabilities, _, folds, actors, _ = case()
    measurement = stability.measure(
        np.full_like(probabilities, 1 / 6), np.zeros(72, dtype=int), folds, actors, resamples=2
    )
    axes = drawn(
        monkeypatch,
        plots.threshold_map,
        measurement._replace(scores=np.full_like(measurement.scores, measurement.pooled.score)),
    ).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [f"best: {measurement.pooled.score:.3f}"]


def test_the_spread_shades_what_the_region_reaches(monkeypatch):
    probabilities, labels, folds, actors, _ = case()
    measurement = stability.measure(probabilities, labels, folds, actors, resamples=2)
    figure = drawn(monkeypatch, plots.threshold_spread, measurement)
    for axes, (low, high), best, end in zip(
        figure.axes, (measurement.pooled.alpha, measurement.pooled.beta), measurement.pooled.thresholds, (0.5, 1)
    ):
        band = next(patch for patch in axes.patches if patch.get_label().startswith("all clips: within 0.005"))
        assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((low, min(high, end)))
        assert (
            axes.lines[0].get_marker() == "*" and axes.lines[0].get_xdata()[0] == best
        )  # no line, which would hide the band


def test_a_dot_at_zero_is_drawn_completely(monkeypatch):
    axes = drawn(
        monkeypatch, plots.intervals, ["a"], {"": {"ours": [(0.0, 0.1)], "theirs": [(0.5, 0.1)]}}, "", ""
    ).axes[0]
    assert axes.get_xlim()[0] == 0 and not any(line.get_clip_on() for line in axes.lines if line.get_marker() in "os")
    bars = [path.vertices for bar in axes.collections for path in bar.get_paths()]
    assert [bar[:, 0].tolist() for bar in bars] == [[0, 0.1], pytest.approx([0.4, 0.6])]  # none reaches below 0
