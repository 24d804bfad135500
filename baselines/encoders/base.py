"""The one interface of every encoder: a clip in, float32 (T, dim) out.

An encoder declares what it is as class attributes, loads its weights once (in the process that uses them: an unloaded
encoder is small and can be sent to another process) and then encodes clip after clip. The same clip gives the same
features, whatever was encoded before it.
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


class Encoder(ABC):
    """An encoder; a subclass states `modality`, `dim` and `unit`, and fills `_encode`. All else has a default.

    A subclass that lacks one of these, or states what cannot be, is refused when it is defined. `abstract=True` in its
    first line leaves that to its own subclasses.
    """

    name: str  # of its feature folder; by default the class's own: MyEncoder is my_encoder
    modality: str  # "video", "audio" or "video+audio"
    unit: str  # what one row is: "frame", "16 frames", "20 ms"
    rows: str  # how many rows a clip gives; by default one a unit
    weights: str | None = None  # where they come from; None: needs none
    licence: str | None = None  # of the weights
    presets: tuple[str, ...] = ("reference",)  # the first is the default; "published": as the challenge's own features
    suffixes: tuple[str, ...] = MEDIA_SUFFIXES  # of the files that it reads
    packages: tuple[str, ...] = ()  # whose versions can change the features; they are noted beside them
    place: str | None = None  # "FILE.py:CLASS" of a class that was read from a file

    def __init_subclass__(cls, abstract: bool = False, **options):
        super().__init_subclass__(**options)
        if abstract:
            return
        if "name" not in vars(cls):
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        if not hasattr(cls, "rows"):
            cls.rows = f"one a {getattr(cls, 'unit', 'row')}"
        faults = list(_faults(cls))
        if faults:
            hint = "encoders/README.md has an example of an encoder with all its parts."
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
        """A class that was read from a file is read again where this arrives, from the same path."""
        kind = type(self)
        return _arrive, (vars(kind).get("place") or kind, code_digest(kind), self.__getstate__())

    @property
    @abstractmethod
    def dim(self) -> int:
        """The number of columns; a plain class attribute, where it is known."""

    @property
    def precision(self) -> str:
        """Of the arithmetic."""
        return "fp32"

    @property
    def revision(self) -> str:
        """Of the weights, or of the computation where there are none: another revision, other features."""
        return "1"

    @property
    def fingerprint(self) -> str:
        """The revision and, of a class that is not the kit's own, a digest of its file: other code, other features."""
        return "-".join(filter(None, [self.revision, code_digest(type(self))]))

    def load(self) -> None:
        """Load the weights, once; `encode` does it where it was not done."""
        if not self._loaded:
            self._load()
            self._loaded = True

    def encode(self, clip: Clip) -> np.ndarray:
        """The features of a clip: float32 (T, dim), T ≥ 1, finite.

        Raises MediaError: the clip cannot be read; ValidationError: its features are not what was declared.
        """
        self.load()
        return self.checked(self._encode(clip), clip.id)

    def checked(self, rows: np.ndarray, clip_id: str) -> np.ndarray:
        """The rows of a clip as its features. Raises ValidationError: they are not what was declared."""
        features = np.ascontiguousarray(rows, dtype=np.float32)
        problem = None
        if features.ndim != 2 or features.shape[1] != self.dim or not len(features):
            message = f"gave the shape {features.shape}; expected (1 or more, {self.dim})"
            problem = Problem("wrong-shape", self.name, message, clip_id)
        elif not np.isfinite(features).all():
            bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
            message = f"gave NaN or infinity in {len(bad)} of {len(features)} rows, first in row {bad[0]}"
            problem = Problem("not-finite", self.name, message, clip_id)
        if problem:
            raise ValidationError(problem)
        return features

    def _load(self) -> None:  # noqa: B027  # most encoders without weights have nothing to load
        pass

    @abstractmethod
    def _encode(self, clip: Clip) -> np.ndarray:
        """Numbers (T, dim) of a clip, T ≥ 1."""


# ------------------------------------------------------------------------------- the contract


def _faults(kind: type[Encoder]) -> Iterator[str]:
    """What a class lacks, or states wrongly."""
    methods = [name for name in dir(kind) if getattr(getattr(kind, name, None), "__isabstractmethod__", False)]
    for name in [*(name for name in ("modality", "unit") if not hasattr(kind, name)), *methods]:
        yield f"lacks {name}; expected {_EXPECTED.get(name, 'a method of that name')}"
    for name, is_right in _RIGHT.items():
        value = getattr(kind, name, None)
        if value is not None and not hasattr(value, "__get__") and not is_right(value):
            yield f"states {name} = {value!r}; expected {_EXPECTED[name]}"


def _are_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(text, str) for text in value)


_EXPECTED = {
    "name": "a folder's name, of letters, digits, _, -, + and dots",
    "modality": f"one of {', '.join(MODALITIES)}",
    "dim": "the number of columns, a whole number from 1",
    "unit": 'what one row is, in a word or two, such as "frame"',
    "revision": "a text",
    "presets": 'at least one name in a tuple, such as ("reference",)',
    "suffixes": 'at least one ending in a tuple, such as (".mov", ".mp4")',
    "packages": 'names of packages in a tuple, such as ("torch",)',
    "_encode": "a method _encode(self, clip) that gives numbers of the shape (T, dim)",
}
_RIGHT: dict[str, Callable[..., bool]] = {
    "name": lambda value: isinstance(value, str) and NAME.fullmatch(value) is not None,
    "modality": lambda value: value in MODALITIES,
    "dim": lambda value: type(value) is int and value > 0,
    "unit": lambda value: isinstance(value, str) and value.strip() != "",
    "revision": lambda value: isinstance(value, str),
    "presets": lambda value: _are_texts(value) and len(value) > 0,
    "suffixes": lambda value: _are_texts(value) and len(value) > 0 and all(text.startswith(".") for text in value),
    "packages": _are_texts,
}


def _where(kind: type) -> str:
    """The file and line of a class that is being defined."""
    frame = inspect.currentframe()
    while frame and frame.f_globals.get("__name__") != kind.__module__:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else kind.__module__


# ------------------------------------------------------------------------- code from elsewhere


def code_digest(kind: type) -> str:
    """12 hexadecimal digits that stand for the file of a class; "" for the kit's own, and where there is no file."""
    module = sys.modules.get(kind.__module__)
    path = getattr(module, "__file__", None)
    if kind.__module__.partition(".")[0] == __name__.partition(".")[0] or path is None:
        return ""
    return getattr(module, "__digest__", None) or hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]


def _arrive(kind: type[Encoder] | str, digest: str, state: dict) -> Encoder:
    """The encoder that `Encoder.__reduce__` sent. Raises ValidationError: its file is another here."""
    if isinstance(kind, str):
        from blemore_baselines.encoders import encoder_class

        place, kind = kind, encoder_class(kind)
        if code_digest(kind) != digest:
            message = "is not the file that it was when the run began"
            raise ValidationError(Problem("bad-encoder", place, message, hint="Start the run again."))
    encoder = kind.__new__(kind)
    encoder.__dict__.update(state)
    return encoder
