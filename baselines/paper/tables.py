"""The results of `reproduce` next to the paper's figures, as tables, text and a figure.

There are two accounts of the same models. The *published account* chooses and reports on the same clips, like the
paper's validation, and is just as optimistic. The *nested account* is what to expect on new clips. For the demo's
clips, no differences to the paper's figures are given.

The output folder has results.txt (as printed), .csv (unrounded), .tex, .json and, if any row was run, .png and .pdf.
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
from blemore_baselines.demo.generator import is_demo
from blemore_baselines.results import plots
from blemore_baselines.results.pictures import Picture, write_figure
from blemore_baselines.results.published import Published, read_published_trivial

HEAD = "mlp512"  # the published head
METRICS = {"acc_presence": "presence", "acc_salience": "salience"}
NESTED = {**METRICS, "score": "score"}
ON_DEMO = "These are the demo's invented clips, so their figures are not subtracted from the paper's.\n"
Figure = Mapping | float | None  # mean and std, or a figure alone


class Row(NamedTuple):
    """A row of the tables.

    encoders:  by their names in the paper
    method:    aggregate | subsample
    published: None if the paper has no such row
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
    """The result of a row.

    features: its inputs, with digests
    heads:    name → `blemore_baselines.decoding.accounts.figures`
    test:     None without a test table; else the contents of test.json, and `figures` (None if the table has only ids)
    """

    row: Row
    features: Sequence[dict]
    heads: Mapping[str, Mapping]
    test: Mapping | None = None


class NotRun(NamedTuple):
    """A row, or its test, that could not be run.

    part: train | test
    bad:  its input is invalid, not merely missing
    """

    row: Row
    part: str
    why: str
    bad: bool


