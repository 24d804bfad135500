"""A run as one self-contained HTML page, with each of its tables and figures as files beside it.

Whatever is computed comes from the modules below: this one reads a run folder, gathers and writes.
Nothing is loaded from elsewhere by the page; whatever came from a file is escaped.
"""

from __future__ import annotations

import base64
import html
import io
import zipfile
from pathlib import Path
from typing import Mapping, NamedTuple, Optional, Sequence

import numpy as np
import pandas as pd

from blemore import trivial
from blemore.errors import FileError, Problem, ValidationError, printable
from blemore.evaluate import Report
from blemore.io import read_bytes, read_json, write_atomic
from blemore.labels import LABEL_INDEX, LABELS
from blemore.page import STYLE
from blemore.report import to_text
from blemore.signature import line
from blemore.significance import bootstrap, compare
from blemore_baselines import failures, plots, stability
from blemore_baselines.accounts import ACCOUNTS, METRICS, folds_table, structured_to_text
from blemore_baselines.dataset import SET_OF_LABEL, Dataset
from blemore_baselines.decode import Thresholds, accuracies, decode_thresholds, softmax
from blemore_baselines.decoders import scored
from blemore_baselines.features import encoder_name, read_features
from blemore_baselines.published import paper_name, read_published
from blemore_baselines.stack import Recipe
from blemore_baselines.tables import Cell, Table, shown, to_csv, to_html, to_latex

CURVES = ["fold", "epoch", "train_loss", "validation_loss", "published_score"]
STRUCTURED = "What the model for new clips decodes by. Every other section is about thresholds on the same logits."
AGAIN = "Train again, into another folder: blemore-baselines train … --out RUN"


class Run(NamedTuple):
    """What a run folder holds. probabilities: (epochs, N, 6), out of fold, of the dataset's clips in its order."""

    folder: Path
    config: Mapping
    metrics: Mapping
    curves: pd.DataFrame
    dataset: Dataset
    probabilities: np.ndarray

    @property
    def encoders(self) -> list[str]:
        return [str(source.get("encoder") or encoder_name(Path(source["path"]))) for source in self.config["features"]]

    @property
    def signature(self) -> str:
        """Everything that the figures follow from."""
        config = self.config
        fields = {
            "clips": config["train"]["clips"], "train": config["train"]["digest"], "features": "+".join(source["digest"] for source in config["features"]),
            "head": config["head"], "recipe": Recipe(**config["recipe"]).digest, "seed": config["seed"], "version": config["versions"]["blemore"],
        }
        return line(fields)

    def decoded(self, account: str) -> np.ndarray:
        """(N,) the labels that an account predicts: each fold at the epoch, α and β that it tells."""
        predicted = np.zeros(len(self.dataset.ids), dtype=int)
        for fold in self.metrics[account]["folds"]:
            inside = self.dataset.folds == fold["fold"]
            predicted[inside] = decode_thresholds(self.probabilities[fold["epoch"] - 1, inside], Thresholds(fold["alpha"], fold["beta"]))
        return predicted


class Section(NamedTuple):
    """A part of the page. tables, figures (PNG bytes and caption): by the names that their files get; pre: as it is."""

    title: str
    text: Sequence[str] = ()
    tables: Mapping[str, Table] = {}
    figures: Mapping[str, tuple[bytes, str]] = {}
    pre: str = ""


def write_report(run: Path, submission: Optional[Report] = None, features: Sequence[Path] = (), analysis: Optional[Path] = None) -> Path:
    """Write `run/report.html`, `run/tables/` (CSV and LaTeX) and `run/figures/` (PNG); returns the page's path.

    submission: a scored submission, which gets a section of its own
    features:   what the run was trained on, in the same order, for their principal components
    analysis:   the folder that `analyse identity` wrote to; None: `run/analysis`

    Raises FileError: `run` holds no finished run; ValidationError: its files disagree, or the features are others.
    """
    found = read_run(run)
    sections = gather(found, submission, features, analysis or run / "analysis")
    for section in sections:
        for name, table in section.tables.items():
            write_atomic(run / "tables" / f"{name}.csv", to_csv(table, found.signature))
            write_atomic(run / "tables" / f"{name}.tex", to_latex(table, found.signature))
        for name, (png, _) in section.figures.items():
            write_atomic(run / "figures" / f"{name}.png", png)
    write_atomic(run / "report.html", _page(found, sections))
    return run / "report.html"


