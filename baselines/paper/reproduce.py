"""Rebuilds the paper's tables from the available features: every published row whose encoders are found.

A row is an encoder or an early-fused pair, aggregated or subsampled. Its three heads are cross-validated in one pass;
the published figures are those of MLP-512. Given a test table, that head also predicts the test clips.

The output folder:
    config.json             what all rows share; a second call with the same settings resumes
    <row>/config.json       the row's features, with digests
    <row>/folds/            finished folds, until all are finished
    <row>/oof_logits.csv    MLP-512's out-of-fold logits at the final number of epochs, a score source for `decode`
    <row>/figures.json      both accounts of each head; written last
    <row>/submission.zip, test_logits.csv, test.json
    results.txt, .csv, .tex, .json, .png, .pdf     see tables.py
"""

from __future__ import annotations

import functools
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from blemore.errors import BlemoreError, FileError, Problem, ValidationError, show
from blemore.evaluate import evaluate, read_ids, read_reference
from blemore.io import read_json, read_table, to_json, write_atomic
from blemore.signature import digest
from blemore.validate import Reference
from blemore_baselines.dataset import read_dataset
from blemore_baselines.decoding.accounts import accuracies, figures_with_intervals
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.decoding.thresholds import decode_thresholds
from blemore_baselines.encoders import encoder_class
from blemore_baselines.features import RUN_OOF, RUN_TEST, Features, fuse, read_features, scores_csv
from blemore_baselines.models.crossval import cross_validate
from blemore_baselines.models.heads import clip_logits
from blemore_baselines.models.recipes import HEADS, PRESETS
from blemore_baselines.models.run_folder import claim, describe, describe_clips, versions
from blemore_baselines.paper.tables import HEAD, NotRun, Result, Row, Setting, write_results
from blemore_baselines.predict import match, write_submission
from blemore_baselines.results.published import paper_name, read_published
from blemore_baselines.sources.meta import encoder_name
from blemore_baselines.survey.locate import list_features, list_files
from blemore_baselines.train import best_fold_final, demand_variation, fit_final


class Outcome(NamedTuple):
    """Results in the order of the tables, rows that could not be run, and both as text."""

    results: list[Result]
    not_run: list[NotRun]
    text: str


class Source(NamedTuple):
    path: Path
    features: Features


Sources = Mapping[str, Sequence[Path]]  # encoder → its features, preferred path first


class Absent(Exception):
    """A row's features are missing."""


def reproduce(
    root: Path,
    metadata: Path,
    out: Path,
    *,
    preset: str = "published",
    seed: int = 0,
    test: Path | None = None,
    test_protocol: str = "retrain",
) -> Outcome:
    """Run or resume all rows whose features are under `root`; writes the results and returns them.

    A row with invalid input is refused, and the others continue.

    Raises FileError: a table or `root` cannot be opened, or `out` cannot be written; ValidationError: a table is
    invalid, no features are found, or `out` holds rows of other data, another preset or another seed.
    """
    clips, labels = (read_ids(test), _read_labels(test)) if test else (None, None)
    setting = Setting(read_dataset(metadata), out, preset, seed, test_protocol, clips, labels)
    train, tests = find(root, "train"), find(root, "test")
    if not train:
        raise ValidationError(
            Problem(
                "no-features",
                str(root),
                "contains no features; expected folders such as WavLM_large_train, files such as"
                " wavlm_static_features.npz, or folders train/<encoder>",
                hint="Give a folder with the features at most three levels down.",
            )
        )
    claim(
        out,
        {
            "preset": preset,
            "recipes": {method: recipe._asdict() for method, recipe in PRESETS[preset].items()},
            "seed": seed,
            "train": describe_clips(setting.dataset),
            "features": [],
            "versions": versions(),
        },
    )
    results, not_run = _run_rows(train, tests, setting)
    sources = {"train": train} | ({"test": tests} if test else {})
    return Outcome(results, not_run, write_results(results, not_run, sources, setting))


