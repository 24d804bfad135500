"""Figures, as PNG bytes. The one module that imports matplotlib; colours can be told apart by the colour-blind."""

from __future__ import annotations

import io

# Okabe and Ito 2008, darkest first
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def figure(width: float, height: float, rows: int = 1, columns: int = 1, **options):
    """A figure (inches) and its axes (rows, columns), without a display and without the global state of pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    axes = made.subplots(rows, columns, squeeze=False, **options)
    for one in axes.flat:
        one.spines[["top", "right"]].set_visible(False)
    return made, axes


def png(made) -> bytes:
    """The same figure gives the same bytes."""
    buffer = io.BytesIO()
    made.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()
