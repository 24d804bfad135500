"""What a fold goes on from after it was stopped: weights, AdamW's moments and the losses so far, after each epoch.

The learning rate follows from the update's number, and all random numbers from the epoch's (data.py), so that nothing
else needs to be saved. A state is one safetensors file, written whole or not at all; the last two are there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from blemore.io import write_atomic

MOMENTS = ("exp_avg", "exp_avg_sq")
STATES = 2


class State(NamedTuple):
    """epochs: how many are behind; losses: the mean of each"""

    epochs: int
    losses: list[float]


def files(folder: Path) -> list[Path]:
    """The states of a fold, the latest first."""
    return sorted(folder.glob("epoch_*.safetensors"), reverse=True)


def write(folder: Path, state: State, model: nn.Module, optimizer: torch.optim.AdamW) -> None:
    """Raises FileError: it cannot be written, as on a full disk; the states before stay."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for name, parameter in _parameters(optimizer):
        tensors |= {f"{moment}.{name}": optimizer.state[parameter][moment] for moment in MOMENTS}
        tensors[f"step.{name}"] = optimizer.state[parameter]["step"]
    content = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, _metadata(state))
    write_atomic(folder / f"epoch_{state.epochs:04}.safetensors", content)
    for old in files(folder)[STATES:]:
        with suppress(OSError):
            old.unlink()


def read(folder: Path, model: nn.Module, optimizer: torch.optim.AdamW) -> State:
    """Load the latest state that is whole into the model and the optimizer; where there is none, that of the start."""
    for path in files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                state = State(**json.loads(file.metadata()["state"]))
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            print(f"note: {path} is damaged and is left out: {error}", file=sys.stderr)
            continue
        model.load_state_dict(
            {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
        )
        for name, parameter in _parameters(optimizer):
            own = {moment: tensors[f"{moment}.{name}"].to(parameter.device) for moment in MOMENTS}
            optimizer.state[parameter] = {"step": tensors[f"step.{name}"], **own}
        return state
    return State(0, [])


def _metadata(state: State) -> dict[str, str]:
    return {"state": json.dumps(state._asdict())}


def _parameters(optimizer: torch.optim.AdamW) -> Sequence[tuple[str, nn.Parameter]]:
    return [pair for group in optimizer.param_groups for pair in zip(group["names"], group["params"])]
