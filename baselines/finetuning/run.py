"""From clips to a fine-tuned encoder's run folder, which `decode`, `report` and `predict` read like one of `train`.

In addition to the files of every run folder (models/run_folder.py; here `oof_logits.npz` has the last epoch only):
    folds/        the logits and losses of each fold; its states during training (state.py)
    losses.csv    the training loss per fold and epoch
    tensorboard/  loss, gradient norm and learning rate per update
    model.safetensors   the whole model; names are those of the encoder's checkpoints
    model.json          how to build the model, and its decoder
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors.torch
import torch

from blemore.errors import Problem, ValidationError
from blemore.io import csv_text, read_bytes, to_json, write_atomic
from blemore.labels import EMOTIONS
from blemore_baselines.dataset import Dataset
from blemore_baselines.decoding import decoders
from blemore_baselines.decoding.accounts import figures_with_intervals
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.decoding.thresholds import fit_exact
from blemore_baselines.encoders import create
from blemore_baselines.encoders.torch_encoder import TorchEncoder
from blemore_baselines.finetuning import family_class
from blemore_baselines.finetuning.cache import Cache, Source, fill, find_sources
from blemore_baselines.finetuning.family import Family
from blemore_baselines.finetuning.loop import Computing, Setup, clip_logits, held_out_logits, train_fold
from blemore_baselines.finetuning.recipes import Recipe
from blemore_baselines.models.artefact import parse_or_refuse, read_artefact
from blemore_baselines.models.run_folder import claim, decoder_config, describe_clips, versions, write_results
from blemore_baselines.sources.npz import npz_bytes
from blemore_baselines.train import Final, fit_final_decoder

if TYPE_CHECKING:
    from accelerate import Accelerator

FINAL = -1  # instead of a fold's number: the model that is trained on all of train
PACKAGES = ("accelerate", "safetensors", "transformers")


def finetune(
    dataset: Dataset,
    encoder: str,
    clips: Path,
    out: Path,
    recipe: Recipe,
    computing: Computing,
    *,
    weights: str | Path | None = None,
    faces: Path | None = None,
    seed: int = 0,
    folds: Sequence[int] = (),
    decoder: str = "thresholds",
    **options: float,
) -> dict | None:
    """Start or continue the run in the folder `out`. Returns the content of metrics.json; None: folds are missing.

    weights: of the encoder; None: its own source
    faces:   the folder with the clips' aligned faces; None: the centre of the clips' own frames
    folds:   the folds to train now, `FINAL` for the final model; empty: all
    decoder: of the final model, with its `options`, as for `train.train`

    Raises ValidationError: `out` contains another run, clips cannot be used, the encoder cannot be fine-tuned, the
    decoder cannot be fitted, or see `train_fold`; FileError: weights or clips are missing, or a file cannot be written.
    """
    accelerator, numbers = start(), [*np.unique(dataset.folds).tolist(), FINAL]
    _demand_folds(folds, numbers)
    options = decoders.complete(decoder, options)
    decoders.demand(decoder, dataset)
    source = _encoder(encoder, weights, faces)
    sources = find_sources(dataset.ids, clips, faces, source.modality)
    features = {"encoder": encoder, "digest": source.revision, "faces": faces is not None, "path": str(clips)}
    config = _config(dataset, recipe, seed, features, decoder_config(decoder, options))
    claim(out, config)
    if not (out / "metrics.json").exists():
        family, initial = family_class(encoder).pretrained(source, recipe)
        with accelerator.main_process_first():  # it fills the cache for the others
            cache = _filled_cache(family, sources, computing)
        setup = Setup(family, recipe, initial, cache, seed, out, _on_device(computing, accelerator))
        _train(setup, accelerator, dataset, folds or numbers)
        if accelerator.is_main_process and all(_result(setup, fold).exists() for fold in numbers):
            _assemble(setup, dataset, config, decoder, options)
        accelerator.wait_for_everyone()
    path = out / "metrics.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def start() -> Accelerator:
    """The accelerator of this process, which accelerate may have started.

    Raises ValidationError: packages are missing, or accelerate is set up to share more than gradients.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401  # fails now rather than after the first fold
        from accelerate import Accelerator, DistributedType
        from accelerate.utils import InitProcessGroupKwargs
    except ImportError as error:
        message, hint = f"the package {error.name} is not installed", "pip install 'blemore[finetune]'"
        raise ValidationError(Problem("missing-package", "fine-tuning", message, hint=hint)) from None
    # The others wait while one process decodes. loop.py handles precision.
    patience = InitProcessGroupKwargs(timeout=timedelta(days=2))
    accelerator = Accelerator(mixed_precision="no", kwargs_handlers=[patience])
    if accelerator.distributed_type not in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        message = f"type {accelerator.distributed_type.value}; expected MULTI_GPU, MULTI_CPU or one process"
        hint = "Remove options such as --use_deepspeed and --use_fsdp."
        raise ValidationError(Problem("bad-launch", "accelerate", message, hint=hint))
    return accelerator


