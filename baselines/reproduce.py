"""The paper's tables from the features at hand: every published row whose encoders are found, ours beside theirs.

A row is an encoder, or a pair fused early, aggregated or subsampled. Its three heads are cross-validated in
one pass; the published figures are of MLP-512. With a test table, that head predicts the test clips, too.

The output folder:
    config.json             what all rows share; a second call with the same goes on
    <row>/config.json       the row's features, with digests
    <row>/folds/            finished folds, until all are finished
    <row>/oof_logits.csv    MLP-512's out-of-fold logits at the final number of epochs: the folder is a score source for `decode`
    <row>/figures.json      both accounts of each head; written last
    <row>/submission.zip, test_logits.csv, test.json
    results.csv, .tex, .txt, .json, .png
"""

from __future__ import annotations

import functools
import json
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Callable, Iterator, Mapping, NamedTuple, Optional, Sequence, Union

import numpy as np
from tqdm import tqdm

from blemore import trivial
from blemore.errors import BlemoreError, FileError, Problem, ValidationError, show
from blemore.evaluate import evaluate, read_ids, read_reference
from blemore.io import read_json, read_table, to_json, write_atomic
from blemore.labels import LABELS, Label
from blemore.signature import digest
from blemore.validate import Reference
from blemore.version import VERSION
from blemore_baselines import locate, plots
from blemore_baselines.crossval import PRESETS, clip_logits, cross_validate
from blemore_baselines.dataset import Dataset, read_dataset
from blemore_baselines.decode import accuracies, decode_thresholds, figures, softmax
from blemore_baselines.encoders import encoder_class
from blemore_baselines.features import RUN_OOF, RUN_TEST, Features, encoder_name, fuse, read_features, scores_csv
from blemore_baselines.heads import HEADS
from blemore_baselines.predict import match, write_submission
from blemore_baselines.published import Published, paper_name, read_published, read_published_trivial
from blemore_baselines.tables import Cell, Table, to_csv, to_latex, to_text
from blemore_baselines.train import choose_final, claim, dataset_digest, describe, fit_final, versions

HEAD = "mlp512"  # the published one
METRICS = {"acc_presence": "presence", "acc_salience": "salience"}
Figure = Union[Mapping, float, None]  # mean and std, or a figure alone


class Row(NamedTuple):
    """encoders: by the paper's names; method: aggregate | subsample; published: None where the paper has no such row."""

    encoders: tuple[str, ...]
    method: str
    published: Optional[Published] = None

    @property
    def name(self) -> str:
        return " + ".join(self.encoders) + (" (subsampled)" if self.method == "subsample" else "")

    @property
    def folder(self) -> str:
        return "+".join(self.encoders) + f"-{self.method}"


class Result(NamedTuple):
    """features: what the row was made from, with digests; heads: name → `decode.figures`.

    test: None without; else what test.json holds, and `figures`, None where the test table has ids alone
    """

    row: Row
    features: Sequence[Mapping]
    heads: Mapping[str, Mapping]
    test: Optional[Mapping] = None


class NotRun(NamedTuple):
    """A row, or its test, that could not be run. part: train | test; bad: its input is wrong, not merely absent."""

    row: Row
    part: str
    why: str
    bad: bool


class Outcome(NamedTuple):
    """What was written: results in the order of the tables, what could not be run, and both as text."""

    results: list[Result]
    not_run: list[NotRun]
    text: str


class Setting(NamedTuple):
    """What all rows share. test_clips: None without a test table; test_labels: None where it has ids alone."""

    dataset: Dataset
    out: Path
    preset: str
    seed: int
    test_protocol: str
    test_clips: Optional[list[str]]
    test_labels: Optional[Reference]


class Source(NamedTuple):
    path: Path
    features: Features


class Absent(Exception):
    """No features of a row are there."""


