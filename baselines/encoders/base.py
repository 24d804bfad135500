"""The interface of every encoder: a clip in, float32 (T, dim) out.

An encoder declares what it is in class attributes, loads its weights once (in the process that uses them: an unloaded
encoder is small and can be sent to another process) and then encodes one clip after another. The same clip gives the
same features, whatever was encoded before it.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from blemore.errors import Problem, ValidationError
from blemore.labels import MEDIA_SUFFIXES
from blemore_baselines.clips.media import Clip

MODALITIES = ("video", "audio", "video+audio")
NAME = re.compile(r"\w[\w.+-]*")


def is_gpu(device: object) -> bool:
    """Whether a torch device, or the name of one, is a GPU; answered without loading torch."""
    return str(device).partition(":")[0] == "cuda"


class Encoder(ABC):
    """An encoder. A subclass sets `modality`, `dim` and `unit`, and defines `_encode`. Everything else has a default.

    A subclass that lacks one of these, or has an invalid value, is refused when it is defined. `abstract=True` in the
    class statement leaves this check to its own subclasses.
    """

    name: str  # of the feature folder; by default the class name in snake case: my_encoder for MyEncoder
    modality: str  # "video", "audio" or "video+audio"
    unit: str  # what one row is: "frame", "16 frames", "20 ms"
    rows: str  # number of rows per clip; by default one per unit
    weights: str | None = None  # where they come from; None: needs none
    licence: str | None = None  # of the weights
    presets: tuple[str, ...] = ("reference",)  # the first is the default; "published": as in the challenge's features
    suffixes: tuple[str, ...] = MEDIA_SUFFIXES  # of the files that it reads
    packages: tuple[str, ...] = ()  # packages whose versions can change the features; meta.json records the versions
    place: str | None = None  # "FILE.py:CLASS" of a class that was read from a file

    def __init_subclass__(cls, abstract: bool = False, **options):
        super().__init_subclass__(**options)
        if abstract:
            return
        if "name" not in vars(cls):
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        if not hasattr(cls, "rows"):
            cls.rows = f"one per {getattr(cls, 'unit', 'row')}"
        faults = list(_faults(cls))
        if faults:
            hint = "encoders/README.md has a complete example of an encoder."
            where = _where(cls)
            raise ValidationError(
                [Problem("bad-encoder", where, f"class {cls.__name__} {fault}", hint=hint) for fault in faults]
            )

    def __init__(self, preset: str | None = None):
        self.preset = self.presets[0] if preset is None else preset
        self._loaded = False
        if self.preset not in self.presets:
            message = f"has no preset {preset!r}; expected one of {', '.join(self.presets)}"
            raise ValidationError(Problem("unknown-preset", f"encoder {self.name!r}", message))

    def __reduce__(self) -> tuple:
        """The receiving process reads a class that came from a file again, from the same path."""
        kind = type(self)
        return _arrive, (vars(kind).get("place") or kind, code_digest(kind), self.__getstate__())

    @property
    @abstractmethod
    def dim(self) -> int:
        """The number of columns; a plain class attribute if it is known in advance."""

    @property
    def precision(self) -> str:
        """The precision of the arithmetic."""
        return "fp32"

    @property
    def revision(self) -> str:
        """The revision of the weights or, without weights, of the computation. It changes whenever features change."""
        return "1"

    @property
    def fingerprint(self) -> str:
        """The revision and, if the class is not the kit's own, a digest of its file: other code, other features."""
        return "-".join(filter(None, [self.revision, code_digest(type(self))]))

    def load(self) -> None:
        """Load the weights, once. `encode` calls it if needed."""
        if not self._loaded:
            self._load()
            self._loaded = True

    def encode(self, clip: Clip) -> np.ndarray:
        """The features of a clip: float32 (T, dim), T ≥ 1, finite.

        Raises MediaError: the clip cannot be read; ValidationError: see `checked`.
        """
        self.load()
        return self.checked(self._encode(clip), clip.id)

    def checked(self, rows: np.ndarray, clip_id: str) -> np.ndarray:
        """The rows of a clip as features. Raises ValidationError: wrong shape, no rows, or a value is not finite."""
        features = np.ascontiguousarray(rows, dtype=np.float32)
        problem = None
        if features.ndim != 2 or features.shape[1] != self.dim or not len(features):
            message = f"returned the shape {features.shape}; expected (1 or more, {self.dim})"
            problem = Problem("wrong-shape", self.name, message, clip_id)
        elif not np.isfinite(features).all():
            bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
            message = f"returned NaN or infinity in {len(bad)} of {len(features)} rows, first in row {bad[0]}"
            problem = Problem("not-finite", self.name, message, clip_id)
        if problem:
            raise ValidationError(problem)
        return features

    def _load(self) -> None:  # noqa: B027  # most encoders without weights have nothing to load
        pass

    @abstractmethod
    def _encode(self, clip: Clip) -> np.ndarray:
        """The features of a clip: numbers (T, dim), T ≥ 1."""