def _config(dataset: Dataset, recipe: Recipe, seed: int, features: dict, decoder: dict) -> dict:
    """The content of config.json, in the same form as for `train`."""
    return {
        "method": "fine-tuned",
        "head": "linear",
        "preset": "published" if recipe.published else "reference",
        "recipe": recipe._asdict(),
        "test_protocol": "pooled",
        **decoder,
        "seed": seed,
        "features": [features],
        "train": describe_clips(dataset),
        "versions": {**versions(), **{name: importlib.metadata.version(name) for name in PACKAGES}},
    }


def _demand_folds(folds: Sequence[int], numbers: Sequence[int]) -> None:
    unknown = sorted(set(folds) - set(numbers))
    if unknown:
        expected = ", ".join([*map(str, numbers[:-1]), "final"])
        raise ValidationError(Problem("unknown-fold", "folds", f"unknown folds {unknown}; expected some of {expected}"))


def _encoder(name: str, weights: str | Path | None, faces: Path | None) -> TorchEncoder:
    family_class(name)  # refuses unknown names before the weights are searched
    arguments: dict = {"weights": weights} if weights else {}
    if weights and ":" in name:
        message = "its name contains its weights; expected no --weights"
        raise ValidationError(Problem("unwanted-weights", f"encoder {name!r}", message))
    if name == "hicmae" and faces:
        arguments["faces"] = faces
    encoder = create(name, "reference", device="cpu", **arguments)
    assert isinstance(encoder, TorchEncoder)
    if faces and encoder.modality == "audio":
        raise ValidationError(Problem("unwanted-faces", f"encoder {name!r}", "uses sound only; expected no --faces"))
    return encoder


def _on_device(computing: Computing, accelerator: Accelerator) -> Computing:
    """Resolves the precision `auto`. On the CPU, the model needs all cores, so its own process loads the clips."""
    on_gpu, precision = accelerator.device.type == "cuda", computing.precision
    if precision == "auto":
        precision = "bf16" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return computing._replace(precision=precision, workers=computing.workers if on_gpu else 0)


def _filled_cache(family: Family, sources: Sequence[Source], computing: Computing) -> Cache:
    cache = Cache.of_kind(computing.cache, family.side, family.has_sound, sources[0].faces is not None)
    fill(cache, sources, computing.workers)
    return cache


# ---------------------------------------------------------------------------------- the folds


def _result(setup: Setup, fold: int) -> Path:
    """The file of a finished fold."""
    folder = setup.folder(fold)
    return folder.with_name(f"{folder.name}.npz")


def _train(setup: Setup, accelerator: Accelerator, dataset: Dataset, folds: Sequence[int]) -> None:
    for fold in folds:
        if _result(setup, fold).exists():
            continue
        inside = np.flatnonzero(dataset.folds != fold)
        ids, outside = [dataset.ids[place] for place in inside], np.flatnonzero(dataset.folds == fold)
        module, losses = train_fold(setup, accelerator, fold, ids, dataset.targets[inside])
        logits = np.zeros((0, len(EMOTIONS)), np.float32)
        if fold != FINAL:
            held_out = [dataset.ids[place] for place in outside]
            logits = held_out_logits(setup, accelerator, module, held_out, f"fold {fold}, held out")
        if accelerator.is_main_process:
            if fold == FINAL:
                tensors = {name: value.cpu().contiguous() for name, value in module.state_dict().items()}
                write_atomic(setup.out / "model.safetensors", safetensors.torch.save(tensors))
            write_atomic(_result(setup, fold), npz_bytes(logits=logits, losses=np.array(losses)))
            shutil.rmtree(setup.folder(fold))
        accelerator.wait_for_everyone()


