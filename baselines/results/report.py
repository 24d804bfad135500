"""A run as one self-contained HTML page, with its tables and figures also as files next to it.

This module only gathers and writes; other modules compute. The page loads nothing from elsewhere, and all text from
files is escaped.
"""

from __future__ import annotations

import base64
import html
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from blemore import trivial
from blemore.errors import FileError, Problem, ValidationError
from blemore.evaluate import Report
from blemore.io import write_atomic
from blemore.labels import LABEL_INDEX, LABELS
from blemore.page import STYLE, safe
from blemore.report import intervals_in_words, to_text
from blemore.significance import compare, intervals
from blemore.tables import Cell, Table, shown, to_files, to_html
from blemore_baselines.dataset import SET_OF_LABEL
from blemore_baselines.decoding.accounts import scored
from blemore_baselines.decoding.in_sample import relations_too_good, too_good
from blemore_baselines.decoding.thresholds import Thresholds
from blemore_baselines.demo.generator import is_demo
from blemore_baselines.features import read_features
from blemore_baselines.results import failures, plots, stability
from blemore_baselines.results.pictures import Picture, write_figure
from blemore_baselines.results.published import paper_name, read_published
from blemore_baselines.results.run import Run, read_run
from blemore_baselines.results.studies_of_run import features_options, identity_command, read_studies
from blemore_baselines.results.study_files import Study
from blemore_baselines.results.text import (
    ACCOUNTS,
    METRICS,
    SEEDS,
    epochs,
    folds_table,
    nested_model,
    seeds_tables,
    structured_to_text,
)

ON_DEMO = "The clips are invented, for trying the kit: no figure on this page says anything about real clips."
STRUCTURED = "The model for new clips decodes in this way. All other sections are about thresholds on the same logits."


class Section(NamedTuple):
    """A section of the page.

    tables, figures (with captions): by the names of their files
    pre:       preformatted text
    command:   for the shell
    signature: of a study, for its tables; other tables have the run's
    """

    title: str
    text: Sequence[str] = ()
    tables: Mapping[str, Table] = {}
    figures: Mapping[str, tuple[Picture, str]] = {}
    pre: str = ""
    command: str = ""
    signature: str = ""


def write_report(
    run: Path | Run, submission: Report | None = None, features: Sequence[Path] = (), analysis: Path | None = None
) -> Path:
    """Writes `report.html`, `tables/` (CSV and LaTeX) and `figures/` (PNG and PDF) into a run's folder.

    Returns the page's path.

    run:        its folder, or a run that was read already
    submission: a scored submission, for a section of its own
    features:   the features that the run was trained on, in the same order, for their principal components
    analysis:   the folder that `analyse` wrote studies to; None: `run/analysis`, if it exists

    Raises FileError: `run` holds no finished run, or `analysis` does not exist; ValidationError: files disagree or are
    damaged, or the features or studies belong to another run.
    """
    content = run if isinstance(run, Run) else read_run(run)
    folder = content.folder
    if analysis and not analysis.is_dir():
        raise FileError(
            Problem(
                "cannot-open",
                str(analysis),
                "no such folder",
                hint="Give the folder that the studies were written to: analyse … --out DIR.",
            )
        )
    sections = gather(content, submission, features, analysis or folder / "analysis")
    for section in sections:
        signature = section.signature or content.signature
        for name, table in section.tables.items():
            for file, text in to_files(name, table, signature).items():
                write_atomic(folder / "tables" / file, text)
        for name, (picture, _) in section.figures.items():  # a study's has its signature
            write_figure(folder / "figures", name, picture, None if section.signature else signature)
    write_atomic(folder / "report.html", _page(content, sections))
    return folder / "report.html"


# ---------------------------------------------------------------------------------- sections