# ---------------------------------------------------------------------------- the run folder


def read_run(folder: Path) -> Run:
    """Raises FileError: no finished run, or one without a file that a report needs; ValidationError: its files disagree."""
    if not (folder / "metrics.json").exists():
        raise FileError(Problem("no-run", str(folder), "holds no finished run (no metrics.json)", hint="Train first: blemore-baselines train … --out RUN."))
    absent = [name for name in ("config.json", "learning_curves.csv", "labels.csv", "oof_logits.npz") if not (folder / name).exists()]
    if absent:
        raise FileError([Problem("incomplete-run", str(folder / name), "is not there, and the report needs it", hint=f"{AGAIN}.") for name in absent])
    config, metrics = (read_json(folder / name).data for name in ("config.json", "metrics.json"))
    try:
        curves = pd.read_csv(io.BytesIO(read_bytes(folder / "learning_curves.csv")))[CURVES]
        clips = pd.read_csv(io.BytesIO(read_bytes(folder / "labels.csv")), dtype={"filename": str, "actor": str})
        dataset = Dataset(clips["filename"].tolist(), clips["label"].to_numpy(), clips["fold"].to_numpy(), clips["actor"].tolist())
        with np.load(io.BytesIO(read_bytes(folder / "oof_logits.npz")), allow_pickle=False) as stored:
            logits, place = stored["logits"], {clip: row for row, clip in enumerate(stored["filenames"].tolist())}
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:  # FileError is none of these
        raise ValidationError(_mixed(folder, f"labels.csv, learning_curves.csv or oof_logits.npz is damaged: {error}")) from None
    if set(place) != set(dataset.ids):
        raise ValidationError(_mixed(folder, "labels.csv and oof_logits.npz hold other clips"))
    if len(curves) != (expected := len(logits) * len(np.unique(dataset.folds))):
        raise ValidationError(_mixed(folder, f"learning_curves.csv has {len(curves):,} rows; expected {expected:,}, one a fold and epoch"))
    run = Run(folder, config, metrics, curves, dataset, softmax(logits[:, [place[clip] for clip in dataset.ids]]))
    counts = scored(dataset, run.decoded("nested")).counts
    if any(accuracies(counts)[name] != metrics["nested"][name] for name in METRICS):
        raise ValidationError(_mixed(folder, f"oof_logits.npz gives a nested score of {shown(counts.score)}, metrics.json tells {shown(metrics['nested']['score'])}"))
    return run


def _mixed(folder: Path, message: str) -> Problem:
    return Problem("mixed-run", str(folder), message, hint=f"Were files of several runs put together? {AGAIN}.")


# ---------------------------------------------------------------------------------- sections


def gather(run: Run, submission: Optional[Report], features: Sequence[Path], analysis: Path) -> list[Section]:
    """All that the page shows, in its order."""
    nested, published = (scored(run.dataset, run.decoded(account)) for account in ("nested", "published"))
    sections = [
        _results(run, nested), *_failures(run, nested, published, analysis), _folds(run), _stability(run), _confusion(run), _features(run, features),
    ]
    if "structured" in run.metrics:
        sections.insert(1, Section("Structured decoding", [STRUCTURED], pre=structured_to_text(run.metrics["structured"]).strip()))
    if submission:
        truth, said = zip(*((LABEL_INDEX[label], LABEL_INDEX[submission.predictions[clip].label]) for clip, label in submission.labels.items()))
        picture = plots.confusion(np.array(truth), np.array(said))
        sections.append(Section("The submission, scored", pre=to_text(submission).strip(), figures={
            "submission_confusion": (picture, "Rows: truth. Columns: prediction. A number: clips. Frames: a right set of emotions."),
        }))
    return sections