def reproduce(
    root: Path, metadata: Path, out: Path, *, preset: str = "published", seed: int = 0, test: Optional[Path] = None, test_protocol: str = "retrain",
) -> Outcome:
    """Run, or go on with, all rows whose features lie under `root`; writes the results and returns them.

    A row whose input is wrong is refused, and the others go on.

    Raises FileError: a table or `root` cannot be opened, or `out` not be written; ValidationError: a table is
    wrong, no features are found at all, or `out` holds the rows of other data, another preset or another seed.
    """
    dataset = read_dataset(metadata)
    setting = Setting(dataset, out, preset, seed, test_protocol, read_ids(test) if test else None, _read_labels(test) if test else None)
    train, tests = find(root, "train"), find(root, "test")
    if not train:
        raise ValidationError(Problem(
            "no-features", str(root),
            "no features in it; expected folders such as WavLM_large_train, files such as wavlm_static_features.npz, or folders train/<encoder>",
            hint="Name the folder that they lie in, three deep at most.",
        ))
    claim(out, {
        "preset": preset, "recipes": {method: recipe._asdict() for method, recipe in PRESETS[preset].items()}, "seed": seed,
        "train": {"clips": len(dataset.ids), "digest": dataset_digest(dataset)}, "features": [], "versions": versions(),
    })
    read_train, read_test = _reader(dataset.ids), _reader(setting.test_clips or [])
    results: list[Result] = []
    not_run: list[NotRun] = []
    for row in tqdm(plan(train), desc="rows", unit="row", disable=None):
        part = "train"
        try:
            sources = [read_train(path, row.method) for path in choose(row, train)]
            results.append(_validate(row, sources, setting))
            if setting.test_clips is not None:
                part = "test"
                results[-1] = _test(results[-1], sources, [read_test(path, row.method) for path in choose(row, tests)], setting)
        except Absent as absent:
            not_run.append(NotRun(row, part, str(absent), bad=False))
        except BlemoreError as error:
            if any(problem.code == "cannot-write" for problem in error.problems):
                raise  # no fault of the row's
            not_run.append(NotRun(row, part, str(error), bad=True))
    return _write(results, not_run, {"train": train, **({} if test is None else {"test": tests})}, setting)


# ------------------------------------------------------------------------- what there is


def find(root: Path, part: str) -> dict[str, list[Path]]:
    """The paper's name, or an encoder's own → its features of a partition, the preferred first.

    By the rules of `locate`; then folders `<part>/<encoder>`, as `extract` writes them.
    """
    if not root.is_dir():
        raise FileError(Problem("cannot-open", str(root), "no such folder", hint="Name the folder that the features lie in."))
    files, folders = locate._listed(root)
    own = sorted({path.parent for path in files if path.suffix == ".npy" and path.parent.parent == root / part})
    found: dict[str, list[Path]] = {}
    for encoder, path in [*locate._features(root, files, folders, part), *((encoder_name(path), path) for path in own)]:
        paths = found.setdefault(paper_name(encoder), [])
        if path not in paths:
            paths.append(path)
    return found


def plan(found: Mapping[str, Sequence[Path]]) -> list[Row]:
    """The published rows in their order, then the encoders that the paper has none for."""
    published = [Row(row.encoders, row.method, row) for row in read_published()]
    known = {encoder for row in published for encoder in row.encoders}
    return published + [Row((encoder,), "aggregate") for encoder in sorted(set(found) - known)]


def choose(row: Row, found: Mapping[str, Sequence[Path]]) -> list[Path]:
    """A row's sources; Absent says which are not there."""
    absent = [encoder for encoder in row.encoders if encoder not in found]
    if absent:
        raise Absent(f"no features of {' and '.join(absent)}")
    if row.method == "aggregate":
        return [found[encoder][0] for encoder in row.encoders]
    (encoder,) = row.encoders
    folder = next((path for path in found[encoder] if path.is_dir()), None)
    if folder is None:
        raise Absent(f"{encoder} is there aggregated alone ({found[encoder][0]}); subsampling needs a folder with a (T, D) file a clip")
    return [folder]


def _reader(ids: Sequence[str]) -> Callable[[Path, str], Source]:
    """Reads features of `ids`; aggregated ones, which are small and serve several rows, once."""

    @functools.cache
    def aggregated(path: Path) -> Source:
        return Source(path, read_features(path, ids))

    return lambda path, method: aggregated(path) if method == "aggregate" else Source(path, read_features(path, ids, aggregated=False))


def _read_labels(test: Path) -> Optional[Reference]:
    """The labels of a test table; None where it has ids alone."""
    if test.suffix.lower() == ".csv":
        labelled = any(row.get("emotion_1") for row in read_table(test))
    else:
        data = read_json(test).data
        labelled = isinstance(data, dict) and "labels" in data
    return read_reference(test) if labelled else None


