"""Ours beside the paper's: what `reproduce` found, as tables, text and a figure.

In the output folder: results.txt (what is printed), .csv (unrounded), .tex, .json and, where a row was run, .png.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from blemore import trivial
from blemore.io import to_json, write_atomic
from blemore.labels import LABELS, Label
from blemore.signature import digest, line
from blemore.tables import Cell, Table, to_csv, to_latex, to_text
from blemore.validate import Reference
from blemore.version import VERSION
from blemore_baselines.dataset import Dataset
from blemore_baselines.results import plots
from blemore_baselines.results.published import Published, read_published_trivial

HEAD = "mlp512"  # the published one
METRICS = {"acc_presence": "presence", "acc_salience": "salience"}
COLUMNS = [column for metric in METRICS.values() for column in (metric, "published", "difference")]
Figure = Mapping | float | None  # mean and std, or a figure alone


class Row(NamedTuple):
    """A row of the tables.

    encoders:  by the paper's names
    method:    aggregate | subsample
    published: None where the paper has no such row
    """

    encoders: tuple[str, ...]
    method: str
    published: Published | None = None

    @property
    def name(self) -> str:
        return " + ".join(self.encoders) + (" (subsampled)" if self.method == "subsample" else "")

    @property
    def folder(self) -> str:
        return "+".join(self.encoders) + f"-{self.method}"


class Result(NamedTuple):
    """What came of a row.

    features: what it was made from, with digests
    heads:    name → `blemore_baselines.decoding.accounts.figures`
    test:     None without; else what test.json holds, and `figures`, None where the test table has ids alone
    """

    row: Row
    features: Sequence[dict]
    heads: Mapping[str, Mapping]
    test: Mapping | None = None


class NotRun(NamedTuple):
    """A row, or its test, that could not be run.

    part: train | test
    bad:  its input is wrong, not merely absent
    """

    row: Row
    part: str
    why: str
    bad: bool


class Setting(NamedTuple):
    """What all rows share.

    test_clips:  None without a test table
    test_labels: None where it has ids alone
    """

    dataset: Dataset
    out: Path
    preset: str
    seed: int
    test_protocol: str
    test_clips: list[str] | None
    test_labels: Reference | None


def write_results(
    results: Sequence[Result],
    not_run: Sequence[NotRun],
    sources: Mapping[str, Mapping[str, Sequence[Path]]],
    setting: Setting,
) -> str:
    """Write the files, and give the text.

    sources: train | test → encoder → its features, of which the first was taken
    """
    out, signature = setting.out, _signature(results, setting)
    tables = {"validation": validation_table(results, setting), "heads": heads_table(results)}
    if setting.test_labels:
        tables["test"] = test_table(results, setting, setting.test_labels)
    sections = [to_text(table) for table in tables.values()]
    if setting.test_clips is not None and not setting.test_labels:
        sections.append("Test: the table has ids alone, so the submissions, one a row, are not scored here.\n")
    text = "\n".join([*sections, *_reasons(not_run), *_passed_over(sources), signature]) + "\n"
    write_atomic(out / "results.txt", text)
    write_atomic(out / "results.csv", to_csv(flat_table(results), signature))
    latex = (to_latex(table, signature, f"tab:{name}") for name, table in tables.items())
    write_atomic(out / "results.tex", "\n".join(latex))
    if results:
        write_atomic(out / "results.png", _draw(results, signature))
    write_atomic(out / "results.json", to_json(_to_dict(results, not_run, setting, signature)))
    return text


def _to_dict(results: Sequence[Result], not_run: Sequence[NotRun], setting: Setting, signature: str) -> dict:
    return {
        "signature": signature,
        "preset": setting.preset,
        "seed": setting.seed,
        "test_protocol": setting.test_protocol if setting.test_clips is not None else None,
        "rows": [
            {
                "encoders": list(row.encoders),
                "method": row.method,
                "features": list(features),
                "heads": heads,
                "test": test,
                "published": row.published and {"validation": row.published.validation, "test": row.published.test},
            }
            for row, features, heads, test in results
        ],
        "not_run": [{"row": row.name, "part": part, "why": why, "refused": bad} for row, part, why, bad in not_run],
    }


def validation_table(results: Sequence[Result], setting: Setting) -> Table:
    """MLP-512 beside the published figures, mean ± standard deviation over folds; the nested score is pooled."""
    rows: list[list[Cell]] = []
    for result in results:
        over, published = result.heads[HEAD]["published"]["over_folds"], result.row.published
        cells = [_beside(over[metric], published.validation[metric] if published else None) for metric in METRICS]
        rows.append([result.row.name, *cells[0], *cells[1], result.heads[HEAD]["nested"]["score"]])
    rows += [[*row, None] for row in _trivial_rows(_truth(setting.dataset), "validation")]
    return Table(
        f"Validation, MLP-512, preset {setting.preset}: the published account, and the nested score",
        ["features", *COLUMNS, "nested score"],
        rows,
    )


def heads_table(results: Sequence[Result]) -> Table:
    rows: list[list[Cell]] = []
    for result in results:
        for head, figures in result.heads.items():
            over, nested = figures["published"]["over_folds"], figures["nested"]
            pooled = (nested[metric] for metric in (*METRICS, "score"))
            rows.append([result.row.name, head, *(_spread(over[metric]) for metric in METRICS), *pooled])
    columns = ["features", "head", "presence", "salience", "nested presence", "nested salience", "nested score"]
    return Table("All heads: the published account, and the nested figures pooled over all clips", columns, rows)


def test_table(results: Sequence[Result], setting: Setting, reference: Reference) -> Table:
    """MLP-512 beside the published figures; reference: the test clips' labels."""
    rows: list[list[Cell]] = []
    for result in results:
        if result.test:
            published = result.row.published
            cells = [
                _beside(result.test["figures"][metric], published.test[metric] if published else None)
                for metric in METRICS
            ]
            rows.append([result.row.name, *cells[0], *cells[1]])
    rows += _trivial_rows(reference.labels, "test")
    return Table(
        f"Test, MLP-512, preset {setting.preset}, protocol {setting.test_protocol}", ["features", *COLUMNS], rows
    )