def gather(run: Run, submission: Report | None, features: Sequence[Path], analysis: Path) -> list[Section]:
    """The sections of the page, in order."""
    nested, published = (scored(run.dataset, run.decoded(account)) for account in ("nested", "published"))
    studies = read_studies(analysis, run)
    sections = [
        _results(run, nested),
        _optimism(run, nested, published),
        _relations(run),
        _identity(run, studies.pop("identity", None), analysis),
        _folds(run),
        _stability(run),
        _confusion(run),
    ]
    if not run.is_of_scores:
        sections.append(_features(run, features))
    if "seeds" in run.metrics:
        sections.insert(1, _seeds(run))
    if "structured" in run.metrics:
        text = structured_to_text(run.metrics["structured"]).strip()
        sections.insert(1, Section("Structured decoding", [STRUCTURED], pre=text))
    if submission:
        sections.append(_submission(submission))
    return [*sections, *(_study(study, f"Study: {study.title}") for study in studies.values())]


def _submission(submission: Report) -> Section:
    labels = [(label, submission.predictions[clip].label) for clip, label in submission.labels.items()]
    truth, predicted = np.array([[LABEL_INDEX[label] for label in pair] for pair in labels]).T
    caption = "Rows: true labels. Columns: predictions. Numbers: clips. Inside a frame, the set of emotions is right."
    figures = {"submission_confusion": (plots.confusion(truth, predicted), caption)}
    return Section("The submission's score", pre=to_text(submission).strip(), figures=figures)


RESULTS = (
    "Nested: each clip's α and β, and its epoch unless fixed, were chosen on the other folds; figures are pooled over"
    " all clips. Published account: chosen on the same fold that it reports; mean and standard deviation over folds, as"
    " in the paper's tables."
)


def _results(run: Run, nested: Report) -> Section:
    inferred, paper = intervals(nested), _paper(run)
    floor = trivial.evaluate(trivial.fit(nested.labels.values()), nested.labels).values()
    rows: list[list[Cell]] = []
    dots: list[list[tuple]] = []  # by metric, in the order of the series
    for metric, name in METRICS.items():
        value, interval = getattr(nested.counts, metric), inferred.intervals.get(metric)
        low, high = interval or (None, None)
        spreads = [run.metrics["published"]["over_folds"][metric]]
        if paper:
            spreads.append(paper.get(metric, {"mean": None, "std": None}))  # the paper has no score
        points = [(spread["mean"], spread["std"]) for spread in spreads]
        constants = [getattr(counts, metric) for counts in floor]
        constant = max((value for value in constants if value is not None), default=None)
        rows.append([name, value, low, high, *(cell for point in points for cell in point), constant])
        dots.append([(value, interval and interval.high - value), *points, (constant, None)])
    columns = ["", "nested", "low", "high", "published account", "± std"]
    series = ["nested, 95 % interval", "published account, ± std"]
    if paper:
        columns += ["the paper", "the paper’s ± std"]
        series += ["the paper, ± std"]
    table = Table("Out of fold", [*columns, "best constant answer"], rows)
    panel = dict(zip([*series, "best constant answer"], map(list, zip(*dots))))
    bounds = " ".join(intervals_in_words(inferred))
    picture = plots.intervals(list(METRICS.values()), {"": panel}, "", "")
    return Section(
        "Results",
        [f"{RESULTS} {_nested_model(run)} {bounds}", *_doubts(run)],
        {"results": table},
        {"results": (picture, "The same figures.")},
    )


def _nested_model(run: Run) -> str:
    return "" if run.curves is None else nested_model(run.metrics)


def _seeds(run: Run) -> Section:
    text = f"{SEEDS} All other sections describe all seeds together: thresholds decode their mean probabilities."
    tables = {f"seeds_{name}": table for name, table in zip(run.metrics["seeds"], seeds_tables(run.metrics))}
    return Section("Seeds", [text], tables)


def _doubts(run: Run) -> list[str]:
    """A warning if the scores are too good to be out of fold."""
    share = relations_too_good(run.dataset, run.decoded("nested"))
    return [] if share is None else [f"Warning: {too_good(share)}."]