def _demand_one_preset(sources: Sequence[Source]) -> None:
    """ValidationError: a row's sources are of different presets, though each could have been made with another."""
    made = {str(path): features.meta for path, features in sources}
    chosen = {path: meta["preset"] for path, meta in made.items() if meta.get("preset") and _has_a_choice(meta)}
    if len(set(chosen.values())) > 1:
        raise ValidationError(Problem(
            "other-preset", " and ".join(chosen), f"made with the presets {' and '.join(map(show, chosen.values()))}; expected one for all encoders of a row",
            hint="Extract one of them again with the other's --preset.",
        ))


def _has_a_choice(meta: Mapping) -> bool:
    """Whether the encoder has more than one preset, as far as is known."""
    try:
        return len(encoder_class(meta["encoder"]).presets) > 1
    except (KeyError, ValidationError):
        return True


# --------------------------------------------------------------------------------- a row


def _validate(row: Row, sources: Sequence[Source], setting: Setting) -> Result:
    """All heads over the folds, or what an earlier call has found."""
    _demand_one_preset(sources)
    dataset, folder, recipe = setting.dataset, setting.out / row.folder, PRESETS[setting.preset][row.method]
    described = [describe(source.features, source.path) for source in sources]
    claim(folder, {"row": row.name, "features": described, "versions": versions()})
    done = folder / "figures.json"
    if not done.exists():
        found = cross_validate(dataset, _fuse(sources), recipe, list(HEADS), [setting.seed], keep=folder / "folds", title=row.name)
        heads = {head: figures(softmax(logits), dataset.labels, dataset.folds) for head, logits in zip(HEADS, found.logits[:, 0])}
        its = found.logits[list(HEADS).index(HEAD), 0]
        write_atomic(folder / RUN_OOF, scores_csv(dataset.ids, its[min(recipe.final_epochs, recipe.epochs) - 1]))
        write_atomic(done, to_json(heads))
    shutil.rmtree(folder / "folds", ignore_errors=True)
    return Result(row, described, json.loads(done.read_text(encoding="utf-8")))


def _test(result: Result, sources: Sequence[Source], tests: Sequence[Source], setting: Setting) -> Result:
    """The published head's predictions of the test clips as a submission, and their figures where labels are known."""
    dataset, folder, clips = setting.dataset, setting.out / result.row.folder, setting.test_clips
    matched = match([source.features for source in tests], [source.path for source in tests], result.features)
    recipe = PRESETS[setting.preset][result.row.method]
    final = choose_final(setting.test_protocol, recipe, np.empty(0), dataset, result.heads[HEAD])
    test = {
        "test_protocol": setting.test_protocol, "epochs": final.epochs, **final.thresholds._asdict(), "fitted_on": final.fitted_on,
        "clips": len(clips), "digest": digest(clips), "features": [describe(features, source.path)["digest"] for features, source in zip(matched, tests)],
    }
    before = _read_json(folder / "test.json")
    if before != test:
        changed = [key for key in test if before and before.get(key) != test[key]]
        if changed:
            tqdm.write(f"{result.row.name}: another {', '.join(changed)} than in {folder / 'submission.zip'}; predicting anew", file=sys.stderr)
        features = fuse(matched)
        model, scaler = fit_final(dataset, _fuse(sources), HEAD, recipe, setting.seed, final)
        logits = clip_logits(model, scaler(features.X), features.owner, len(clips))
        write_submission(clips, decode_thresholds(softmax(logits), final.thresholds), folder / "submission.zip")
        write_atomic(folder / RUN_TEST, scores_csv(clips, logits))
        write_atomic(folder / "test.json", to_json(test))
    scored = setting.test_labels and accuracies(evaluate(read_json(folder / "submission.zip").data, setting.test_labels).counts)
    return result._replace(test={**test, "figures": scored})


def _fuse(sources: Sequence[Source]) -> Features:
    return fuse([source.features for source in sources])


def _read_json(path: Path) -> Optional[dict]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


# ------------------------------------------------------------------------------- results