def _trivial_rows(truth: Mapping[str, Label], part: str) -> Iterator[list[Cell]]:
    """The constant answers, fitted on what is scored.

    The presence of `blend` is that of the most frequent pair, as published.
    """
    counts = trivial.evaluate(trivial.fit(truth.values()), truth)
    for name, published in read_published_trivial().items():
        if name in counts:
            presence = counts["pair" if name == "blend" else name].acc_presence
            figures = {"acc_presence": presence, "acc_salience": counts[name].acc_salience}
            cells = (cell for metric in METRICS for cell in _beside(figures[metric], published[part][metric]))
            yield [f"trivial: {name}", *cells]


def _truth(dataset: Dataset) -> dict[str, Label]:
    return {clip: LABELS[label] for clip, label in zip(dataset.ids, dataset.labels)}


def _beside(figure: Figure, published: Figure) -> tuple[Cell, Cell, Cell]:
    """Ours, the paper's and the difference of the means, as texts."""
    difference = _difference(_mean(figure), _mean(published))
    return _spread(figure), _spread(published), None if difference is None else f"{difference:+.3f}"


def _difference(figure: float | None, published: float | None) -> float | None:
    return None if figure is None or published is None else figure - published


def _mean(figure: Figure) -> float | None:
    return figure["mean"] if isinstance(figure, Mapping) else figure


def _spread(figure: Figure) -> str | None:
    mean, deviation = _mean(figure), figure["std"] if isinstance(figure, Mapping) else None
    if mean is None:
        return None
    return f"{mean:.3f}" if deviation is None else f"{mean:.3f} ± {deviation:.3f}"


def flat_table(results: Sequence[Result]) -> Table:
    """Everything unrounded, a row for each head, for machines; published and test figures beside MLP-512 alone."""
    rows = [_flat_row(result, head) for result in results for head in result.heads]
    return Table("Results", list(rows[0]) if rows else ["features"], [list(row.values()) for row in rows])