def _assemble(setup: Setup, dataset: Dataset, config: dict, decoder: str, options: Mapping[str, float]) -> None:
    """Write the run folder's files, metrics.json last."""
    logits, losses = np.zeros((1, len(dataset.ids), len(EMOTIONS)), np.float32), {}
    for fold in [*np.unique(dataset.folds).tolist(), FINAL]:
        with np.load(io.BytesIO(read_bytes(_result(setup, fold))), allow_pickle=False) as result:
            losses[fold] = result["losses"].tolist()
            logits[0, dataset.folds == fold] = result["logits"]
    metrics = figures_with_intervals(dataset, softmax(logits))
    thresholds = fit_exact(softmax(logits[0]), dataset.labels).thresholds
    final = Final(FINAL, setup.recipe.epochs, thresholds, "pooled out-of-fold logits of the last epoch")
    decoder_spec = fit_final_decoder(dataset, logits[0], final, decoder, options, metrics)
    metrics["final"]["test_protocol"] = config["test_protocol"]
    faces = config["features"][0]["faces"]
    spec = {
        "finetuned": {"encoder": config["features"][0]["encoder"], "settings": setup.family.settings, "faces": faces},
        **{key: config[key] for key in ("head", "method", "features", "recipe", "seed", "versions")},
        "emotions": list(EMOTIONS),
        "decoder": decoder_spec,
        "folds": np.unique(dataset.folds).tolist(),
        "epochs": final.epochs,
    }
    rows = [(fold, epoch, f"{loss:.6f}") for fold in losses for epoch, loss in enumerate(losses[fold], start=1)]
    write_atomic(setup.out / "model.json", to_json(spec))
    write_atomic(setup.out / "losses.csv", csv_text([("fold", "epoch", "train_loss"), *rows]))
    last = {fold: values[-1:] for fold, values in losses.items() if fold != FINAL}
    write_results(dataset, logits, last, logits[0], metrics, setup.out)


# -------------------------------------------------------------------------------- new clips


def predict(model: Path, ids: Sequence[str], clips: Path, faces: Path | None, computing: Computing) -> np.ndarray:
    """The logits (N, 6) of a fine-tuned model for clips: the mean over their test views.

    Raises FileError: the model or clips cannot be opened; ValidationError: the model is damaged or not fine-tuned, it
    was trained with faces and none are given (or the reverse), or clips cannot be used.
    """
    spec, path = read_artefact(model).get("finetuned"), model / "model.json"
    if spec is None:
        hint = "Give it features: predict --model RUN --features PATH …"
        raise ValidationError(Problem("not-fine-tuned", str(path), "the model reads features, not clips", hint=hint))
    family = parse_or_refuse(path, lambda raw: family_class(spec["encoder"])(spec["settings"]))
    recipe = parse_or_refuse(path, lambda raw: Recipe(**json.loads(raw)["recipe"]))
    if spec["faces"] != (faces is not None):
        pictures = "aligned faces" if spec["faces"] else "the clips' own frames"
        hint = "Name their folder with --faces." if spec["faces"] else "Leave out --faces."
        raise ValidationError(Problem("other-input", str(path), f"the model was trained on {pictures}", hint=hint))
    module = parse_or_refuse(model / "model.safetensors", lambda raw: _filled(family, raw))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module.to(device).eval()
    modality = "video" if family.side else "audio"
    cache = _filled_cache(family, find_sources(ids, clips, faces, modality), computing)
    logits = clip_logits(family, recipe, module, cache, ids, computing.at_once, "predict")
    return np.stack([logits[clip] for clip in ids]).astype(np.float64)


def _filled(family: Family, raw: bytes) -> torch.nn.Module:
    """ValueError: the weights have other shapes."""
    module = family.build()
    try:
        module.load_state_dict(safetensors.torch.load(raw))
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    return module