class Setting(NamedTuple):
    """What all rows share.

    test_clips:  None without a test table
    test_labels: None if the test table has only ids
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
    """Writes the files. Returns the text.

    sources: train | test → encoder → its features, of which the first was used
    """
    out, signature, real = setting.out, _signature(results, setting), not is_demo(setting.dataset.ids)
    tables = {"validation": validation_table(results, setting, real), "heads": heads_table(results)}
    if setting.test_labels:
        tables["test"] = test_table(results, setting, setting.test_labels, real)
    sections = [*([] if real else [ON_DEMO]), *(to_text(table) for table in tables.values())]
    if setting.test_clips is not None and not setting.test_labels:
        sections.append("Test: the table has only ids, so the submissions (one per row) are not scored here.\n")
    text = "\n".join([*sections, *_reasons(not_run), *_passed_over(sources), signature]) + "\n"
    write_atomic(out / "results.txt", text)
    write_atomic(out / "results.csv", to_csv(flat_table(results, real), signature))
    latex = [to_latex(table, signature, f"tab:{name}") for name, table in tables.items()]
    write_atomic(out / "results.tex", "\n".join([*([] if real else [f"% {ON_DEMO}"]), *latex]))
    if results:
        write_figure(out, "results", _draw(results, real), signature)
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
                "paper": row.published and {"validation": row.published.validation, "test": row.published.test},
            }
            for row, features, heads, test in results
        ],
        "not_run": [
            {"row": row.name, "part": part, "why": reason, "refused": bad} for row, part, reason, bad in not_run
        ],
    }


def validation_table(results: Sequence[Result], setting: Setting, real: bool) -> Table:
    """MLP-512's published account next to the paper's, mean ± standard deviation over folds; the nested score is
    pooled.

    real: the clips are real, so differences are given
    """
    rows: list[list[Cell]] = []
    for result in results:
        account, paper = result.heads[HEAD]["published"]["over_folds"], result.row.published
        cells = [_compared(account[metric], paper.validation[metric] if paper else None, real) for metric in METRICS]
        rows.append([result.row.name, *cells[0], *cells[1], *_nested(result.heads[HEAD], "score")])
    rows += [[*row, *[None] * 3] for row in _trivial_rows(_truth(setting.dataset), "validation", real)]
    return Table(
        f"Validation, MLP-512, preset {setting.preset}{'' if real else ', on the demo'}: the published account next"
        " to the paper's, mean ± standard deviation over folds, and the nested score with its interval over actors",
        ["features", *_columns("published account", real), "nested score", "low", "high"],
        rows,
    )


def _columns(account: str, real: bool) -> list[str]:
    """The columns of both metrics, as in `_compared`."""
    kinds = [account, "the paper", *(["difference"] if real else [])]
    return [f"{metric}, {kind}" for metric in METRICS.values() for kind in kinds]


def _nested(accounts: Mapping, metric: str) -> list[float | None]:
    """The nested figure, pooled over all clips, and the bounds of its interval over actors."""
    nested = accounts["nested"]
    intervals = nested["ci"]["intervals"] if "ci" in nested else {}  # earlier versions wrote none
    return [nested[metric], *intervals.get(metric, (None, None))]


def heads_table(results: Sequence[Result]) -> Table:
    rows: list[list[Cell]] = []
    for result in results:
        for head, accounts in result.heads.items():
            over = accounts["published"]["over_folds"]
            nested = (cell for metric in NESTED for cell in _nested(accounts, metric))
            rows.append([result.row.name, head, *(_spread(over[metric]) for metric in METRICS), *nested])
    columns = ["features", "head", *(f"{metric}, published account" for metric in METRICS.values())]
    columns += [column for metric in NESTED.values() for column in (f"nested {metric}", "low", "high")]
    title = "All heads: the published account, and the nested figures pooled over all clips, with intervals over actors"
    return Table(title, columns, rows)


def test_table(results: Sequence[Result], setting: Setting, reference: Reference, real: bool) -> Table:
    """MLP-512 next to the paper's figures; reference: the test clips' labels."""
    rows: list[list[Cell]] = []
    for result in results:
        if result.test:
            paper, figures = result.row.published, result.test["figures"]
            cells = [_compared(figures[metric], paper.test[metric] if paper else None, real) for metric in METRICS]
            rows.append([result.row.name, *cells[0], *cells[1]])
    rows += _trivial_rows(reference.labels, "test", real)
    title = f"Test, MLP-512, preset {setting.preset}, protocol {setting.test_protocol}{'' if real else ', on the demo'}"
    return Table(title, ["features", *_columns("test", real)], rows)


def _trivial_rows(truth: Mapping[str, Label], part: str, real: bool) -> Iterator[list[Cell]]:
    """The constant answers, fitted on the scored clips.

    The presence of `blend` is that of the most frequent pair, as in the paper.
    """
    counts = trivial.evaluate(trivial.fit(truth.values()), truth)
    for name, published in read_published_trivial().items():
        if name in counts:
            presence = counts["pair" if name == "blend" else name].acc_presence
            figures = {"acc_presence": presence, "acc_salience": counts[name].acc_salience}
            cells = (cell for metric in METRICS for cell in _compared(figures[metric], published[part][metric], real))
            yield [f"trivial: {name}", *cells]


def _truth(dataset: Dataset) -> dict[str, Label]:
    return {clip: LABELS[label] for clip, label in zip(dataset.ids, dataset.labels)}


def _compared(figure: Figure, paper: Figure, real: bool) -> list[Cell]:
    """A figure, the paper's figure and, for real clips, the difference of the means, as text."""
    cells: list[Cell] = [_spread(figure), _spread(paper)]
    if real:
        difference = _difference(_mean(figure), _mean(paper))
        cells.append(None if difference is None else f"{difference:+.3f}")
    return cells


def _difference(figure: float | None, paper: float | None) -> float | None:
    return None if figure is None or paper is None else figure - paper


def _mean(figure: Figure) -> float | None:
    return figure["mean"] if isinstance(figure, Mapping) else figure


def _spread(figure: Figure) -> str | None:
    mean, deviation = _mean(figure), figure["std"] if isinstance(figure, Mapping) else None
    if mean is None:
        return None
    return f"{mean:.3f}" if deviation is None else f"{mean:.3f} ± {deviation:.3f}"