def _paper(run: Run) -> Mapping | None:
    """The paper's validation figures for the same encoders, method and head; None if it has none."""
    encoders = {paper_name(encoder) for encoder in run.encoders}
    rows = [row for row in read_published() if set(row.encoders) == encoders and row.method == run.config["method"]]
    return rows[0].validation if rows and run.config.get("head") == "mlp512" else None


def _optimism(run: Run, nested: Report, published: Report) -> Section:
    optimistic, honest = ([getattr(report.counts, metric) for metric in METRICS] for report in (published, nested))
    return Section(
        "Failure 1: the optimistic-to-nested gap",
        [
            f"The published account chooses {'α' if run.curves is None else 'epoch, α'} and β on the same clips that it"
            f" reports. The gap is what it gains by that; do not expect this gain on new clips.{_second_cause(run)}"
        ],
        {"failure_optimism": failures.optimism_table(optimistic, honest, compare(published, nested))},
    )


def _second_cause(run: Run) -> str:
    if run.curves is None:
        return ""
    best, last = epochs(run.metrics["published"]), run.metrics["final"]["epochs"]
    return (
        " It has two causes: thresholds that fit these clips too well, and epochs that differ from those of the model"
        f" for new clips. In the published account, folds use epoch {best}; the model for new"
        f" clips is trained for {last}."
    )


def _relations(run: Run) -> Section:
    by_fold = {}
    for fold in run.metrics["nested"]["folds"]:
        inside = run.dataset.folds == fold["fold"]
        by_fold[fold["fold"]] = failures.relations(
            run.probabilities[fold["epoch"] - 1, inside],
            run.dataset.labels[inside],
            Thresholds(fold["alpha"], fold["beta"]),
        )
    # Only the epochs that folds were decoded at; with all, each deal would take as long as the run's own account.
    epochs = sorted({fold["epoch"] - 1 for fold in run.metrics["nested"]["folds"]})
    chance = failures.gains_by_chance(run.probabilities[epochs], run.dataset.labels, run.dataset.folds)
    total = failures.total(by_fold)
    gain = failures.Gain(total.fixed - total.lost, chance)
    tables = {
        "failure_relation": failures.relations_table(by_fold),
        "failure_relation_chance": failures.gain_table(gain),
    }
    return Section("Failure 2: right set, wrong relation", failures.relations_in_words(by_fold, gain), tables)


def _identity(run: Run, study: Study | None, analysis: Path) -> Section:
    title = "Failure 3: actor-inclusive minus actor-disjoint"
    if study:
        return _study(study, title)
    if run.config["method"] != "aggregate":
        return Section(
            title,
            [
                "Not measured: whether the model does better on actors that it has seen. The study requires aggregated"
                " features, and this run has none."
            ],
        )
    call = identity_command(run, analysis)
    advice = (
        "run this" if call else "run blemore-baselines analyse identity with the metadata and features given to train"
    )
    return Section(
        title,
        [
            "Not measured yet: whether the model does better on actors that it has seen. To measure it,"
            f" {advice}, and write the report again."
        ],
        command=call or "",
    )


def _study(study: Study, title: str) -> Section:
    tables = {f"{study.name}_{name}": table for name, table in sorted(study.tables.items())}
    figures = {
        f"{study.name}_{name}": (picture, name.replace("_", " ").capitalize())
        for name, picture in sorted(study.figures.items())
    }
    return Section(title, study.findings, tables, figures, signature=study.signature)


def _folds(run: Run) -> Section:
    tables = {f"folds_{account}": folds_table(run.metrics, account) for account in ACCOUNTS}
    if run.curves is None:
        return Section("Folds", [], tables)
    caption = (
        "Loss on training and validation clips, and the score at each epoch's own best thresholds. Dots: the epochs"
        " that the published account reports."
    )
    figures = {"learning_curves": (plots.learning_curves(run.curves), caption)}
    return Section("Folds and learning curves", [], tables, figures)


