"""The training of one fold, on one device or many, and its logits for the clips that it has not seen.

Accelerate starts the processes, places the model and sums the gradients; each process computes its share of every
batch, `at_once` clips at a time. However a batch is shared out, the sum of its clips' losses is the same, up to
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
from blemore_baselines.finetuning.family import DropPath, Family, View
from blemore_baselines.finetuning.recipes import Recipe, parameter_groups
from blemore_baselines.models.crossval import fold_seed

if TYPE_CHECKING:
    from accelerate import Accelerator

MEMORY_HINT = (
    "Give finetune a smaller --at-once: the batch stays as large, and the result the same up to rounding. On a GPU"
    " --precision bf16 takes less, too. The same command goes on from the last epoch."
)


class Computing(NamedTuple):
    """How to compute, which changes results by rounding at most.

    cache:     the folder of decoded clips, shared by runs
    at_once:   clips on a device at once
    workers:   processes that decode and load clips
    precision: of the training: fp32, bf16, or auto, which takes bf16 where the GPU has it; logits are in fp32 always
    """

    cache: Path
    at_once: int = 8
    workers: int = 1
    precision: str = "auto"


class Setup(NamedTuple):
    """What the folds of a run have in common.

    initial:   the pretrained weights, without a head
    out:       the run folder
    computing: its precision is not auto; no workers: this process loads clips
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
    """A model that is being trained. model: as accelerate has wrapped it; module: as it is"""

    setup: Setup
    accelerator: Accelerator
    module: Any
    model: nn.Module
    optimizer: torch.optim.AdamW
    ids: Sequence[str]


def train_fold(
    setup: Setup, accelerator: Accelerator, fold: int, ids: Sequence[str], targets: np.ndarray
) -> tuple[nn.Module, list[float]]:
    """A model trained on clips with soft targets (N, 6), and each epoch's mean loss; goes on where it was stopped.

    fold: the one that is left out; −1: none. Its states are in a folder of its own.

    Raises ValidationError: fewer clips than a batch, a loss that is not finite, too little memory; FileError: a state
    cannot be written.
    """
    training, so_far = _begin(setup, accelerator, fold, ids)
    recipe, place = setup.recipe, (accelerator.process_index, accelerator.num_processes)
    steps = len(ids) // recipe.batch_size
    rates = recipe.rates(steps)
    branches, soft = training.module.paths.branches, torch.from_numpy(targets)
    examples = Examples(setup.family, recipe, setup.cache, setup.seed, ids, soft, branches)
    epochs = range(so_far.epochs, recipe.epochs)
    loader = load(examples, epochs, place, setup.computing.at_once, setup.computing.workers)
    title, clips = "final model" if fold < 0 else f"fold {fold}", steps * recipe.batch_size
    writer = _writer(setup, fold, so_far.epochs * steps) if accelerator.is_main_process else None
    with tqdm(
        total=recipe.epochs * clips,
        initial=so_far.epochs * clips,
        desc=title,
        unit="clip",
        disable=None if accelerator.is_main_process else True,
    ) as progress:
        for epoch in epochs:
            torch.manual_seed(fold_seed(setup.seed + epoch, fold))  # for what is drawn beside data.py
            losses, where = [], f"{title}, epoch {epoch + 1}"
            for step, batch in enumerate(epoch_batches(len(ids), recipe, setup.seed, epoch), start=epoch * steps):
                loss, norm = _update(training, loader, batch, rates[step], f"{where}, update {step + 1}", fold)
                losses.append(loss)
                progress.set_postfix_str(f"loss {loss:.4f}", refresh=False)
                progress.update(len(batch))
                if writer:
                    for name, value in (("loss", loss), ("gradient norm", norm), ("learning rate", rates[step])):
                        writer.add_scalar(name, value, step + 1)
            if not all(parameter.isfinite().all() for parameter in training.module.parameters()):
                _refuse(training, batch, f"{where}, update {step + 1}", fold, "weights are not finite after it")
            so_far = state.State(epoch + 1, [*so_far.losses, float(np.mean(losses))])
            if accelerator.is_main_process:
                state.write(setup.folder(fold), so_far, training.module, training.optimizer)
            accelerator.wait_for_everyone()
    if writer:
        writer.close()
    return training.module, so_far.losses


