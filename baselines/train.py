"""Cross-validate a head over the predefined folds, then train the final model.

The preset `published` is the protocol of Lachmann et al. 2026: standardised by the training folds alone, soft labels,
KL divergence, Adam with its coupled weight decay. The out-of-fold logits of every epoch are kept, so that whatever is
chosen later (epoch, α, β) can be chosen honestly. decoding/accounts.py has the two accounts.

A run folder:
    config.json         what was run, with digests of its inputs; a second call with the same config continues
    folds/              the logits and losses of finished folds, until all are finished
    labels.csv          the clips' true labels (index in blemore.labels.LABELS), actors and folds
    oof_logits.npz      (epochs, N, 6) float32, with filenames and folds
    oof_logits.csv      the same at the final model's number of epochs (at the last one, if there are fewer)
    model.safetensors   the final model's head and scaler
    model.json          everything else that a prediction needs
    test_logits.csv     written by the last `predict` with this model
    learning_curves.csv training loss, and the validation fold's loss and published score, per epoch
    metrics.json, folds.csv   the published and the nested figures; written last

Several seeds train in one pass. Each has its own run folder inside the run folder (seed_0, …). The model for new clips
is all of them, pooled as `decode` pools scores: model.json then names the seeds and the decoder, and metrics.json holds
the pooled figures and those of each seed.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch
from tqdm import tqdm

from blemore.errors import Problem, ValidationError, show
from blemore.io import csv_text, to_json, write_atomic
from blemore.labels import EMOTIONS
from blemore.version import VERSION
from blemore_baselines.dataset import Dataset
from blemore_baselines.decoding import decoders
from blemore_baselines.decoding.accounts import METRICS, figures_with_intervals, mean_and_std
from blemore_baselines.decoding.normalise import Reference, fit_reference
from blemore_baselines.decoding.normalise import normalise as normalise_rows
from blemore_baselines.decoding.scores import Models, log_softmax, read_models, softmax
from blemore_baselines.decoding.thresholds import Thresholds, fit_exact, fit_grid
from blemore_baselines.decoding.thresholds_decoder import to_spec
from blemore_baselines.engines import one_thread_each
from blemore_baselines.features import MADE_BY, RUN_OOF, Features, fuse, scores_csv, seed_folder
from blemore_baselines.models.crossval import cross_validate, fold_seed
from blemore_baselines.models.heads import Scaler, fit_scaler, row_losses
from blemore_baselines.models.loop import fit_models
from blemore_baselines.models.recipes import PRESETS, TEST_PROTOCOLS, Recipe
from blemore_baselines.sources.npz import npz_bytes

OPTIONAL = {"normalise", "decoder", "structured_weight"}  # keys that config.json may lack


def train(
    dataset: Dataset,
    sources: Sequence[Features],
    paths: Sequence[Path],
    *,
    method: str,
    head: str,
    preset: str,
    seed: int | Sequence[int],
    out: Path,
    test_protocol: str = "pooled",
    normalise: str = "none",
    decoder: str = "thresholds",
    metadata: Path | None = None,
    **options: float,
) -> dict:
    """Run, or go on with, the run folder `out`; returns what metrics.json holds.

    sources: features of the dataset's clips, in its order (early fusion where there are several);
             `paths` are where they came from, for the record, as `metadata` is where the dataset came from
    seed: of the initial weights and the order of rows; several train in one pass, and are pooled for new clips
    normalise: the features, per actor; then the figures are transductive (decoding/normalise.py)
    decoder: of the final model, fitted on the out-of-fold logits at its number of epochs; with the `options` that it
             takes (decoders.py)

    Raises ValidationError: `out` holds another run, the sources cannot be fused or hold nothing to learn from, or the
    decoder cannot be fitted on the dataset. ValueError: see `_demand_protocol` and `decoders.complete`.
    """
    _demand_protocol(test_protocol, decoder, seed)
    options = decoders.complete(decoder, options)
    decoders.demand(decoder, dataset)  # now, not after the training
    demand_variation(sources, paths)
    config = {
        "method": method,
        "head": head,
        "preset": preset,
        "recipe": PRESETS[preset][method]._asdict(),
        "test_protocol": test_protocol,
        **({} if normalise == "none" else {"normalise": normalise}),
        **decoder_config(decoder, options),
        "seed": seed if isinstance(seed, int) else [*seed],
        "features": [describe(source, path) for source, path in zip(sources, paths)],
        "train": _describe_clips(dataset, metadata),
        "versions": versions(),
    }
    claim(out, config)
    if not (out / "metrics.json").exists():
        _run(dataset, fuse(sources), config, decoder, options, out)
    shutil.rmtree(out / "folds", ignore_errors=True)
    return _metrics(out)


def _metrics(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text(encoding="utf-8"))


def _demand_protocol(test_protocol: str, decoder: str, seed: int | Sequence[int]) -> None:
    """ValueError: no such protocol, or one that takes a fold's thresholds with a decoder that has none, or with several
    seeds; no seed, or one that is there twice.
    """
    if test_protocol not in TEST_PROTOCOLS or decoder != "thresholds" and test_protocol != "pooled":
        raise ValueError(
            f"test protocol {test_protocol!r}, decoder {decoder!r}; expected one of {', '.join(TEST_PROTOCOLS)}, and"
            " with a decoder other than thresholds pooled"
        )
    if not isinstance(seed, int) and (not 0 < len(seed) == len(set(seed)) or test_protocol != "pooled"):
        message = f"seeds {[*seed]}, test protocol {test_protocol!r}; expected different seeds, and the protocol pooled"
        raise ValueError(message)


def decoder_config(decoder: str, options: Mapping[str, float]) -> dict:
    """The decoder in config.json. For the first two it is `structured_weight` alone, null for thresholds: versions that
    had no others read and wrote it so.
    """
    if decoder in ("thresholds", "structured"):
        return {"structured_weight": options.get("weight")}
    return {"decoder": {"name": decoder, **options}}


def _run(
    dataset: Dataset, features: Features, config: dict, decoder: str, options: Mapping[str, float], out: Path
) -> None:
    """Train, and write the run folder's files, metrics.json last."""
    features, reference = _normalised(dataset, features, config.get("normalise", "none"))
    seeds = config["seed"] if isinstance(config["seed"], list) else [config["seed"]]
    runs = [seed_folder(out, seed) for seed in seeds] if seeds is config["seed"] else [out]
    recipe, head = Recipe(**config["recipe"]), config["head"]
    result = cross_validate(dataset, features, recipe, [head], seeds, keep=out / "folds")
    accounts = [_judge(dataset, config, logits) for logits in result.logits[0]]
    final = accounts[0][1]  # in all but its thresholds the same for all seeds
    models, scaler = fit_finals(dataset, features, head, recipe, seeds, final)
    for place, (seed, run) in enumerate(zip(seeds, runs)):
        own, (metrics, final) = {**config, "seed": seed}, accounts[place]
        claim(run, own)
        logits, losses = result.logits[0, place], {fold: one[0, place] for fold, one in result.losses.items()}
        last = logits[min(final.epochs, recipe.epochs) - 1]
        spec = fit_final_decoder(dataset, last, final, decoder, options, metrics)
        metrics["final"]["test_protocol"] = config["test_protocol"]
        if reference:
            metrics["normalise"] = {"method": config["normalise"], "account": "transductive"}
        _save_model(dataset, models[place], scaler, reference, own, final, spec, run)
        write_results(dataset, logits, losses, last, metrics, run)
    if runs != [out]:
        _pool(dataset, config, runs, decoder, options, out)