def validation_table(results: Sequence[Result], setting: Setting) -> Table:
    """MLP-512 beside the published figures, mean ± standard deviation over folds; the nested score is pooled."""
    rows: list[list[Cell]] = []
    for result in results:
        over, published = result.heads[HEAD]["published"]["over_folds"], result.row.published
        cells = [_beside(over[metric], published.validation[metric] if published else None) for metric in METRICS]
        rows.append([result.row.name, *cells[0], *cells[1], result.heads[HEAD]["nested"]["score"]])
    rows += [[*row, None] for row in _trivial_rows(_truth(setting.dataset), "validation")]
    return Table(f"Validation, MLP-512, preset {setting.preset}: the published account, and the nested score", ["features", *COLUMNS, "nested score"], rows)


def heads_table(results: Sequence[Result]) -> Table:
    rows = []
    for result in results:
        for head, its in result.heads.items():
            over, nested = its["published"]["over_folds"], its["nested"]
            rows.append([result.row.name, head, *(_spread(over[metric]) for metric in METRICS), *(nested[metric] for metric in (*METRICS, "score"))])
    columns = ["features", "head", "presence", "salience", "nested presence", "nested salience", "nested score"]
    return Table("All heads: the published account, and the nested figures pooled over all clips", columns, rows)


def test_table(results: Sequence[Result], setting: Setting) -> Table:
    """MLP-512 beside the published figures; the test clips' labels are known."""
    rows: list[list[Cell]] = []
    for result in results:
        if result.test:
            published = result.row.published
            cells = [_beside(result.test["figures"][metric], published.test[metric] if published else None) for metric in METRICS]
            rows.append([result.row.name, *cells[0], *cells[1]])
    rows += _trivial_rows(setting.test_labels.labels, "test")
    return Table(f"Test, MLP-512, preset {setting.preset}, protocol {setting.test_protocol}", ["features", *COLUMNS], rows)


COLUMNS = [column for metric in METRICS.values() for column in (metric, "published", "difference")]


def _trivial_rows(truth: Mapping[str, Label], part: str) -> Iterator[list[Cell]]:
    """The constant answers, fitted on what is scored. The blend's presence is of the most frequent pair, as published."""
    counts = trivial.evaluate(trivial.fit(truth.values()), truth)
    for name, published in read_published_trivial().items():
        if name in counts:
            presence = counts["pair" if name == "blend" else name].acc_presence
            ours = {"acc_presence": presence, "acc_salience": counts[name].acc_salience}
            yield [f"trivial: {name}", *(cell for metric in METRICS for cell in _beside(ours[metric], published[part][metric]))]


def _truth(dataset: Dataset) -> dict[str, Label]:
    return {clip: LABELS[label] for clip, label in zip(dataset.ids, dataset.labels)}


def _beside(ours: Figure, published: Figure) -> tuple[Cell, Cell, Cell]:
    """Ours, theirs and the difference of the means, as texts."""
    difference = _difference(_mean(ours), _mean(published))
    return _spread(ours), _spread(published), None if difference is None else f"{difference:+.3f}"


def _difference(ours: Optional[float], published: Optional[float]) -> Optional[float]:
    return None if ours is None or published is None else ours - published


def _mean(figure: Figure) -> Optional[float]:
    return figure["mean"] if isinstance(figure, Mapping) else figure


def _spread(figure: Figure) -> Optional[str]:
    mean = _mean(figure)
    if mean is None:
        return None
    return f"{mean:.3f} ± {figure['std']:.3f}" if isinstance(figure, Mapping) and figure["std"] is not None else f"{mean:.3f}"


def flat_table(results: Sequence[Result]) -> Table:
    """Everything unrounded, a row for each head, for machines; published figures and the test's beside MLP-512 alone."""
    rows = []
    for result in results:
        for head, its in result.heads.items():
            published = result.row.published if head == HEAD else None
            tested = (result.test or {}).get("figures") if head == HEAD else None
            row: dict[str, Cell] = {"features": " + ".join(result.row.encoders), "method": result.row.method, "head": head}
            for metric, name in METRICS.items():
                ours, theirs = its["published"]["over_folds"][metric], published.validation[metric] if published else {"mean": None, "std": None}
                row |= {name: ours["mean"], f"{name}_std": ours["std"], f"published_{name}": theirs["mean"], f"published_{name}_std": theirs["std"],
                        f"{name}_difference": _difference(ours["mean"], theirs["mean"])}
            row |= {f"nested_{name}": its["nested"][metric] for metric, name in {**METRICS, "score": "score"}.items()}
            for metric, name in METRICS.items():
                ours, theirs = tested and tested[metric], published and published.test[metric]
                row |= {f"test_{name}": ours, f"published_test_{name}": theirs, f"test_{name}_difference": _difference(ours, theirs)}
            rows.append(row)
    return Table("Results", list(rows[0]) if rows else ["features"], [list(row.values()) for row in rows])


