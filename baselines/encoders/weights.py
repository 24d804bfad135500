"""Finds checkpoints and fills models with them: nothing is guessed, and no weight stays random.

Weights are a hub id (fetched by huggingface_hub into its own cache), a folder as transformers saves it, or a file:
`.safetensors`, or torch's own format, read with `weights_only` so that it cannot run code. A file that an encoder
knows by name is looked for in the current folder and in `weights_folder()`.

Every tensor of a model must come from the checkpoint and, except for parts that are known to be unused, every tensor of
the checkpoint must go into the model. Errors name the tensors that do not fit as the checkpoint does.

transformers, which takes seconds to import, is imported only when a model is made: decoding does not need it.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from blemore.errors import FileError, Problem, ValidationError, printable
from blemore_baselines.download import first_line
from blemore_baselines.encoders.digests import file_digest
from blemore_baselines.encoders.download import HUB_ID, is_by_hand, snapshot, weights_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from blemore_baselines.encoders.torch_encoder import TorchEncoder

State = Mapping[str, torch.Tensor]
Keys = Sequence[str]
# A pattern of the model's keys; the checkpoint's key, with the pattern's groups; how its tensor becomes the model's.
Rule = tuple[str, str, Callable[[torch.Tensor], torch.Tensor] | None]

WRAPPERS = ("model", "module", "state_dict")  # keys under which training scripts save the tensors
PARALLEL = "module."  # the prefix that torch's DataParallel adds to every name
CONFIGS = ("config.json", "preprocessor_config.json")


# ------------------------------------------------------------------------------------- finding


def find(encoder: TorchEncoder, fetch: bool = True) -> Path:
    """The file or folder of an encoder's weights; `fetch`: download them if they are on the hub and not here yet.

    Raises FileError: the weights are not here. The hint says how to get them, their licence, and where to put them.
    """
    source = encoder.weights
    name = str(encoder.weights_path or encoder.file or source)
    for path in (Path(name).expanduser(), weights_folder() / name):
        if path.exists():
            return path
    reason = "there is no such file or folder"
    if HUB_ID.fullmatch(name):
        try:
            return snapshot(name, fetch)
        except Exception as error:  # from the network, the hub or the disk, without a common class
            reason = f"cannot be fetched from the hub: {first_line(error)}"
    page = f"https://huggingface.co/{source}" if HUB_ID.fullmatch(source) else source
    put = "keep them in one folder"
    if encoder.file:
        put = f"put {encoder.file} into {weights_folder()} (or $BLEMORE_WEIGHTS)"
    command = (
        "" if is_by_hand(source, encoder.file) else f"by `blemore-baselines weights get {call_name(encoder)}`, or "
    )
    hint = f"Get them {command}from {page} (licence: {encoder.licence}); {put}, or give their place with --weights."
    raise FileError(Problem("no-weights", f"weights {name!r} of encoder {encoder.name!r}", reason, hint=hint))


def call_name(encoder: TorchEncoder) -> str:
    """The name by which `create` knows an encoder."""
    kind = type(encoder)
    in_family = encoder.name != kind.name
    return f"{kind.name}:{encoder.weights}" if in_family else kind.place or kind.name


def folder_name(source: str | Path) -> str:
    """A hub id or a folder of weights as a part of a feature folder's name.

    >>> folder_name("facebook/dinov2-base"), folder_name("/models/my ViT/")
    ('facebook_dinov2-base', 'my_ViT')
    """
    on_hub = HUB_ID.fullmatch(str(source)) and not Path(source).exists()
    return re.sub(r"[^\w.-]+", "_", str(source) if on_hub else Path(source).resolve().name)


def weight_files(path: Path) -> list[Path]:
    """The files that hold a checkpoint's tensors: the file itself, or a folder's files in the best format it has."""
    if not path.is_dir():
        return [path]
    formats = ("*.safetensors", "pytorch_model*.bin", "*.pt*")
    return next(filter(None, (sorted(path.glob(pattern)) for pattern in formats)), [])


def digest(path: Path) -> str:
    """A digest of the weights, and of a folder's settings: 12 hexadecimal digits, whatever the path."""
    whole = hashlib.sha256()
    configs = [path / name for name in CONFIGS if (path / name).exists()]
    for part in [*configs, *weight_files(path)]:
        whole.update(file_digest(part))
    return whole.hexdigest()[:12]


# ------------------------------------------------------------------------------------- loading