def _results(run: Run, nested: Report) -> Section:
    intervals = bootstrap(nested)
    paper = _paper(run)
    floor = trivial.evaluate(trivial.fit(nested.labels.values()), nested.labels).values()
    columns = ["", "nested", "from", "to", "published account", "± std", *(["the paper", "the paper’s ± std"] if paper else []), "best constant answer"]
    rows: list[list[Cell]] = []
    drawn: dict[str, list] = {"nested, 95 % interval": [], "published account, ± std": [], **({"the paper, ± std": []} if paper else {}), "best constant answer": []}
    for metric, name in METRICS.items():
        value, over, interval = getattr(nested.counts, metric), run.metrics["published"]["over_folds"][metric], intervals.intervals.get(metric)
        constant = max((getattr(counts, metric) for counts in floor if getattr(counts, metric) is not None), default=None)
        theirs = [(its["mean"], its["std"])] if (its := paper and paper.get(metric)) else [(None, None)] if paper else []  # the paper has no score
        rows.append([name, value, interval and interval.low, interval and interval.high, over["mean"], over["std"], *(cell for pair in theirs for cell in pair), constant])
        for series, dot in zip(drawn.values(), [(value, interval and interval.high - value), (over["mean"], over["std"]), *theirs, (constant, None)]):
            series.append(dot)
    note = f" {intervals.note[0].upper()}{intervals.note[1:]}." if intervals.note else ""
    return Section(
        "Results",
        ["Nested: each clip's epoch, α and β were chosen on the other folds, all clips together; this is what to expect of new clips. "
         "Published account: chosen on the fold that it reports, mean and standard deviation over folds, as in the paper's tables."
         f" Intervals: 95 %, a bootstrap over {intervals.units:,} {intervals.unit}s.{note}"],
        {"results": Table("Out of fold", columns, rows)},
        {"results": (plots.intervals(list(METRICS.values()), {"": drawn}, "", ""), "The same figures.")},
    )


def _paper(run: Run) -> Optional[Mapping]:
    """The paper's validation figures for these very encoders, method and head; None where it has none."""
    its = {paper_name(encoder) for encoder in run.encoders}
    rows = [row for row in read_published() if set(row.encoders) == its and row.method == run.config["method"]]
    return rows[0].validation if rows and run.config["head"] == "mlp512" else None


def _failures(run: Run, nested: Report, published: Report, analysis: Path) -> list[Section]:
    counts = [[getattr(report.counts, metric) for metric in METRICS] for report in (published, nested)]
    by_fold = {}
    for fold in run.metrics["nested"]["folds"]:
        inside = run.dataset.folds == fold["fold"]
        by_fold[fold["fold"]] = failures.relations(run.probabilities[fold["epoch"] - 1, inside], run.dataset.labels[inside], Thresholds(fold["alpha"], fold["beta"]))
    table = failures.relations_table(by_fold)
    _, _, right_set, wrong, _, never, mended, lost, *_ = table.rows[-1]
    return [
        Section("Failure 1: the optimistic-to-nested gap",
                ["What the published account gains by choosing epoch, α and β on the clips that it reports. On new clips nothing of it can be expected."],
                {"failure_optimism": failures.optimism_table(*counts, compare(published, nested))}),
        Section("Failure 2: right set, wrong relation",
                [f"Of {right_set:,} true blends whose set of emotions was found, {wrong:,} have the wrong relation. Of these, {never:,} are wrong at every β: the lesser emotion "
                 f"was taken for the dominant one. The β that suits each fold best would mend {mended:,} and lose {lost:,}, so {mended - lost:,} come from β having been chosen on other folds."],
                {"failure_relation": table}),
        _identity(run, analysis),
    ]