def _judge(dataset: Dataset, config: dict, logits: np.ndarray) -> tuple[dict, Final]:
    """The accounts of out-of-fold logits (epochs, N, 6), and what the final model is by them."""
    recipe = Recipe(**config["recipe"])
    metrics = figures_with_intervals(dataset, softmax(logits), nested_epoch(config["test_protocol"], recipe))
    if config["test_protocol"] == "pooled":
        return metrics, pooled_final(recipe, softmax(logits), dataset)
    return metrics, best_fold_final(config["test_protocol"], recipe, metrics)


def _pool(
    dataset: Dataset, config: dict, runs: Sequence[Path], decoder: str, options: Mapping[str, float], out: Path
) -> None:
    """Decode and judge the seeds' models together, as `decode` does with their score tables."""
    models = read_models(runs, dataset.ids)._replace(paths=[run.relative_to(out) for run in runs])
    decoded = decoders.fit("thresholds", dataset, models)
    metrics, by_seed = {**decoded.figures}, [_metrics(run) for run in runs]
    nested = {"thresholds": [one["nested"] for one in by_seed]}
    if decoder != "thresholds":
        decoded = decoders.fit(decoder, dataset, models, **options)
        metrics[decoder], nested[decoder] = decoded.figures, [one[decoder]["nested"] for one in by_seed]
    metrics["seeds"] = {name: _over_seeds(config["seed"], accounts) for name, accounts in nested.items()}
    if "normalise" in config:
        metrics["normalise"] = by_seed[0]["normalise"]
    spec = {
        "emotions": list(EMOTIONS),
        "seeds": config["seed"],
        "decoder": decoded.spec,
        "versions": config["versions"],
    }
    write_atomic(out / "model.json", to_json(spec))
    write_atomic(out / "metrics.json", to_json(metrics))