def read(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint by its name. Raises ValidationError: it is not a checkpoint, or is damaged."""
    state: dict = {}
    for file in weight_files(path):
        try:
            if file.suffix == ".safetensors":
                state |= load_file(file)
            else:
                with torch.serialization.safe_globals([argparse.Namespace]):  # holds training scripts' options
                    state |= torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # each format fails in its own way
            raise _unusable(file, error) from error
    while wrapper := next((name for name in WRAPPERS if isinstance(state.get(name), Mapping)), None):
        state = state[wrapper]
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if all(name.startswith(PARALLEL) for name in tensors):
        return {name.removeprefix(PARALLEL): value for name, value in tensors.items()}
    return tensors


def sizes(state: State, key: str, where: Path, axes: int) -> torch.Size:
    """The shape of a tensor: models are built to the size of their checkpoint.

    Raises ValidationError: the tensor is missing, or has another number of axes.
    """
    if key not in state:
        raise _refusal(where, missing=[key])
    if state[key].ndim != axes:
        raise _refusal(where, misshapen=[f"{key} {tuple(state[key].shape)}, expected {axes} axes"])
    return state[key].shape


def count(state: State, pattern: str) -> int:
    """The number of layers in a checkpoint, from the layer numbers in the pattern's first group."""
    return 1 + max((int(match[1]) for key in state if (match := re.match(pattern, key))), default=-1)


def build(make: Callable[..., torch.nn.Module], *arguments) -> torch.nn.Module:
    """A model without initial weights: a billion random numbers would take half a minute."""
    from transformers.initialization import no_init_weights

    with no_init_weights():
        return make(*arguments)


def fill(model: torch.nn.Module, state: State, where: Path, rules: Sequence[Rule] = (), unused: str = "$^") -> None:
    """Put a checkpoint's tensors into a model by the first of `rules` that matches, or else by the same name.

    `unused` is a pattern of the checkpoint's keys that the model does not need. Raises ValidationError with every key
    that is missing, extra or misshapen.
    """
    used, missing, misshapen, tensors = set(), [], [], {}
    for key, parameter in model.state_dict().items():
        source, change = key, None
        for pattern, template, how in rules:
            if match := re.fullmatch(pattern, key):
                source, change = match.expand(template), how
                break
        used.add(source)
        if source not in state:
            missing.append(source)
            continue
        try:
            tensor = change(state[source]) if change else state[source]
            fits = tensor.shape == parameter.shape
        except (RuntimeError, IndexError, ValueError):  # the change expects other axes
            fits = False
        if fits:
            tensors[key] = tensor.to(parameter.dtype)
        else:
            misshapen.append(f"{source} {tuple(state[source].shape)} for {key} {tuple(parameter.shape)}")
    extra = [key for key in state if key not in used and not re.match(unused, key)]
    if missing or extra or misshapen:
        raise _refusal(where, missing, extra, misshapen)
    model.load_state_dict(tensors, assign=True)


def pretrained(model_class, folder: Path, unused: str = "$^", optional: str = "$^", **options) -> PreTrainedModel:
    """A transformers model from its folder, checked as strictly as by `fill`. Code in the folder is never run.

    `optional` is a pattern of keys that the checkpoint may lack: they are random then, and named in `model.lacking`.
    """
    with loading(folder):
        model, report = model_class.from_pretrained(
            folder,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
            key_mapping={"^" + re.escape(PARALLEL): ""},
            **options,
        )
    model.lacking = sorted(report["missing_keys"])
    missing = [key for key in model.lacking if not re.match(optional, key)]
    extra = [key for key in sorted(report["unexpected_keys"]) if not re.match(unused, key)]
    misshapen = [f"{key} {tuple(shape)} for {tuple(fit)}" for key, shape, fit in sorted(report["mismatched_keys"])]
    if missing or extra or misshapen:
        raise _refusal(folder, missing, extra, misshapen)
    return model


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Turns every error in calls of transformers into a ValidationError, and silences transformers."""
    try:
        with quiet():
            yield
    except Exception as error:  # each part of a folder fails in its own way
        raise _unusable(folder, error) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers from printing tables, progress bars and advice: the kit reports what matters."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _unusable(where: Path, error: Exception) -> ValidationError:
    return ValidationError(
        Problem(
            "bad-weights",
            str(where),
            f"not a readable checkpoint: {first_line(error)}",
            hint="Was the download interrupted? Does transformers support the model without extra code?",
        )
    )


def _refusal(where: Path, missing: Keys = (), extra: Keys = (), misshapen: Keys = ()) -> ValidationError:
    kinds = {"missing": missing, "extra": extra, "misshapen": misshapen}
    details = "; ".join(f"{kind}: {_some(list(dict.fromkeys(keys)))}" for kind, keys in kinds.items() if keys)
    return ValidationError(
        Problem(
            "wrong-weights",
            str(where),
            f"the checkpoint does not fit the model; {details}",
            hint="Is it the checkpoint of another model, or of another stage of training?",
        )
    )


def _some(keys: list[str], first: int = 5) -> str:
    """The first few keys, each in full: keys differ mostly at their ends."""
    rest = f" and {len(keys) - first:,} more" if len(keys) > first else ""
    return ", ".join(map(printable, keys[:first])) + rest
