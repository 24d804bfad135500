"""Cross-validate a head over the predefined folds, then train it on all of train.

The published protocol (Lachmann et al. 2026) as the preset `published`: standardised by the training
folds alone, soft labels, KL divergence, Adam with its coupled weight decay. Out-of-fold logits of
every epoch are kept, so that everything that is chosen afterwards (epoch, α, β) can be chosen
honestly; see decode.py for the two accounts.

A run folder:
    config.json         what was run, with digests of its inputs; a second call with the same config goes on
    folds/              a finished fold's logits and losses, until all are finished
    oof_logits.npz      (epochs, N, 6) float32, with filenames and folds
    oof_logits.csv      the same at the final model's number of epochs, as a score table
    model.safetensors   the head and the scaler, trained on all of train
    model.json          everything else that a prediction needs
    learning_curves.csv training loss, and the validation fold's loss and published score, every epoch
    metrics.json, folds.csv   the published and the nested figures; written last
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Sequence

import numpy as np
import safetensors.torch
import torch
from tqdm import tqdm

from blemore.errors import Problem, ValidationError, show
from blemore.io import to_json, write_atomic
from blemore.labels import EMOTIONS
from blemore.signature import digest
from blemore.version import VERSION
from blemore_baselines.dataset import Dataset
from blemore_baselines.decode import figures, fit_grid, softmax
from blemore_baselines.features import MADE_BY, RUN_OOF, Features, fuse, scores_csv
from blemore_baselines.heads import Scaler, build_head, fit_scaler, one_thread_each, soft_label_loss


class Recipe(NamedTuple):
    learning_rate: float
    weight_decay: float
    batch_size: int
    epochs: int  # in cross-validation
    final_epochs: int  # on all of train


PRESETS = {
    "published": {
        "aggregate": Recipe(5e-6, 1e-3, 32, 200, 100),
        "subsample": Recipe(5e-6, 1e-3, 512, 300, 300),
    }
}


def train(dataset: Dataset, sources: Sequence[Features], paths: Sequence[Path], *, method: str, head: str, preset: str, seed: int, out: Path) -> dict:
    """Run, or go on with, the run folder `out`; returns what metrics.json holds.

    sources: features of the dataset's clips, in its order (early fusion where there are several);
             `paths` are where they came from, for the record

    Raises ValidationError: `out` holds another run, or the sources cannot be fused.
    """
    features = fuse(sources)
    recipe = PRESETS[preset][method]
    config = {
        "method": method, "head": head, "preset": preset, "recipe": recipe._asdict(), "seed": seed,
        "features": [describe(source, path) for source, path in zip(sources, paths)],
        "train": {"clips": len(dataset.ids), "digest": digest(f"{c}\t{label}\t{fold}" for c, label, fold in zip(dataset.ids, dataset.labels, dataset.folds))},
        "versions": versions(),
    }
    _claim(out, config)
    if (out / "metrics.json").exists():
        shutil.rmtree(out / "folds", ignore_errors=True)  # where the last call was stopped at its very end
        return json.loads((out / "metrics.json").read_text(encoding="utf-8"))

    logits, losses = _cross_validate(dataset, features, head, recipe, seed, out)
    final = min(recipe.final_epochs, recipe.epochs) - 1
    thresholds, _ = fit_grid(softmax(logits[final]), dataset.labels)
    _save_model(dataset, features, config, head, recipe, seed, thresholds._asdict(), out)

    metrics = figures(softmax(logits), dataset.labels, dataset.folds)
    metrics["final"] = {"epochs": recipe.final_epochs, **thresholds._asdict(), "fitted_on": f"pooled out-of-fold logits of epoch {final + 1}"}
    write_atomic(out / "oof_logits.npz", _npz(logits=logits, filenames=np.array(dataset.ids), folds=dataset.folds))
    write_atomic(out / RUN_OOF, scores_csv(dataset.ids, logits[final]))
    write_atomic(out / "learning_curves.csv", _learning_curves(dataset, logits, losses))
    write_atomic(out / "folds.csv", _folds_csv(metrics))
    write_atomic(out / "metrics.json", to_json(metrics))
    shutil.rmtree(out / "folds")
    return metrics


# ------------------------------------------------------------------------------ one model


def fit_model(
    X: np.ndarray, targets: np.ndarray, head: str, recipe: Recipe, epochs: int, seed: int,
    after_epoch: Optional[Callable[[torch.nn.Module, float], None]] = None,
) -> torch.nn.Module:
    """A head trained on standardised rows X (rows, D) and soft targets (rows, 6).

    The same arguments give the same model. `after_epoch` gets the model and the epoch's mean loss.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build_head(head, X.shape[1], seed).to(device)
    optimizer = torch.optim.Adam(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    shuffle = torch.Generator().manual_seed(seed)
    rows, wanted = torch.from_numpy(X).to(device), torch.from_numpy(targets).to(device)
    for _ in range(epochs):
        summed = 0.0
        for batch in torch.randperm(len(rows), generator=shuffle).to(device).split(recipe.batch_size):
            optimizer.zero_grad()
            loss = soft_label_loss(model(rows[batch]), wanted[batch])
            loss.backward()
            optimizer.step()
            summed += loss.item() * len(batch)
        if after_epoch:
            after_epoch(model, summed / len(rows))
    return model


@torch.inference_mode()
def clip_logits(model: torch.nn.Module, X: np.ndarray, owner: np.ndarray, n_clips: int) -> np.ndarray:
    """Logits (n_clips, 6) of standardised rows; a clip's are the mean over its rows. `owner`: (rows,) in 0..n_clips-1."""
    device = next(model.parameters()).device
    logits = model(torch.from_numpy(X).to(device)).cpu().numpy().astype(np.float64)
    summed = np.zeros((n_clips, logits.shape[1]))
    np.add.at(summed, owner, logits)
    return summed / np.bincount(owner, minlength=n_clips)[:, None]


# ------------------------------------------------------------------------- cross-validation


def _cross_validate(dataset: Dataset, features: Features, head: str, recipe: Recipe, seed: int, out: Path) -> tuple[np.ndarray, dict]:
    """Out-of-fold logits (epochs, N, 6) float32, and each fold's training losses (epochs,)."""
    folds = {int(fold): out / "folds" / f"fold_{fold}.npz" for fold in np.unique(dataset.folds)}
    todo = {fold: path for fold, path in folds.items() if not path.exists()}
    stopped = threading.Event()
    total = len(folds) * recipe.epochs
    with tqdm(total=total, initial=total - len(todo) * recipe.epochs, desc="cross-validation", unit="epoch", disable=None) as progress:

        def after_epoch() -> None:
            progress.update()
            if stopped.is_set():
                raise InterruptedError

        def run(fold: int) -> None:
            logits, losses = _run_fold(dataset, features, fold, head, recipe, fold_seed(seed, fold), after_epoch)
            write_atomic(folds[fold], _npz(logits=logits, losses=losses))

        # A thread a fold, each computing alone: quicker than folds one after the other with all cores on
        # their small steps, and the same bytes on any number of cores.
        with one_thread_each(), ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                for finished in as_completed([pool.submit(run, fold) for fold in todo]):
                    finished.result()
            except BaseException:
                stopped.set()
                pool.shutdown(cancel_futures=True)
                raise

    logits = np.zeros((recipe.epochs, len(dataset.ids), len(EMOTIONS)), dtype=np.float32)
    losses = {}
    for fold, path in folds.items():
        with np.load(path, allow_pickle=False) as saved:
            logits[:, dataset.folds == fold], losses[fold] = saved["logits"], saved["losses"]
    return logits, losses


def _run_fold(
    dataset: Dataset, features: Features, fold: int, head: str, recipe: Recipe, seed: int, after_epoch: Callable[[], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Every epoch's logits (epochs, clips, 6) of a fold's clips by a model that saw none of them, and its losses."""
    clips = np.flatnonzero(dataset.folds == fold)
    held_out = np.isin(features.owner, clips)
    scaler = fit_scaler(features.X[~held_out])
    X_val, owner_val = scaler(features.X[held_out]), np.searchsorted(clips, features.owner[held_out])
    epochs = []

    def keep(model: torch.nn.Module, loss: float) -> None:
        epochs.append((clip_logits(model, X_val, owner_val, len(clips)), loss))
        after_epoch()

    fit_model(scaler(features.X[~held_out]), dataset.targets[features.owner[~held_out]], head, recipe, recipe.epochs, seed, keep)
    return np.array([logits for logits, _ in epochs], dtype=np.float32), np.array([loss for _, loss in epochs])


def fold_seed(seed: int, fold: int) -> int:
    """A seed of its own for each fold; fold -1 is all of train."""
    return int(np.random.SeedSequence((seed, int(fold) + 1)).generate_state(1)[0])


# -------------------------------------------------------------------------- the final model


def _save_model(dataset: Dataset, features: Features, config: dict, head: str, recipe: Recipe, seed: int, thresholds: dict, out: Path) -> None:
    """Train on all of train and write the artefact."""
    scaler: Scaler = fit_scaler(features.X)
    with one_thread_each(), tqdm(total=recipe.final_epochs, desc="final model on all of train", unit="epoch", disable=None) as progress:
        model = fit_model(
            scaler(features.X), dataset.targets[features.owner], head, recipe, recipe.final_epochs, fold_seed(seed, -1), lambda *_: progress.update()
        )
    tensors = {f"head.{name}": tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    tensors |= {"scaler.mean": torch.from_numpy(scaler.mean), "scaler.scale": torch.from_numpy(scaler.scale)}
    write_atomic(out / "model.safetensors", safetensors.torch.save(tensors))
    write_atomic(out / "model.json", to_json({
        "head": head,
        "emotions": list(EMOTIONS),
        "method": config["method"],
        "features": config["features"],
        "decoder": {"name": "thresholds", **thresholds},
        "folds": sorted({int(fold) for fold in dataset.folds}),
        "seed": seed,
        "recipe": config["recipe"],
        "versions": config["versions"],
    }))


# --------------------------------------------------------------------------- the run folder


def describe(source: Features, path: Path) -> dict:
    """How features came about, where from, and a digest of their content."""
    content = hashlib.sha256(np.ascontiguousarray(source.X).tobytes() + source.owner.tobytes()).hexdigest()[:16]
    return {**{key: source.meta[key] for key in MADE_BY if source.meta.get(key) is not None}, "path": str(path), "digest": content}


def versions() -> dict:
    return {"blemore": VERSION, "python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}


def _claim(out: Path, config: dict) -> None:
    """Make `out` this run's folder, or find that it is already. ValidationError: it holds something else."""
    try:
        known = json.loads((out / "config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        known = None
    except ValueError:
        known = {}
    if known is None and not (out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir())):
        write_atomic(out / "config.json", to_json(config))
        return
    if not isinstance(known, dict) or set(known) != set(config):
        raise ValidationError(Problem("other-run", str(out), "the folder is not empty and holds no run", hint="Choose another --out."))
    # Where features lay, and the versions, may change between two calls; what they hold may not.
    told = lambda c: {**c, "versions": None, "features": [{**f, "path": None} for f in c["features"]]}  # noqa: E731
    before, now = told(known), told(config)
    problems = [
        Problem("other-run", str(out / "config.json"), f"the folder holds a run with another {key}: {show(json.dumps(before[key]), 90)}; now {show(json.dumps(now[key]), 90)}",
                hint="Choose another --out, or delete the folder.")
        for key in now if before[key] != now[key]
    ]
    if problems:
        raise ValidationError(problems)


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _learning_curves(dataset: Dataset, logits: np.ndarray, losses: dict) -> str:
    lines = ["fold,epoch,train_loss,validation_loss,published_score"]
    for fold, fold_losses in losses.items():
        inside = dataset.folds == fold
        targets = torch.from_numpy(dataset.targets[inside])
        for epoch, loss in enumerate(fold_losses):
            validation = soft_label_loss(torch.from_numpy(logits[epoch, inside]), targets).item()
            _, score = fit_grid(softmax(logits[epoch, inside]), dataset.labels[inside])
            lines.append(f"{fold},{epoch + 1},{loss:.6f},{validation:.6f},{score:.6f}")
    return "\n".join(lines) + "\n"


def _folds_csv(metrics: dict) -> str:
    names = ["fold", "epoch", "alpha", "beta", "acc_presence", "acc_salience", "score", "n", "n_blends"]
    rows = [[account, *(fold[name] for name in names)] for account in ("published", "nested") for fold in metrics[account]["folds"]]
    return "\n".join(",".join(map(str, row)) for row in [["account", *names], *rows]) + "\n"