def _run_rows(train: Sources, tests: Sources, setting: Setting) -> tuple[list[Result], list[NotRun]]:
    """The result of each planned row, or why it could not be run."""
    read_train, read_test = _reader(setting.dataset.ids), _reader(setting.test_clips or [])
    results: list[Result] = []
    not_run: list[NotRun] = []
    for row in tqdm(plan(train), desc="rows", unit="row", disable=None):
        part = "train"
        try:
            sources = [read_train(path, row.method) for path in choose(row, train)]
            results.append(_validate(row, sources, setting))
            if setting.test_clips is not None:
                part = "test"
                test_sources = [read_test(path, row.method) for path in choose(row, tests)]
                results[-1] = _test(results[-1], sources, test_sources, setting, setting.test_clips)
        except Absent as absent:
            not_run.append(NotRun(row, part, str(absent), bad=False))
        except BlemoreError as error:
            if any(problem.code == "cannot-write" for problem in error.problems):
                raise  # not the row's fault
            not_run.append(NotRun(row, part, str(error), bad=True))
    return results, not_run


# ---------------------------------------------------------------------------- the features


def find(root: Path, part: str) -> dict[str, list[Path]]:
    """An encoder's name (the paper's if it has one) → its features of a partition, preferred path first.

    Found by the rules of `locate`, then in folders `<part>/<encoder>`, as `extract` writes them.
    """
    if not root.is_dir():
        raise FileError(Problem("cannot-open", str(root), "no such folder", hint="Give the folder with the features."))
    files, folders = list_files(root)
    own = sorted({path.parent for path in files if path.suffix == ".npy" and path.parent.parent == root / part})
    features: dict[str, list[Path]] = {}
    for encoder, path in [*list_features(root, files, folders, part), *((encoder_name(path), path) for path in own)]:
        paths = features.setdefault(paper_name(encoder), [])
        if path not in paths:
            paths.append(path)
    return features


def plan(features: Sources) -> list[Row]:
    """The published rows in order, then encoders that are not in the paper."""
    published = [Row(row.encoders, row.method, row) for row in read_published()]
    encoders = {encoder for row in published for encoder in row.encoders}
    return published + [Row((encoder,), "aggregate") for encoder in sorted(set(features) - encoders)]


def choose(row: Row, features: Sources) -> list[Path]:
    """A row's sources. Absent: some are missing."""
    absent = [encoder for encoder in row.encoders if encoder not in features]
    if absent:
        raise Absent(f"no features of {' and '.join(absent)}")
    if row.method == "aggregate":
        return [features[encoder][0] for encoder in row.encoders]
    (encoder,) = row.encoders
    folder = next((path for path in features[encoder] if path.is_dir()), None)
    if folder is None:
        raise Absent(
            f"{encoder} is only available aggregated ({features[encoder][0]}); subsampling needs a folder with a (T, D)"
            " file per clip"
        )
    return [folder]


def _reader(ids: Sequence[str]) -> Callable[[Path, str], Source]:
    """A reader of features of `ids`. Aggregated features are small and used by several rows, so they are read once."""

    @functools.cache
    def aggregated(path: Path) -> Source:
        return Source(path, read_features(path, ids))

    return lambda path, method: (
        aggregated(path) if method == "aggregate" else Source(path, read_features(path, ids, aggregated=False))
    )


def _read_labels(test: Path) -> Reference | None:
    """The labels of a test table; None if it has only ids."""
    if test.suffix.lower() == ".csv":
        labelled = any(row.get("emotion_1") for row in read_table(test))
    else:
        data = read_json(test).data
        labelled = isinstance(data, dict) and "labels" in data
    return read_reference(test) if labelled else None