def _flat_row(result: Result, head: str) -> dict[str, Cell]:
    """By column."""
    published = result.row.published if head == HEAD else None
    test = ((result.test or {}).get("figures") if head == HEAD else None) or {}
    nested, over = result.heads[head]["nested"], result.heads[head]["published"]["over_folds"]
    row: dict[str, Cell] = {"features": " + ".join(result.row.encoders), "method": result.row.method, "head": head}
    for metric, name in METRICS.items():
        paper: Mapping[str, float | None] = published.validation[metric] if published else {"mean": None, "std": None}
        row |= {
            name: over[metric]["mean"],
            f"{name}_std": over[metric]["std"],
            f"published_{name}": paper["mean"],
            f"published_{name}_std": paper["std"],
            f"{name}_difference": _difference(over[metric]["mean"], paper["mean"]),
        }
    row |= {f"nested_{name}": nested[metric] for metric, name in {**METRICS, "score": "score"}.items()}
    for metric, name in METRICS.items():
        paper_test = published.test[metric] if published else None
        row |= {
            f"test_{name}": test.get(metric),
            f"published_test_{name}": paper_test,
            f"test_{name}_difference": _difference(test.get(metric), paper_test),
        }
    return row


def _reasons(not_run: Sequence[NotRun]) -> Iterator[str]:
    """What could not be run, each reason once with the rows that it concerns."""
    groups: dict[tuple[bool, str, str], list[str]] = {}
    for row, part, why, bad in not_run:
        groups.setdefault((bad, part, why), []).append(row.name)
    for bad, title in ((False, "Not there"), (True, "Refused")):
        lines = [_reason(names, *key) for key, names in groups.items() if key[0] == bad]
        if lines:
            yield "\n".join([f"{title}:", *lines]) + "\n"


def _reason(names: Sequence[str], bad: bool, part: str, why: str) -> str:
    rows = ", ".join(names) + (" (test)" if part == "test" else "")
    return f"  {rows}:\n{textwrap.indent(why, '    ')}" if bad else f"  {rows}: {why}"


def _passed_over(sources: Mapping[str, Mapping[str, Sequence[Path]]]) -> Iterator[str]:
    lines = [
        f"  {encoder} ({part}): {paths[0]} was taken, not {', '.join(map(str, paths[1:]))}"
        for part, by_encoder in sources.items()
        for encoder, paths in by_encoder.items()
        if len(paths) > 1
    ]
    if lines:
        yield "\n".join(["There more than once:", *lines]) + "\n"


def _signature(results: Sequence[Result], setting: Setting) -> str:
    dataset, tests = setting.dataset, [(result.row.name, result.test) for result in results if result.test]
    fields: dict[str, object] = {
        "clips": len(dataset.ids),
        "folds": len(set(dataset.folds.tolist())),
        "train": dataset.digest,
        "preset": setting.preset,
        "seed": setting.seed,
        "rows": len(results),
        "features": digest(
            f"{result.row.name}\t{features['digest']}" for result in results for features in result.features
        ),
    }
    if setting.test_clips is not None:
        fields |= {
            "test": setting.test_protocol,
            "test_clips": len(setting.test_clips),
            "test_features": digest(f"{name}\t{features}" for name, test in tests for features in test["features"]),
        }
    if setting.test_labels:
        fields["test_labels"] = digest(f"{clip}\t{label}" for clip, label in sorted(setting.test_labels.labels.items()))
    return line({**fields, "published": "arXiv:2601.13225", "version": VERSION})


def _draw(results: Sequence[Result], signature: str) -> bytes:
    panels: dict[str, dict[str, list[tuple | None]]] = {}
    heads = [result.heads[HEAD] for result in results]
    for metric, name in METRICS.items():
        over = [head["published"]["over_folds"][metric] for head in heads]
        published = [result.row.published and result.row.published.validation[metric] for result in results]
        panels[f"ACC_{name}"] = {
            "published": [(figure["mean"], figure["std"]) if figure else None for figure in published],
            "ours": [(figure["mean"], figure["std"]) for figure in over],
            "ours, nested": [(head["nested"][metric], None) for head in heads],
        }
    lines = textwrap.wrap(signature.replace("|", "| "), 150)  # no wider than the figure
    note = "MLP-512; mean ± standard deviation over folds, nested: pooled over all clips"
    footnote = "\n".join([note, *(text.replace("| ", "|") for text in lines)])
    return plots.intervals([result.row.name for result in results], panels, "accuracy", footnote)