# ------------------------------------------------------------------------------- the contract


def _faults(kind: type[Encoder]) -> Iterator[str]:
    """What is missing from a class, or invalid in it."""
    methods = [name for name in dir(kind) if getattr(getattr(kind, name, None), "__isabstractmethod__", False)]
    for name in [*(name for name in ("modality", "unit") if not hasattr(kind, name)), *methods]:
        yield f"lacks {name}; expected {_EXPECTED.get(name, 'a method of that name')}"
    for name, is_right in _RIGHT.items():
        value = getattr(kind, name, None)
        if value is not None and not hasattr(value, "__get__") and not is_right(value):
            yield f"has {name} = {value!r}; expected {_EXPECTED[name]}"


def _are_strings(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(text, str) for text in value)


_EXPECTED = {
    "name": "the name of a folder, made of letters, digits, _, -, + and dots",
    "modality": f"one of {', '.join(MODALITIES)}",
    "dim": "the number of columns, an integer of at least 1",
    "unit": 'what one row is, in a word or two, such as "frame"',
    "revision": "a string",
    "presets": 'a tuple of at least one name, such as ("reference",)',
    "suffixes": 'a tuple of at least one suffix, such as (".mov", ".mp4")',
    "packages": 'a tuple of package names, such as ("torch",)',
    "_encode": "a method _encode(self, clip) that returns numbers of the shape (T, dim)",
}
_RIGHT: dict[str, Callable[..., bool]] = {
    "name": lambda value: isinstance(value, str) and NAME.fullmatch(value) is not None,
    "modality": lambda value: value in MODALITIES,
    "dim": lambda value: type(value) is int and value > 0,
    "unit": lambda value: isinstance(value, str) and value.strip() != "",
    "revision": lambda value: isinstance(value, str),
    "presets": lambda value: _are_strings(value) and len(value) > 0,
    "suffixes": lambda value: _are_strings(value) and len(value) > 0 and all(text.startswith(".") for text in value),
    "packages": _are_strings,
}


def _where(kind: type) -> str:
    """The file and line of a class that is being defined."""
    frame = inspect.currentframe()
    while frame and frame.f_globals.get("__name__") != kind.__module__:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else kind.__module__


# ------------------------------------------------------------------------- code from elsewhere


def code_digest(kind: type) -> str:
    """A digest of the file of a class: 12 hexadecimal digits; "" if the class is the kit's own, or has no file."""
    module = sys.modules.get(kind.__module__)
    path = getattr(module, "__file__", None)
    if kind.__module__.partition(".")[0] == __name__.partition(".")[0] or path is None:
        return ""
    return getattr(module, "__digest__", None) or hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]


def _arrive(kind: type[Encoder] | str, digest: str, state: dict) -> Encoder:
    """The encoder that `Encoder.__reduce__` sent. Raises ValidationError: its file is different here."""
    if isinstance(kind, str):
        from blemore_baselines.encoders import encoder_class

        place, kind = kind, encoder_class(kind)
        if code_digest(kind) != digest:
            message = "the file has changed since the run began"
            raise ValidationError(Problem("bad-encoder", place, message, hint="Start the run again."))
    encoder = kind.__new__(kind)
    encoder.__dict__.update(state)
    return encoder
