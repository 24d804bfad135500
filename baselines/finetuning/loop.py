"""Trains one fold, on one device or several, and computes its logits for the held-out clips.

Accelerate starts the processes, places the model and averages the gradients. Each process computes its share of every
batch, `at_once` clips at a time. The sum of the clips' losses does not depend on how a batch is divided, except for
rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from blemore.errors import Problem, ValidationError, some
from blemore_baselines.finetuning import state
from blemore_baselines.finetuning.cache import Cache
from blemore_baselines.finetuning.data import Batch, Examples, epoch_batches, load, parts_of, stack, to
from blemore_baselines.finetuning.family import DropPath, Family
from blemore_baselines.finetuning.recipes import Recipe, parameter_groups
from blemore_baselines.models.crossval import fold_seed

if TYPE_CHECKING:
    from accelerate import Accelerator

MEMORY_HINT = (
    "Give finetune a smaller --at-once: the batch keeps its size, and the result is the same up to rounding. On a GPU,"
    " --precision bf16 also saves memory. The same command continues from the last epoch."
)


class Computing(NamedTuple):
    """How to compute; affects results by rounding at most.

    cache:     the folder for decoded clips, shared by runs
    at_once:   clips per device at once
    workers:   processes that decode and load clips
    precision: of the training: fp32, bf16, or auto (bf16 on GPUs that support it); logits are always in fp32
    """

    cache: Path
    at_once: int = 8
    workers: int = 1
    precision: str = "auto"


class Setup(NamedTuple):
    """What the folds of a run have in common.

    initial:   the pretrained weights, without a head
    out:       the run folder
    computing: with a precision other than auto; workers 0: this process loads clips
    """

    family: Family
    recipe: Recipe
    initial: dict[str, torch.Tensor]
    cache: Cache
    seed: int
    out: Path
    computing: Computing

    def folder(self, fold: int) -> Path:
        return self.out / "folds" / ("final" if fold < 0 else f"fold_{fold}")


class Training(NamedTuple):
    """A model in training. module: the model itself; model: as wrapped by accelerate"""

    setup: Setup
    accelerator: Accelerator
    fold: int
    ids: Sequence[str]
    module: Any
    model: nn.Module
    optimizer: torch.optim.AdamW

    @property
    def process(self) -> tuple[int, int]:
        return self.accelerator.process_index, self.accelerator.num_processes


def train_fold(
    setup: Setup, accelerator: Accelerator, fold: int, ids: Sequence[str], targets: np.ndarray
) -> tuple[nn.Module, list[float]]:
    """A model trained on clips with soft targets (N, 6), and the mean loss of each epoch. Continues from a saved state.

    fold: the fold that is held out; −1: none. Each fold saves its states in its own folder.

    Raises ValidationError: fewer clips than a batch, a loss that is not finite, too little memory; FileError: a state
    cannot be written.
    """
    training, so_far = _begin(setup, accelerator, fold, ids)
    recipe, computing, is_main = setup.recipe, setup.computing, accelerator.is_main_process
    steps = len(ids) // recipe.batch_size
    rates, clips = recipe.rates(steps), steps * recipe.batch_size
    branches = training.module.paths.branches
    examples = Examples(setup.family, recipe, setup.cache, setup.seed, ids, torch.from_numpy(targets), branches)
    epochs, total, initial = range(so_far.epochs, recipe.epochs), recipe.epochs * clips, so_far.epochs * clips
    loader = load(examples, epochs, training.process, computing.at_once, computing.workers)
    title = "final model" if fold < 0 else f"fold {fold}"
    writer = _writer(setup, fold, so_far.epochs * steps) if is_main else None
    with tqdm(total=total, initial=initial, desc=title, unit="clip", disable=None if is_main else True) as progress:
        for epoch in epochs:
            torch.manual_seed(fold_seed(setup.seed + epoch, fold))  # for random numbers that are not from data.py
            losses = []
            for step, batch in enumerate(epoch_batches(len(ids), recipe, setup.seed, epoch), start=epoch * steps):
                where = f"{title}, epoch {epoch + 1}, update {step + 1}"
                loss, norm = _update(training, loader, batch, rates[step], where)
                losses.append(loss)
                progress.set_postfix_str(f"loss {loss:.4f}", refresh=False)
                progress.update(len(batch))
                if writer:
                    for name, value in (("loss", loss), ("gradient norm", norm), ("learning rate", rates[step])):
                        writer.add_scalar(name, value, step + 1)
            if not all(parameter.isfinite().all() for parameter in training.module.parameters()):
                _refuse(training, batch, where, "weights are not finite after it")
            so_far = state.State(epoch + 1, [*so_far.losses, float(np.mean(losses))])
            if is_main:
                state.write(setup.folder(fold), so_far, training.module, training.optimizer)
            accelerator.wait_for_everyone()
    if writer:
        writer.close()
    return training.module, so_far.losses


def _begin(setup: Setup, accelerator: Accelerator, fold: int, ids: Sequence[str]) -> tuple[Training, state.State]:
    recipe, family = setup.recipe, setup.family
    if len(ids) < recipe.batch_size or recipe.batch_size < accelerator.num_processes:
        message = (
            f"{len(ids):,} clips to train on, {recipe.batch_size} per batch, {accelerator.num_processes} processes;"
            " expected at least one whole batch, with at least one clip per process"
        )
        raise ValidationError(Problem("bad-batch", f"fold {fold}", message, hint="Choose another --batch-size."))
    module: Any = family.build()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold_seed(setup.seed, fold))
        module.head.reset_parameters()
    module.load_state_dict({**setup.initial, **{f"head.{k}": v for k, v in module.head.state_dict().items()}})
    module.to(accelerator.device).train()
    groups = parameter_groups(module, recipe, family.layer, family.last_layer)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)
    so_far = state.read(setup.folder(fold), module, optimizer)
    module.paths = DropPath(family.branches(module), recipe.drop_path)
    return Training(setup, accelerator, fold, ids, module, accelerator.prepare_model(module), optimizer), so_far


def _update(
    training: Training, loader: Iterator[Batch], batch: np.ndarray, rate: float, where: str
) -> tuple[float, float]:
    """One step of AdamW on a whole batch. Returns its mean loss and the norm of the gradient."""
    setup, accelerator = training.setup, training.accelerator
    parts = parts_of(batch, training.process, setup.computing.at_once)
    with _enough_memory(where, max(map(len, parts))):
        total = torch.zeros((), device=accelerator.device)
        for part in parts:
            with nullcontext() if part is parts[-1] else accelerator.no_sync(training.model):
                loss = _losses(training, next(loader)).sum()
                # Gradients are averaged over processes.
                accelerator.backward(loss * (accelerator.num_processes / len(batch)))
                total += loss.detach()
        mean = float(accelerator.reduce(total, "sum")) / len(batch)
        norm = float(accelerator.clip_grad_norm_(training.model.parameters(), setup.recipe.max_norm or float("inf")))
    if not np.isfinite([mean, norm]).all():
        _refuse(training, batch, where, f"the loss is {mean}, the norm of the gradient {norm}")
    for group in training.optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    training.optimizer.step()
    training.optimizer.zero_grad()
    return mean, norm


@contextmanager
def _enough_memory(where: str, clips: int) -> Iterator[None]:
    """ValidationError: there is too little memory for this many clips at once."""
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)):
            raise
        message = f"too little memory for {clips} clips at once"
        raise ValidationError(Problem("out-of-memory", where, message, hint=MEMORY_HINT)) from error


def _losses(training: Training, batch: Batch) -> torch.Tensor:
    """(B,) the KL divergence of each clip from its target."""
    device = training.accelerator.device
    training.module.paths.rows = batch.rows.to(device)
    inputs = training.setup.family.inputs(to(batch.views, device), batch.plans)
    with torch.autocast(device.type, torch.bfloat16, enabled=training.setup.computing.precision == "bf16"):
        logits = training.model(**inputs)
    return divergence(logits.float(), batch.targets.to(device))


def divergence(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(B,) the KL divergence of softmax(logits) from soft targets, both (B, 6)."""
    return F.kl_div(logits.log_softmax(-1), targets, reduction="none").sum(-1)