def _begin(setup: Setup, accelerator: Accelerator, fold: int, ids: Sequence[str]) -> tuple[Training, state.State]:
    recipe, family = setup.recipe, setup.family
    if len(ids) < recipe.batch_size or recipe.batch_size < accelerator.num_processes:
        message = (
            f"{len(ids):,} clips to train on, {recipe.batch_size} in a batch, {accelerator.num_processes} processes;"
            " expected a whole batch at least, with a clip for each process"
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
    model = accelerator.prepare_model(module)
    return Training(setup, accelerator, module, model, optimizer, ids), so_far


def _update(
    training: Training, loader: Iterator[Batch], batch: np.ndarray, rate: float, where: str, fold: int
) -> tuple[float, float]:
    """One step of AdamW by a whole batch; its mean loss, and the norm of the gradient."""
    setup, accelerator = training.setup, training.accelerator
    place = (accelerator.process_index, accelerator.num_processes)
    parts = parts_of(batch, place, setup.computing.at_once)
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
        _refuse(training, batch, where, fold, f"the loss is {mean}, the gradient's norm {norm}")
    for group in training.optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    training.optimizer.step()
    training.optimizer.zero_grad()
    return mean, norm


@contextmanager
def _enough_memory(where: str, clips: int) -> Iterator[None]:
    """ValidationError: memory runs out with so many clips at once."""
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)):
            raise
        message = f"too little memory for {clips} clips at once"
        raise ValidationError(Problem("out-of-memory", where, message, hint=MEMORY_HINT)) from error


def _losses(training: Training, batch: Batch) -> torch.Tensor:
    """(B,) each clip's KL divergence from its target."""
    device = training.accelerator.device
    training.module.paths.rows = batch.rows.to(device)
    inputs = training.setup.family.inputs(to(batch.views, device), batch.plans)
    with torch.autocast(device.type, torch.bfloat16, enabled=training.setup.computing.precision == "bf16"):
        logits = training.model(**inputs)
    return divergence(logits.float(), batch.targets.to(device))


def divergence(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(B,) the KL divergence of softmax(logits) from soft targets, both (B, 6)."""
    return F.kl_div(logits.log_softmax(-1), targets, reduction="none").sum(-1)


def _refuse(training: Training, batch: np.ndarray, where: str, fold: int, what: str) -> NoReturn:
    states, clips = state.files(training.setup.folder(fold)), [training.ids[place] for place in batch]
    message = (
        f"{what}; expected finite numbers. The batch's clips: {some(clips, len(clips))}. The last good state:"
        f" {states[0] if states else 'the start'}"
    )
    hint = "Try a lower --learning-rate, or --precision fp32. The same command would come to the same."
    raise ValidationError(Problem("not-finite", where, message, hint=hint))


@torch.inference_mode()
def clip_logits(family: Family, module: Any, views: Sequence[View], at_once: int, device: torch.device) -> np.ndarray:
    """(6,) float32: the mean over a clip's test views, in fp32. The module is in evaluation mode, without DropPath.

    Raises ValidationError: too little memory.
    """
    logits = []
    for start in range(0, len(views), at_once):
        part = views[start : start + at_once]
        with _enough_memory("test views", len(part)):
            logits.append(module(**family.inputs(to(stack(part), device), [None] * len(part))).float())
    return torch.cat(logits).mean(0).cpu().numpy()


def held_out_logits(setup: Setup, accelerator: Accelerator, module: Any, ids: Sequence[str], title: str) -> np.ndarray:
    """(N, 6) float32, each clip by one of the processes."""
    from accelerate.utils import gather_object

    module.eval()
    module.paths.rows = None
    own = range(accelerator.process_index, len(ids), accelerator.num_processes)
    pairs = []
    for place in tqdm(own, desc=title, unit="clip", disable=None if accelerator.is_main_process else True):
        views = setup.family.test_views(setup.cache.read(ids[place]), setup.recipe)
        logits = clip_logits(setup.family, module, views, setup.computing.at_once, accelerator.device)
        if not np.isfinite(logits).all():
            message = "the model gives logits that are not finite; expected numbers"
            raise ValidationError(Problem("not-finite", title, message, ids[place]))
        pairs.append((place, logits))
    return np.stack([logits for _, logits in sorted(gather_object(pairs), key=lambda pair: pair[0])])


def _writer(setup: Setup, fold: int, step: int) -> Any:
    """Of TensorBoard's logs, which go on where the state does."""
    from torch.utils.tensorboard import SummaryWriter

    folder = setup.out / "tensorboard" / setup.folder(fold).name
    return SummaryWriter(str(folder), purge_step=step + 1)