def _stability(run: Run) -> Section:
    dataset, epoch, when = run.dataset, 1, ""
    if run.curves is not None:
        epoch = min(run.metrics["final"]["epochs"], len(run.probabilities))
        when = f" of epoch {epoch}"
    measures = stability.measure(run.probabilities[epoch - 1], dataset.labels, dataset.folds, dataset.actors)
    pooled, final, near = measures.pooled, run.metrics["final"], stability.NEAR
    map_caption = (
        f"The score over both thresholds. Line: the region within {near} of the best. Star: the exact optimum on all"
        " clips. Circles: the exact optimum of each fold."
    )
    spread_caption = (
        "The exact optimum for resampled actors. Shaded: the score on all clips stays within"
        f" {near} of its best if the other threshold is fixed. Star: the best. Circles: the exact optimum of each fold."
    )
    return Section(
        "Stability of the thresholds",
        [
            f"Out-of-fold probabilities{when}, all folds together. The score stays within {near} of its"
            f" best, {pooled.score:.3f}, for α from {stability.reach(*pooled.alpha)} and for β from"
            f" {stability.reach(*pooled.beta)}, if the other threshold is fixed. If these regions are wide and contain"
            " the folds' and resamples' optima, the thresholds generalise. The run's final model uses"
            f" α {final['alpha']:.4f} and β {final['beta']:.4f}, fitted on {final['fitted_on']}."
        ],
        {"stability": stability.table(measures)},
        {
            "threshold_map": (plots.threshold_map(measures), map_caption),
            "threshold_spread": (plots.threshold_spread(measures), spread_caption),
        },
    )


def _confusion(run: Run) -> Section:
    truth, predicted = run.dataset.labels, run.decoded("nested")
    caption = (
        "Nested predictions. Rows: true labels. Columns: predictions. Numbers: clips. Inside a frame, the set of"
        " emotions is right; on the diagonal, so is the relation."
    )
    return Section(
        "Confusions",
        [],
        {"labels": _labels_table(truth, predicted)},
        {"confusion": (plots.confusion(truth, predicted), caption)},
    )


def _labels_table(truth: np.ndarray, predicted: np.ndarray) -> Table:
    rows: list[list[Cell]] = []
    for label in range(len(LABELS)):
        answers = predicted[truth == label]
        clips, right = len(answers), int((answers == label).sum())
        sets = int((SET_OF_LABEL[answers] == SET_OF_LABEL[label]).sum())
        recalls = (sets / clips, right / clips) if clips else (None, None)
        rows.append([str(LABELS[label]), clips, int((predicted == label).sum()), sets, right, *recalls])
    return Table(
        "Nested predictions by true label",
        ["label", "clips", "predicted", "right set", "right label", "recall of the set", "recall of the label"],
        rows,
    )


def _features(run: Run, paths: Sequence[Path]) -> Section:
    title = "What the features separate"
    if not paths:
        call = shlex.join(["blemore-baselines", "report", str(run.folder), *features_options(run)])
        return Section(title, ["To see principal components, give the features:"], command=call)
    dataset, expected = run.dataset, [source["digest"] for source in run.config["features"]]
    sources = [read_features(path, dataset.ids, aggregated=run.config["method"] == "aggregate") for path in paths]
    digests = [source.digest for source in sources]
    if digests != expected:
        raise ValidationError(
            Problem(
                "other-features",
                " ".join(map(str, paths)),
                f"not the features of the run: digest {' + '.join(digests)}; expected {' + '.join(expected)}",
                hint="Give the same paths as for train, in the same order.",
            )
        )
    text = (
        "The first two principal components of both single emotions and their blends, per pair. Each column was first"
        " standardised within each actor, over all the actor's clips."
    )
    figures = {}
    for number, (encoder, source) in enumerate(zip(run.encoders, sources), start=1):  # an encoder may occur twice
        actors = [dataset.actors[clip] for clip in source.owner]
        picture = plots.principal_components(source.X, actors, dataset.labels[source.owner])
        name = f"components_{number}_" + "".join(char if char.isalnum() else "_" for char in encoder)
        figures[name] = (picture, f"{encoder}: colour and mark show each emotion's share.")
    return Section(title, [text], figures=figures)