def _identity(run: Run, analysis: Path) -> Section:
    title, path = "Failure 3: actor-inclusive minus actor-disjoint", analysis / "identity.json"
    command = f"blemore-baselines analyse identity --metadata CSV --features PATH --preset {run.config['preset']} --head {run.config['head']} --out {analysis}"
    if not path.exists():
        return Section(title, [f"Not measured yet: whether the model does better on actors that it has seen. This command measures it: {command}. Then write the report again."])
    study = read_json(path).data
    try:
        found = {name: {metric: study["estimates"][name][metric] for metric in METRICS} for name in ("disjoint", "inclusive", "difference")}
        rows = [[METRICS[metric], found["disjoint"][metric]["value"], found["inclusive"][metric]["value"], *(gap[key] for key in ("value", "low", "high", "p"))]
                for metric, gap in found["difference"].items()]
        findings, signature = [str(text) for text in study["findings"]], str(study["signature"])
    except (KeyError, TypeError) as error:
        raise ValidationError(Problem("other-study", str(path), f"does not hold the study of identity: {error!r}", hint=f"This writes it: {command}")) from None
    table = Table("Nested; the gap with its 95 % interval over actors", ["", "actor-disjoint", "actor-inclusive", "gap", "from", "to", "p"], rows)
    return Section(title, [*findings, f"The study's own signature: {signature}"], {"failure_identity": table})


def _folds(run: Run) -> Section:
    return Section(
        "Folds and learning curves", [], {f"folds_{account}": folds_table(run.metrics, account) for account in ACCOUNTS},
        {"learning_curves": (plots.learning_curves(run.curves), "Loss on training and validation clips, and the score at each epoch's own best thresholds; dots: the epochs that the published account reports.")},
    )


def _stability(run: Run) -> Section:
    recipe, dataset = run.config["recipe"], run.dataset
    epoch = min(recipe["final_epochs"], recipe["epochs"])
    found = stability.measure(run.probabilities[epoch - 1], dataset.labels, dataset.folds, dataset.actors)
    final = run.metrics["final"]
    return Section(
        "How stable the thresholds are",
        [f"Out-of-fold probabilities of epoch {epoch}, all folds together. A wide plateau, and folds and resamples near it, mean thresholds that travel. "
         f"The run's final model uses α {final['alpha']:.4f} and β {final['beta']:.4f}, fitted on {final['fitted_on']}."],
        {"stability": stability.table(found)},
        {"threshold_map": (plots.threshold_map(found), "The score over both thresholds. Rectangle: the plateau of the exact optimum of all clips; star: its middle; circles: the exact optimum of each fold."),
         "threshold_spread": (plots.threshold_spread(found), "Where the exact optimum falls when actors are drawn anew.")},
    )


def _confusion(run: Run) -> Section:
    truth, predicted = run.dataset.labels, run.decoded("nested")
    rows: list[list[Cell]] = []
    for label in range(len(LABELS)):
        its = predicted[truth == label]
        sets, right = int((SET_OF_LABEL[its] == SET_OF_LABEL[label]).sum()), int((its == label).sum())
        rows.append([str(LABELS[label]), len(its), int((predicted == label).sum()), sets, right, sets / len(its) if len(its) else None, right / len(its) if len(its) else None])
    return Section(
        "What is taken for what", [], {"labels": Table("Nested predictions by true label", ["label", "clips", "predicted", "right set", "right label", "recall of the set", "recall of the label"], rows)},
        {"confusion": (plots.confusion(truth, predicted), "Nested predictions. Rows: truth. Columns: prediction. A number: clips. Frames: a right set of emotions; within them, the diagonal is the right relation.")},
    )