def _over_seeds(seeds: Sequence[int], accounts: Sequence[Mapping]) -> dict:
    """One decoder's nested accounts of each seed, for metrics.json: by seed, and their mean and spread."""
    rows = [{"seed": seed, **{name: account[name] for name in METRICS}} for seed, account in zip(seeds, accounts)]
    return {"by_seed": rows, "over_seeds": mean_and_std(rows)}


def fit_final_decoder(
    dataset: Dataset, last: np.ndarray, final: Final, decoder: str, options: Mapping[str, float], metrics: dict
) -> dict:
    """The artefact's decoder, fitted on out-of-fold logits (N, 6). Its figures, and what the final model is, go into
    `metrics`.
    """
    spec = to_spec(final.thresholds)
    if decoder != "thresholds":  # whose accounts every run has
        models = Models(dataset.ids, [Path(RUN_OOF)], softmax(last)[np.newaxis], log_softmax(last)[np.newaxis])
        decoded = decoders.fit(decoder, dataset, models, **options)
        spec, metrics[decoder] = decoded.spec, decoded.figures
    metrics["final"] = {"epochs": final.epochs, **final.thresholds._asdict(), "fitted_on": final.fitted_on}
    return spec


def write_results(
    dataset: Dataset,
    logits: np.ndarray,
    losses: Mapping[int, Sequence[float]],
    last: np.ndarray,
    metrics: dict,
    out: Path,
) -> None:
    """A run folder's tables: of the logits (epochs, N, 6), fold → mean training losses (epochs,), and the logits (N, 6)
    that stand for the final model's. metrics.json is the last.
    """
    write_atomic(out / "labels.csv", _labels_csv(dataset))
    write_atomic(out / "oof_logits.npz", npz_bytes(logits=logits, filenames=np.array(dataset.ids), folds=dataset.folds))
    write_atomic(out / RUN_OOF, scores_csv(dataset.ids, last))
    write_atomic(out / "learning_curves.csv", _learning_curves(dataset, logits, losses))
    write_atomic(out / "folds.csv", _folds_csv(metrics))
    write_atomic(out / "metrics.json", to_json(metrics))


def _normalised(dataset: Dataset, features: Features, method: str) -> tuple[Features, Reference | None]:
    """The features with every actor's brought to the same mean, or mean and spread; and to which, for new clips."""
    if method == "none":
        return features, None
    actors = np.array(dataset.actors)[features.owner]
    reference = fit_reference(features.X, actors)
    return features._replace(X=normalise_rows(features.X, actors, method, reference, features.owner)), reference


# -------------------------------------------------------------------------- the final model


class Final(NamedTuple):
    """The model for new clips: trained without `without` (a fold; −1: on all of train), for so many epochs, and its
    thresholds.
    """

    without: int
    epochs: int
    thresholds: Thresholds
    fitted_on: str