# ---------------------------------------------------------------------------------- the page

MORE_STYLE = (
    "\nfigure { margin: 1rem 0; overflow-x: auto }"
    " figure img { width: 100%; min-width: 30rem; display: block; background: #fff; border-radius: 6px }\n"
    "figcaption { position: sticky; left: 0; color: var(--soft); font-size: .87rem; padding-top: .3rem }\n"
    'pre { font: 12px/1.5 ui-monospace, "SF Mono", Consolas, "Liberation Mono", monospace }\n'
    ".command { white-space: pre-wrap }\n"
)
# Even if something slips through the escaping, a browser loads and runs nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def _page(run: Run, sections: Sequence[Section]) -> str:
    title = safe(" + ".join(run.encoders))
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>\n<style>{STYLE}{MORE_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>",
            f'<p class="soft">{safe(_intro(run))}</p>',
            *([f"<p><strong>{ON_DEMO}</strong></p>"] if is_demo(run.dataset.ids) else []),
            _tiles(sections[0].tables["results"], "decoded by thresholds" if "structured" in run.metrics else ""),
            *map(_section, sections),
            f"<h2>Signature of the run</h2><p>{_signature(run.signature)}</p>",
            (
                '<p class="soft">All tables are in tables/ next to this page, as CSV (unrounded) and LaTeX, and all'
                " figures in figures/, as PNG and PDF.</p>"
            ),
            "</body>\n</html>\n",
        ]
    )


def _intro(run: Run) -> str:
    """One line on how the run was made."""
    config, clips = run.config, f"{run.config['train']['clips']:,} clips"
    if run.is_of_scores:
        return f"Scores from {', '.join(source['path'] for source in config['features'])}; {clips}"
    seeds = f"seed{'s' if ',' in run.seeds else ''} {run.seeds}"
    settings = f"{config['head']} head, {config['method']}, preset {config['preset']}, {seeds}, {clips}"
    if "normalise" not in config:
        return settings
    return (
        f"{settings}. Features normalised per actor ({config['normalise']}), over all clips of an actor at once: every"
        " figure is transductive"
    )


def _tiles(results: Table, detail: str) -> str:
    tiles = "".join(
        f'<div>{name}<b>{shown(value)}</b><span class="soft">{_interval(low, high)}</span></div>'
        for name, value, low, high, *_ in results.rows
    )
    note = ", ".join(filter(None, ["Nested", detail, "with 95 % intervals over actors"]))
    return f'<div class="figures">{tiles}</div><p class="soft">{note}.</p>'


def _interval(low: Cell, high: Cell) -> str:
    return "n/a" if low is None else f"{shown(low, 3)} – {shown(high, 3)}"


def _section(section: Section) -> str:
    parts = [
        f"<h2>{safe(section.title)}</h2>",
        *(f"<p>{safe(text)}</p>" for text in section.text),
        *map(to_html, section.tables.values()),
    ]
    if section.pre:
        parts.append(f"<pre>{html.escape(section.pre)}</pre>")
    if section.command:
        parts.append(f'<pre class="command">{html.escape(section.command)}</pre>')
    for name, (picture, caption) in section.figures.items():
        source = f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"
        parts.append(
            f'<figure><img alt="{safe(name.replace("_", " "))}"'
            f' src="{source}"><figcaption>{safe(caption)}</figcaption></figure>'
        )
    if section.signature:
        parts.append(f'<p class="soft">Signature of the study: {_signature(section.signature)}</p>')
    return "\n".join(parts)


def _signature(line: str) -> str:
    return f"<code>{safe(line).replace('|', '|<wbr>')}</code>"