def _refuse(training: Training, batch: np.ndarray, where: str, fault: str) -> NoReturn:
    states, clips = state.files(training.setup.folder(training.fold)), [training.ids[place] for place in batch]
    message = (
        f"{fault}; expected finite numbers. The batch's clips: {some(clips, len(clips))}. The last good state:"
        f" {states[0] if states else 'the start'}"
    )
    hint = "Try a lower --learning-rate, or --precision fp32. The same command would fail in the same way."
    raise ValidationError(Problem("not-finite", where, message, hint=hint))


def _writer(setup: Setup, fold: int, step: int) -> Any:
    """The writer of TensorBoard's logs, which continue from the saved state."""
    from torch.utils.tensorboard import SummaryWriter

    folder = setup.out / "tensorboard" / setup.folder(fold).name
    return SummaryWriter(str(folder), purge_step=step + 1)


# --------------------------------------------------------------------------------------- logits


@torch.inference_mode()
def clip_logits(
    family: Family, recipe: Recipe, module: Any, cache: Cache, ids: Sequence[str], at_once: int, title: str | None
) -> dict[str, np.ndarray]:
    """Each clip's logits (6,) float32: the mean over its test views, by a module in evaluation mode without DropPath.

    title: of the progress bar; None: no bar

    Raises ValidationError: too little memory, or logits that are not finite.
    """
    rows, device = {}, next(module.parameters()).device
    for clip in tqdm(ids, desc=title, unit="clip", disable=None if title else True):
        views, parts = family.test_views(cache.read(clip), recipe), []
        for start in range(0, len(views), at_once):
            part = views[start : start + at_once]
            with _enough_memory("test views", len(part)):
                parts.append(module(**family.inputs(to(stack(part), device), [None] * len(part))).float())
        rows[clip] = torch.cat(parts).mean(0).cpu().numpy()
        if not np.isfinite(rows[clip]).all():
            message = "the model's logits are not finite; expected numbers"
            raise ValidationError(Problem("not-finite", "test views", message, clip))
    return rows


def held_out_logits(setup: Setup, accelerator: Accelerator, module: Any, ids: Sequence[str], title: str) -> np.ndarray:
    """(N, 6) float32; each process computes its share of the clips."""
    from accelerate.utils import gather_object

    module.eval()
    module.paths.rows = None
    own = ids[accelerator.process_index :: accelerator.num_processes]
    label = title if accelerator.is_main_process else None
    share = clip_logits(setup.family, setup.recipe, module, setup.cache, own, setup.computing.at_once, label)
    rows = dict(gather_object(list(share.items())))
    return np.stack([rows[clip] for clip in ids])