def nested_epoch(test_protocol: str, recipe: Recipe) -> int | None:
    """The epoch (from 1) of the nested account: the final model's, so that the figure is of the model for new clips.

    None: the other folds choose, as the best fold does for `best-fold`.
    """
    return {"pooled": recipe.epochs, "retrain": recipe.oof_epoch, "best-fold": None}[test_protocol]


def pooled_final(recipe: Recipe, probabilities: np.ndarray, dataset: Dataset) -> Final:
    """Trained on all of train for as many epochs as each fold, with the best thresholds of all, not of the grid: the
    middle of what is best on all out-of-fold probabilities (epochs, N, 6) of the last epoch.
    """
    thresholds = fit_exact(probabilities[-1], dataset.labels).thresholds
    return Final(-1, recipe.epochs, thresholds, f"pooled out-of-fold logits of epoch {recipe.epochs}")


def best_fold_final(test_protocol: str, recipe: Recipe, metrics: Mapping) -> Final:
    """By the best fold of `metrics` (`accounts.figures`): the first of equal folds; one without blends only where none
    has any.

    retrain:   trained on all of train; that fold's thresholds (the published test table)
    best-fold: that fold's own model at its best epoch, with its scaler and its thresholds
    """
    folds = metrics["published"]["folds"]
    with_blends = [fold for fold in folds if fold["score"] is not None]
    if with_blends:
        best = max(with_blends, key=lambda fold: fold["score"])
    else:
        best = max(folds, key=lambda fold: fold["acc_presence"])
    thresholds, source = Thresholds(best["alpha"], best["beta"]), f"fold {best['fold']} at its epoch {best['epoch']}"
    if test_protocol == "retrain":
        return Final(-1, recipe.final_epochs, thresholds, source)
    return Final(best["fold"], best["epoch"], thresholds, source)


def fit_final(
    dataset: Dataset, features: Features, head: str, recipe: Recipe, seed: int, final: Final
) -> tuple[torch.nn.Module, Scaler]:
    """Train the final model. A fold's own model comes out as in cross-validation, up to rounding."""
    models, scaler = fit_finals(dataset, features, head, recipe, [seed], final)
    return models[0], scaler


def fit_finals(
    dataset: Dataset, features: Features, head: str, recipe: Recipe, seeds: Sequence[int], final: Final
) -> tuple[list[torch.nn.Module], Scaler]:
    """Train the final model with each of the seeds."""
    inside = dataset.folds[features.owner] != final.without
    scaler = fit_scaler(features.X[inside])
    epochs = final.epochs * len(seeds)
    with one_thread_each(), tqdm(total=epochs, desc="final model", unit="epoch", disable=None) as progress:
        models = fit_models(
            scaler(features.X[inside]),
            dataset.targets[features.owner[inside]],
            head,
            recipe,
            final.epochs,
            [fold_seed(seed, final.without) for seed in seeds],
            lambda _: progress.update(),
        )
    return models, scaler