def flat_table(results: Sequence[Result], real: bool) -> Table:
    """Everything unrounded for further processing, one row per head; only MLP-512's rows have the paper's and the test
    figures.

    real: the clips are real, so differences are given
    """
    rows = [_flat_row(result, head) for result in results for head in result.heads]
    columns = [name for name in (rows[0] if rows else ["features"]) if real or not name.endswith("_difference")]
    return Table("Results", columns, [[row[name] for name in columns] for row in rows])


def _flat_row(result: Result, head: str) -> dict[str, Cell]:
    """By column."""
    published = result.row.published if head == HEAD else None
    test = ((result.test or {}).get("figures") if head == HEAD else None) or {}
    account = result.heads[head]["published"]["over_folds"]
    row: dict[str, Cell] = {"features": " + ".join(result.row.encoders), "method": result.row.method, "head": head}
    for metric, name in METRICS.items():
        paper: Mapping[str, float | None] = published.validation[metric] if published else {"mean": None, "std": None}
        row |= {
            f"published_account_{name}": account[metric]["mean"],
            f"published_account_{name}_std": account[metric]["std"],
            f"paper_{name}": paper["mean"],
            f"paper_{name}_std": paper["std"],
            f"{name}_difference": _difference(account[metric]["mean"], paper["mean"]),
        }
    for metric, name in NESTED.items():
        keys = (f"nested_{name}", f"nested_{name}_low", f"nested_{name}_high")
        row |= zip(keys, _nested(result.heads[head], metric))
    for metric, name in METRICS.items():
        paper_test = published.test[metric] if published else None
        row |= {
            f"test_{name}": test.get(metric),
            f"paper_test_{name}": paper_test,
            f"test_{name}_difference": _difference(test.get(metric), paper_test),
        }
    return row


def _reasons(not_run: Sequence[NotRun]) -> Iterator[str]:
    """Why rows could not be run: each reason once, with the rows concerned."""
    groups: dict[tuple[bool, str, str], list[str]] = {}
    for row, part, reason, bad in not_run:
        groups.setdefault((bad, part, reason), []).append(row.name)
    for bad, title in ((False, "Not there"), (True, "Refused")):
        lines = [_reason(names, *key) for key, names in groups.items() if key[0] == bad]
        if lines:
            yield "\n".join([f"{title}:", *lines]) + "\n"


def _reason(names: Sequence[str], bad: bool, part: str, reason: str) -> str:
    rows = ", ".join(names) + (" (test)" if part == "test" else "")
    return f"  {rows}:\n{textwrap.indent(reason, '    ')}" if bad else f"  {rows}: {reason}"


def _passed_over(sources: Mapping[str, Mapping[str, Sequence[Path]]]) -> Iterator[str]:
    lines = [
        f"  {encoder} ({part}): {paths[0]} was used, not {', '.join(map(str, paths[1:]))}"
        for part, by_encoder in sources.items()
        for encoder, paths in by_encoder.items()
        if len(paths) > 1
    ]
    if lines:
        yield "\n".join(["Found more than once:", *lines]) + "\n"


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


def _draw(results: Sequence[Result], real: bool) -> Picture:
    """MLP-512 on the validation clips: the paper's figures, and both accounts of the same models."""
    panels: dict[str, dict[str, list[tuple | None]]] = {}
    heads = [result.heads[HEAD] for result in results]
    for metric, name in METRICS.items():
        accounts = [head["published"]["over_folds"][metric] for head in heads]
        paper = [result.row.published and result.row.published.validation[metric] for result in results]
        panels[f"ACC_{name}"] = {
            "the paper, ± std": [(figure["mean"], figure["std"]) if figure else None for figure in paper],
            "published account, ± std": [(figure["mean"], figure["std"]) for figure in accounts],
            "nested, 95 % interval": [
                (value, None if value is None or high is None else high - value)
                for value, _, high in (_nested(head, metric) for head in heads)
            ],
        }
    note = "MLP-512; standard deviations over folds, intervals over actors"
    if not real:
        note += "; the demo's clips are invented, the paper's are real"
    return plots.intervals([result.row.name for result in results], panels, "accuracy", note)
