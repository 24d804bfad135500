"""What runs look like: tables for the terminal, figures, and one self-contained HTML page a run."""

from __future__ import annotations

import base64
import html
import io
import json
from pathlib import Path
from typing import Mapping, Optional

import numpy as np
import pandas as pd

from blemore.errors import FileError, Problem
from blemore.evaluate import Report
from blemore.io import read_bytes, write_atomic
from blemore.metrics import Counts
from blemore.report import to_text
from blemore.trivial import Trivial

METRICS = {"acc_presence": "ACC_presence", "acc_salience": "ACC_salience", "score": "score"}


# --------------------------------------------------------------------------------- text


def number(value: Optional[float], digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def figures_to_text(figures: Mapping) -> str:
    """Both accounts of `blemore_baselines.decode.figures` as tables: folds, and what they come to."""
    several_epochs = any(fold["epoch"] > 1 for fold in figures["published"]["folds"])
    lines = []
    for account, note in ACCOUNTS.items():
        lines += [f"{account}: {note}", fold_header(several_epochs)]
        lines += [fold_row(fold, several_epochs) for fold in figures[account]["folds"]]
        over = figures[account]["over_folds"]
        indent = " " * (32 if several_epochs else 24)
        lines += [indent + "".join(f"{number(over[name]['mean']):>14}" for name in METRICS) + "   mean over folds"]
        lines += [indent + "".join(f"{'± ' + number(over[name]['std']):>14}" for name in METRICS) + "   standard deviation"]
        if account == "nested":
            lines += [indent + "".join(f"{number(figures[account][name]):>14}" for name in METRICS) + "   pooled over all clips: the figure to trust"]
        lines.append("")
    if "final" in figures:
        final = figures["final"]
        lines.append(f"Final thresholds: alpha {final['alpha']:.6f}, beta {final['beta']:.6f}, fitted on {final['fitted_on']}")
    return "\n".join(lines)


def structured_to_text(figures: Mapping) -> str:
    """The nested account of structured decoding by fold, and how well its posterior is calibrated."""
    lines = ["structured decoding, nested: each fold by a model of the other folds, its strength chosen among them"]
    lines.append(f"{'fold':>4}{'strength':>10}" + "".join(f"{name:>14}" for name in METRICS.values()))
    lines += [f"{fold['fold']:>4}{fold['strength']:>10g}" + "".join(f"{number(fold[name]):>14}" for name in METRICS) for fold in figures["nested"]["folds"]]
    told = figures["calibration"]
    lines.append(f"Posterior over the 36 labels: log loss {told['log_loss']:.4f}, Brier score {told['brier']:.4f}")
    return "\n".join(lines) + "\n"


ACCOUNTS = {
    "published": "each fold with the epoch and thresholds that suit it best, as in the paper (optimistic)",
    "nested": "each fold with what the other folds chose",
}


def fold_header(several_epochs: bool) -> str:
    return f"{'fold':>4}{'  epoch ' if several_epochs else ''}{'alpha':>10}{'beta':>10}" + "".join(f"{name:>14}" for name in METRICS.values())


def fold_row(fold: Mapping, several_epochs: bool) -> str:
    epoch = f"{fold['epoch']:>7} " if several_epochs else ""
    return f"{fold['fold']:>4}{epoch}{fold['alpha']:>10.4f}{fold['beta']:>10.4f}" + "".join(f"{number(fold[name]):>14}" for name in METRICS)


TRIVIAL_NOTES = {"single": "most frequent single emotion", "pair": "most frequent pair", "blend": "most frequent pair with saliences"}


def trivial_to_text(answers: Trivial, results: Mapping[str, Counts], fit: str) -> str:
    lines = [f"Always the same answer, the most frequent {'in what is scored, as published' if fit == 'scored' else 'in train'}", ""]
    lines.append(f"{'answer':<16}{'ACC_presence':>26}{'ACC_salience':>26}")
    for name, counts in results.items():
        presence = f"{number(counts.acc_presence)} ({counts.presence}/{counts.n})"
        salience = f"{number(counts.acc_salience)} ({counts.salience}/{counts.n_blends})"
        lines.append(f"{str(getattr(answers, name)):<16}{presence:>26}{salience:>26}   {TRIVIAL_NOTES[name]}")
    return "\n".join(lines)


def trivial_to_dict(answers: Trivial, results: Mapping[str, Counts], fit: str) -> dict:
    return {
        "fit": fit,
        **{
            name: {
                "answer": str(getattr(answers, name)), **counts._asdict(),
                "acc_presence": counts.acc_presence, "acc_salience": counts.acc_salience, "score": counts.score,
            }
            for name, counts in results.items()
        },
    }


# --------------------------------------------------------------------------------- page


def write_report(run: Path, scored: Optional[Report] = None) -> Path:
    """Write `run/report.html`, self-contained; returns its path. FileError: `run` holds no finished run."""
    if not (run / "metrics.json").exists():
        raise FileError(Problem("no-run", str(run), "holds no finished run (no metrics.json)", hint="Train first: blemore-baselines train … --out RUN."))
    metrics = json.loads(read_bytes(run / "metrics.json"))
    config = json.loads(read_bytes(run / "config.json"))
    curves = pd.read_csv(io.BytesIO(read_bytes(run / "learning_curves.csv")))
    names = " + ".join(str(source.get("encoder") or Path(source["path"]).stem) for source in config["features"])
    sections = [
        f"<h1>{html.escape(names)}</h1>",
        f"<p>{html.escape(config['head'])} head, {html.escape(config['method'])}, preset {html.escape(config['preset'])}, seed {config['seed']}, {config['train']['clips']:,} clips</p>",
        _headline(metrics),
        _picture("Learning curves", _draw_curves(curves), "Training and validation loss of each fold, and the score at the fold's own best thresholds."),
        "<h2>Folds</h2>", f"<pre>{html.escape(figures_to_text(metrics))}</pre>",
    ]
    if scored:
        sections += ["<h2>The submission, scored</h2>", f"<pre>{html.escape(to_text(scored).strip())}</pre>",
                     _picture("Sets of emotions", _draw_confusion(scored), "Rows: truth. Columns: prediction. Shade: share of the row.")]
    path = run / "report.html"
    write_atomic(path, PAGE.format(title=html.escape(names), body="\n".join(sections)))
    return path


def _headline(metrics: Mapping) -> str:
    rows = []
    for name, title in METRICS.items():
        over = metrics["published"]["over_folds"][name]
        rows.append(f"<tr><th>{title}</th><td>{number(metrics['nested'][name])}</td><td>{number(over['mean'])} ± {number(over['std'])}</td></tr>")
    return (
        "<table><tr><th></th><th>nested, pooled<br><small>what to expect of new clips</small></th>"
        "<th>published account<br><small>optimistic: chosen on the fold it reports</small></th></tr>" + "".join(rows) + "</table>"
    )


def _picture(title: str, png: bytes, caption: str) -> str:
    encoded = base64.b64encode(png).decode()
    return f'<h2>{html.escape(title)}</h2><figure><img alt="{html.escape(title)}" src="data:image/png;base64,{encoded}"><figcaption>{html.escape(caption)}</figcaption></figure>'


def _figure(width: float, height: float, columns: int = 1):
    """A figure and its axes, without a display and without the global state of pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()


def _draw_curves(curves: pd.DataFrame) -> bytes:
    figure, (losses, scores) = _figure(9.5, 3.6, columns=2)
    for fold, rows in curves.groupby("fold"):
        colour = f"C{fold % 10}"
        losses.plot(rows["epoch"], rows["train_loss"], color=colour, linestyle=":", linewidth=1)
        losses.plot(rows["epoch"], rows["validation_loss"], color=colour, label=f"fold {fold}")
        scores.plot(rows["epoch"], rows["published_score"], color=colour, linewidth=1)
    losses.set(xlabel="epoch", ylabel="KL divergence", title="loss (dotted: training)")
    scores.set(xlabel="epoch", ylabel="score", title="validation score, own thresholds")
    losses.legend(frameon=False, fontsize=8)
    for axes in (losses, scores):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return _png(figure)


def _draw_confusion(scored: Report) -> bytes:
    """Sets of emotions against sets of emotions, shaded by the share of the row."""
    from blemore.labels import EMOTIONS, PAIRS

    sets = [(emotion,) for emotion in EMOTIONS] + list(PAIRS)
    place = {emotions: index for index, emotions in enumerate(sets)}
    matrix = np.zeros((len(sets), len(sets)), dtype=int)
    for clip, truth in scored.labels.items():
        matrix[place[truth.emotions], place[scored.predictions[clip].label.emotions]] += 1
    figure, (axes,) = _figure(8, 7)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(matrix)):
        axes.text(column, row, matrix[row, column], ha="center", va="center", fontsize=8, color="white" if shares[row, column] > 0.5 else "black")
    names = ["+".join(emotions) for emotions in sets]
    axes.set_xticks(range(len(sets)), names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(sets)), names, fontsize=8)
    axes.set(xlabel="predicted", ylabel="true")
    return _png(figure)


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1c2430; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; margin-bottom: 0; }} h2 {{ font-size: 1.15rem; margin-top: 2.2rem; }}
table {{ border-collapse: collapse; }} th, td {{ padding: .35rem 1rem; border-bottom: 1px solid #d8dde4; text-align: right; }}
th:first-child {{ text-align: left; }} small, figcaption {{ color: #5b6675; font-weight: normal; }}
td {{ font-variant-numeric: tabular-nums; }} pre {{ overflow-x: auto; font-size: .8rem; background: #f4f6f8; padding: 1rem; }}
figure {{ margin: 0; }} img {{ max-width: 100%; }}
</style></head><body>
{body}
</body></html>
"""