def _features(run: Run, paths: Sequence[Path]) -> Section:
    title = "What the features tell apart"
    if not paths:
        return Section(title, ["Principal components are shown where the features are given: blemore-baselines report RUN --features PATH."])
    dataset, known = run.dataset, [source["digest"] for source in run.config["features"]]
    sources = [read_features(path, dataset.ids, aggregated=run.config["method"] == "aggregate") for path in paths]
    given = [source.digest for source in sources]
    if given != known:
        raise ValidationError(Problem("other-features", " ".join(map(str, paths)), f"the run was trained on features with the digest {' + '.join(known)}; found {' + '.join(given)}",
                                      hint="Give the paths that train was given, in the same order."))
    text = "Two main components of the features of both single emotions and their blends. Each column was standardised within each actor first, over all the actor's clips."
    figures = {}
    for number, (encoder, source) in enumerate(zip(run.encoders, sources), start=1):  # two can be of one encoder
        picture = plots.principal_components(source.X, np.array(dataset.actors)[source.owner], dataset.labels[source.owner])
        name = f"components_{number}_" + "".join(char if char.isalnum() else "_" for char in encoder)
        figures[name] = (picture, f"{encoder}: colour and mark are the share of each emotion.")
    return Section(title, [text], figures=figures)


# ---------------------------------------------------------------------------------- the page

MORE_STYLE = """
.wide { overflow-x: auto; overflow-wrap: normal } .wide table { width: auto; min-width: min(100%, 30rem) } .wide th, .wide td { white-space: nowrap; padding-right: .75rem }
.wide thead th { white-space: normal; min-width: 3.4rem; vertical-align: bottom } .wide caption { white-space: normal }
figure { margin: 1rem 0; overflow-x: auto } figure img { width: 100%; min-width: 30rem; display: block; background: #fff; border-radius: 6px }
figcaption { position: sticky; left: 0; color: var(--soft); font-size: .87rem; padding-top: .3rem }
pre { overflow-x: auto; font: 12px/1.5 ui-monospace, "SF Mono", Consolas, "Liberation Mono", monospace }
"""


def _page(run: Run, sections: Sequence[Section]) -> str:
    config, title = run.config, _safe(" + ".join(run.encoders))
    intro = f"{config['head']} head, {config['method']}, preset {config['preset']}, seed {config['seed']}, {config['train']['clips']:,} clips"
    return "\n".join([
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        # Should something slip through the escaping after all, a browser still loads and runs nothing.
        """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">""",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>\n<style>{STYLE}{MORE_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>",
        f'<p class="soft">{_safe(intro)}</p>',
        _tiles(sections[0].tables["results"]),
        *map(_section, sections),
        f"<h2>Signature</h2><p><code>{_safe(run.signature).replace('|', '|<wbr>')}</code></p>",
        '<p class="soft">Each table lies in tables/ beside this page, as CSV (unrounded) and LaTeX, each figure in figures/.</p>',
        "</body>\n</html>\n",
    ])


def _tiles(results: Table) -> str:
    told = lambda low, high: "no interval" if low is None else f"{shown(low, 3)} – {shown(high, 3)}"  # noqa: E731
    tiles = "".join(f'<div>{name}<b>{shown(value)}</b><span class="soft">{told(low, high)}</span></div>' for name, value, low, high, *_ in results.rows)
    return f'<div class="figures">{tiles}</div><p class="soft">Nested, with 95 % intervals over actors.</p>'


def _section(section: Section) -> str:
    parts = [f"<h2>{_safe(section.title)}</h2>", *(f"<p>{_safe(text)}</p>" for text in section.text), *map(to_html, section.tables.values())]
    parts += [f"<pre>{html.escape(section.pre)}</pre>"] if section.pre else []
    for name, (png, caption) in section.figures.items():
        source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        parts.append(f'<figure><img alt="{_safe(name.replace("_", " "))}" src="{source}"><figcaption>{_safe(caption)}</figcaption></figure>')
    return "\n".join(parts)


def _safe(text: str) -> str:
    return html.escape(printable(text))