def _write(results: list[Result], not_run: list[NotRun], found: Mapping[str, Mapping[str, Sequence[Path]]], setting: Setting) -> Outcome:
    out, labels, signature = setting.out, setting.test_labels, _signature(results, setting)
    tables = [validation_table(results, setting), heads_table(results)] + ([test_table(results, setting)] if labels else [])
    sections = [to_text(table) for table in tables]
    if setting.test_clips is not None and labels is None:
        sections.append("Test: the table has ids alone, so the submissions, one a row, are not scored here.\n")
    text = "\n".join([*sections, *_told(not_run), *_passed_over(found), signature]) + "\n"
    write_atomic(out / "results.txt", text)
    write_atomic(out / "results.csv", to_csv(flat_table(results), signature))
    write_atomic(out / "results.tex", "\n".join(to_latex(table, signature) for table in tables))
    write_atomic(out / "results.png", _drawn(results, signature))
    write_atomic(out / "results.json", to_json({
        "signature": signature, "preset": setting.preset, "seed": setting.seed, "test_protocol": setting.test_protocol if setting.test_clips is not None else None,
        "rows": [{
            "encoders": list(row.encoders), "method": row.method, "features": list(features), "heads": heads, "test": test,
            "published": row.published and {"validation": row.published.validation, "test": row.published.test},
        } for row, features, heads, test in results],
        "not_run": [{"row": row.name, "part": part, "why": why, "refused": bad} for row, part, why, bad in not_run],
    }))
    return Outcome(results, not_run, text)


def _told(not_run: Sequence[NotRun]) -> Iterator[str]:
    """What could not be run, each reason once with the rows that it concerns."""
    groups: dict[tuple, list[str]] = {}
    for row, part, why, bad in not_run:
        groups.setdefault((bad, part, why), []).append(row.name)
    for bad, title in ((False, "Not there"), (True, "Refused")):
        its = {key: names for key, names in groups.items() if key[0] == bad}
        if its:
            lines = [f"  {', '.join(names)}{' (test)' if part == 'test' else ''}:" + (f"\n{textwrap.indent(why, '    ')}" if bad else f" {why}")
                     for (_, part, why), names in its.items()]
            yield "\n".join([f"{title}:", *lines]) + "\n"


def _passed_over(found: Mapping[str, Mapping[str, Sequence[Path]]]) -> Iterator[str]:
    lines = [f"  {encoder} ({part}): {paths[0]} was taken, not {', '.join(map(str, paths[1:]))}"
             for part, its in found.items() for encoder, paths in its.items() if len(paths) > 1]
    if lines:
        yield "\n".join(["There more than once:", *lines]) + "\n"


def _signature(results: Sequence[Result], setting: Setting) -> str:
    dataset = setting.dataset
    fields = {
        "clips": len(dataset.ids), "folds": len(set(dataset.folds.tolist())), "train": dataset_digest(dataset), "preset": setting.preset, "seed": setting.seed,
        "rows": len(results), "features": digest(f"{result.row.name}\t{features['digest']}" for result in results for features in result.features),
        **({} if setting.test_clips is None else {"test": setting.test_protocol, "test_clips": len(setting.test_clips)}),
        "published": "arXiv:2601.13225", "version": VERSION,
    }
    return "|".join(f"{key}:{value}" for key, value in fields.items())


def _drawn(results: Sequence[Result], signature: str) -> bytes:
    panels = {}
    for metric, name in METRICS.items():
        heads = [result.heads[HEAD] for result in results]
        published = [result.row.published and result.row.published.validation[metric] for result in results]
        panels[f"ACC_{name}"] = {
            "published": [figure and (figure["mean"], figure["std"]) for figure in published],
            "ours": [(its["published"]["over_folds"][metric]["mean"], its["published"]["over_folds"][metric]["std"]) for its in heads],
            "ours, nested": [(its["nested"][metric], None) for its in heads],
        }
    note = f"MLP-512; mean ± standard deviation over folds, nested: pooled over all clips\n{signature}"
    return plots.intervals([result.row.name for result in results], panels, "accuracy", note)