def _demand_one_preset(sources: Sequence[Source]) -> None:
    """ValidationError: a row's sources were extracted with different presets."""
    metas = {str(path): features.meta for path, features in sources}
    presets = {path: meta["preset"] for path, meta in metas.items() if meta.get("preset") and _has_a_choice(meta)}
    if len(set(presets.values())) > 1:
        raise ValidationError(
            Problem(
                "other-preset",
                " and ".join(presets),
                f"extracted with the presets {' and '.join(map(show, presets.values()))}; expected one preset for all"
                " encoders of a row",
                hint="Extract one of them again with the other's --preset.",
            )
        )


def _has_a_choice(meta: Mapping) -> bool:
    """Whether the encoder is known to have more than one preset."""
    try:
        return len(encoder_class(meta["encoder"]).presets) > 1
    except (KeyError, ValidationError):
        return True


# --------------------------------------------------------------------------------- a row


def _validate(row: Row, sources: Sequence[Source], setting: Setting) -> Result:
    """The results of all heads over the folds, computed or read from an earlier call."""
    _demand_one_preset(sources)
    demand_variation([source.features for source in sources], [source.path for source in sources])
    dataset, folder, recipe = setting.dataset, setting.out / row.folder, PRESETS[setting.preset][row.method]
    features = [describe(source.features, source.path) for source in sources]
    claim(folder, {"row": row.name, "features": features, "versions": versions()})
    last = folder / "figures.json"
    if not last.exists():
        logits = cross_validate(
            dataset, _fuse(sources), recipe, list(HEADS), [setting.seed], keep=folder / "folds", title=row.name
        ).logits[:, 0]
        heads = {
            head: figures_with_intervals(dataset, softmax(head_logits)) for head, head_logits in zip(HEADS, logits)
        }
        published = logits[list(HEADS).index(HEAD)]
        write_atomic(folder / RUN_OOF, scores_csv(dataset.ids, published[recipe.oof_epoch - 1]))
        write_atomic(last, to_json(heads))
    shutil.rmtree(folder / "folds", ignore_errors=True)
    return Result(row, features, json.loads(last.read_text(encoding="utf-8")))


def _test(
    result: Result, sources: Sequence[Source], tests: Sequence[Source], setting: Setting, clips: list[str]
) -> Result:
    """The published head's predictions of the test clips as a submission, and their figures if labels are known."""
    folder, recipe = setting.out / result.row.folder, PRESETS[setting.preset][result.row.method]
    ordered = match([source.features for source in tests], [source.path for source in tests], result.features)
    final = best_fold_final(setting.test_protocol, recipe, result.heads[HEAD])
    test = {
        "test_protocol": setting.test_protocol,
        "epochs": final.epochs,
        **final.thresholds._asdict(),
        "fitted_on": final.fitted_on,
        "clips": len(clips),
        "digest": digest(clips),
        "features": [features.digest for features in ordered],
    }
    before = _read_json(folder / "test.json")
    if before != test:
        changed = [key for key in test if before and before.get(key) != test[key]]
        if changed:
            tqdm.write(
                f"{result.row.name}: {' and '.join(changed)} changed since {folder}/submission.zip; predicting again",
                file=sys.stderr,
            )
        features = fuse(ordered)
        model, scaler = fit_final(setting.dataset, _fuse(sources), HEAD, recipe, setting.seed, final)
        logits = clip_logits(model, scaler(features.X), features.owner, len(clips))
        write_submission(clips, decode_thresholds(softmax(logits), final.thresholds), folder / "submission.zip")
        write_atomic(folder / RUN_TEST, scores_csv(clips, logits))
        write_atomic(folder / "test.json", to_json(test))
    scores = None
    if setting.test_labels:
        scores = accuracies(evaluate(read_json(folder / "submission.zip").data, setting.test_labels).counts)
    return result._replace(test={**test, "figures": scores})


def _fuse(sources: Sequence[Source]) -> Features:
    return fuse([source.features for source in sources])


def _read_json(path: Path) -> dict | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
