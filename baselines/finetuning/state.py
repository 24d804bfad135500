"""Saved states of a fold, one per epoch: the weights, AdamW's moments and the losses so far.

Nothing else needs saving: the learning rate follows from the number of the update, and all random numbers follow from
the epoch (data.py). A state is one safetensors file, written whole or not at all. The last two are kept.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from blemore.io import write_atomic

STATES = 2


class State(NamedTuple):
    """epochs: completed so far; losses: the mean of each"""

    epochs: int
    losses: list[float]


def files(folder: Path) -> list[Path]:
    """The states of a fold, latest first."""
    return sorted(folder.glob("epoch_*.safetensors"), reverse=True)


def write(folder: Path, state: State, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Raises FileError: it cannot be written, for example on a full disk; earlier states stay."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
    content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomic(folder / f"epoch_{state.epochs:04}.safetensors", save(content, {"state": json.dumps(state._asdict())}))
    for old in files(folder)[STATES:]:
        with suppress(OSError):
            old.unlink()


def read(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Load the latest undamaged state into the model and the optimizer, if there is one."""
    for path in files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                state = State(**json.loads(file.metadata()["state"]))
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            print(f"note: {path} is damaged and is skipped: {error}", file=sys.stderr)
            continue
        weights: dict[str, torch.Tensor] = {}
        moments: dict[int, dict[str, torch.Tensor]] = defaultdict(dict)
        for key, value in tensors.items():
            part, _, name = key.partition(".")
            if part == "model":
                weights[name] = value
            else:
                number, _, name = name.partition(".")
                moments[int(number)][name] = value
        model.load_state_dict(weights)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        return state
    return State(0, [])