def _save_model(
    dataset: Dataset,
    model: torch.nn.Module,
    scaler: Scaler,
    reference: Reference | None,
    config: dict,
    final: Final,
    decoder: dict,
    out: Path,
) -> None:
    """Write the artefact."""
    tensors = {f"head.{name}": tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    tensors |= {"scaler.mean": torch.from_numpy(scaler.mean), "scaler.scale": torch.from_numpy(scaler.scale)}
    if reference:
        tensors |= {f"normalise.{name}": torch.from_numpy(values) for name, values in reference._asdict().items()}
    write_atomic(out / "model.safetensors", safetensors.torch.save(tensors))
    shared = ("head", "method", "features", "test_protocol", "recipe", "seed", "versions")
    spec = {
        **{key: config[key] for key in shared},
        **({"normalise": config["normalise"]} if reference else {}),
        "emotions": list(EMOTIONS),
        "decoder": decoder,
        "folds": sorted({int(fold) for fold in dataset.folds if fold != final.without}),
        "epochs": final.epochs,
    }
    write_atomic(out / "model.json", to_json(spec))


# --------------------------------------------------------------------------- the run folder


def describe(source: Features, path: Path) -> dict:
    """How features came about, where from, and a digest of their content."""
    return {
        **{key: source.meta[key] for key in MADE_BY if source.meta.get(key) is not None},
        "path": str(path),
        "digest": source.digest,
    }


def _describe_clips(dataset: Dataset, metadata: Path | None) -> dict:
    return {
        "clips": len(dataset.ids),
        "digest": dataset.digest,
        **({"path": str(metadata)} if metadata else {}),
    }


def demand_variation(sources: Sequence[Features], paths: Sequence[Path]) -> None:
    """ValidationError: a source is the same for all clips, so that there is nothing to learn from.

    One column may be.
    """
    constant = [
        path for source, path in zip(sources, paths) if len(source.X) > 1 and not np.ptp(source.X, axis=0).any()
    ]
    message, hint = "every column is the same for all clips; expected features that vary", "Extract them again."
    if constant:
        raise ValidationError([Problem("constant-features", str(path), message, hint=hint) for path in constant])


def versions() -> dict:
    return {
        "blemore": VERSION,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


def claim(out: Path, config: dict) -> None:
    """Make `out` this run's folder, or find that it is already. ValidationError: it holds something else."""
    try:
        before = json.loads((out / "config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        before = None
    except ValueError:
        before = {}
    if before is None and not (out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir())):
        write_atomic(out / "config.json", to_json(config))
        return
    if not isinstance(before, dict) or set(before) - OPTIONAL != set(config) - OPTIONAL:
        message = "the folder is not empty and holds no run"
        raise ValidationError(Problem("other-run", str(out), message, hint="Choose another --out."))
    problems = _differences(_settings(before), _settings(config), str(out / "config.json"))
    if problems:
        raise ValidationError(problems)


def _differences(before: Mapping[str, object], now: Mapping[str, object], where: str) -> list[Problem]:
    """A problem for each setting that is another now; a recipe follows from its preset and method."""
    names = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
    if {"preset", "method"} & set(names):
        names = [name for name in names if not name.startswith("recipe")]
    return [
        Problem(
            "other-run",
            where,
            f"the folder holds a run with another {name}: {show(before.get(name))}; now {show(now.get(name))}",
            hint="Choose another --out, or delete the folder.",
        )
        for name in names
    ]


def _settings(value: object, name: str = "") -> dict[str, object]:
    """What may not change between two calls, by names such as `features 1 digest`; where features and metadata are,
    and versions, may. Precision is in the digest: versions that did not know it left it out.
    """
    if isinstance(value, dict):
        parts = [(str(key), part) for key, part in value.items() if key not in ("versions", "path", "precision")]
    elif isinstance(value, list) and all(isinstance(part, dict) for part in value):
        parts = [(str(number), part) for number, part in enumerate(value, start=1)]
    else:
        return {name: value}
    return {
        inner: setting for outer, part in parts for inner, setting in _settings(part, f"{name} {outer}".strip()).items()
    }


def _labels_csv(dataset: Dataset) -> str:
    return csv_text(
        [("filename", "label", "actor", "fold"), *zip(dataset.ids, dataset.labels, dataset.actors, dataset.folds)]
    )


def _learning_curves(dataset: Dataset, logits: np.ndarray, losses: Mapping[int, Sequence[float]]) -> str:
    rows: list[tuple] = [("fold", "epoch", "train_loss", "validation_loss", "published_score")]
    for fold, fold_losses in losses.items():
        inside = dataset.folds == fold
        targets = torch.from_numpy(dataset.targets[inside])
        for epoch, loss in enumerate(fold_losses):
            validation = row_losses(torch.from_numpy(logits[epoch, inside]), targets).mean().item()
            _, score = fit_grid(softmax(logits[epoch, inside]), dataset.labels[inside])
            rows.append((fold, epoch + 1, f"{loss:.6f}", f"{validation:.6f}", f"{score:.6f}"))
    return csv_text(rows)


def _folds_csv(metrics: dict) -> str:
    names = ["fold", "epoch", "alpha", "beta", "acc_presence", "acc_salience", "score", "n", "n_blends"]
    rows = [
        [account, *(fold[name] for name in names)]
        for account in ("published", "nested")
        for fold in metrics[account]["folds"]
    ]
    return csv_text([["account", *names], *rows])
