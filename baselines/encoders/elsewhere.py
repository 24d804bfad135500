"""Encoders that are not the kit's own: a class in a file, `path/to/my_encoder.py:MyEncoder`, or one that an installed
package names as an entry point of the group `blemore.encoders`.

Errors in such code are reported with their file and line.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from blemore.errors import BlemoreError, FileError, Problem, ValidationError, some
from blemore_baselines.encoders.base import Encoder

GROUP = "blemore.encoders"


def is_file(name: str) -> bool:
    """Whether a name is `FILE.py:CLASS`, or `FILE.py` without a class."""
    return name.endswith(".py") or name.rpartition(":")[0].endswith(".py")


def from_file(name: str) -> type[Encoder]:
    """`FILE.py:CLASS`. Raises FileError: the file cannot be read; ValidationError: it holds no such encoder."""
    file, _, attribute = (name + ":" if name.endswith(".py") else name).rpartition(":")
    path = Path(file).expanduser().resolve()
    try:
        code = path.read_bytes()
    except OSError as error:
        hint = "Expected FILE.py:CLASS, a file with a class that is an encoder."
        problem = Problem("cannot-open", str(path), f"cannot be read: {error.strerror}", hint=hint)
        raise FileError(problem) from None
    kind = _encoder(_module(path, code), attribute, name)
    kind.place = f"{path}:{attribute}"
    return kind


def _module(path: Path, code: bytes) -> ModuleType:
    """A file as a module, loaded once per process, with the digest of its code in `__digest__`."""
    digest = hashlib.sha256(code).hexdigest()[:12]
    name = f"blemore_encoder_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    vars(module)["__digest__"] = digest
    sys.modules[name] = module  # before it runs, because its definitions may look the module up
    try:
        with _blamed(str(path), "cannot be imported", path):
            exec(compile(code, str(path), "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


def entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    """Entry points by encoder name. If two packages share a name, the first on the path wins, as in imports."""
    points = importlib.metadata.entry_points(group=GROUP)
    return {point.name: point for point in reversed(list(points))}


def from_package(name: str) -> type[Encoder]:
    """The class behind an entry point. Raises ValidationError: it cannot be imported, or is not an encoder."""
    point = entry_points()[name]
    with _blamed(point.value, "cannot be imported"):
        module = importlib.import_module(point.module)
    return _encoder(module, point.attr, point.value)


def _encoder(module: ModuleType, attribute: str, where: str) -> type[Encoder]:
    kind = getattr(module, attribute, None) if attribute else None
    if isinstance(kind, type) and issubclass(kind, Encoder) and not inspect.isabstract(kind):
        return kind
    classes = {name: value for name, value in vars(module).items() if isinstance(value, type)}
    encoders = [
        name
        for name, value in classes.items()
        if issubclass(value, Encoder) and value.__module__ == module.__name__  # not imported from elsewhere
    ]
    message = f"{attribute!r} is not an encoder" if attribute else "does not name a class"
    base = "a subclass of blemore_baselines.encoders.base.Encoder"
    expected = f"one of its encoders: {some(encoders)}" if encoders else base
    raise ValidationError(Problem("unknown-encoder", where, f"{message}; expected {expected}"))


@contextmanager
def blamed_on(kind: type[Encoder]) -> Iterator[None]:
    """In this block, errors are blamed on the file of the class, unless the class is the kit's own."""
    if kind.__module__.partition(".")[0] == __name__.partition(".")[0]:
        yield
        return
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    where = f"encoder {kind.name!r}"
    with suppress(OSError):  # a class that was defined interactively has no file
        where = f"{file}:{inspect.getsourcelines(kind)[1]}"
    with _blamed(where, f"class {kind.__name__} cannot be created", file and Path(file)):
        yield


@contextmanager
def _blamed(where: str, message: str, file: Path | None = None) -> Iterator[None]:
    """Turns any error into a ValidationError with the last line of `file` in its traceback; None: of any file."""
    try:
        yield
    except BlemoreError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        places = [f"{frame.filename}:{frame.lineno}" for frame in frames if file is None or frame.filename == str(file)]
        if isinstance(error, SyntaxError) and error.filename:
            places.append(f"{error.filename}:{error.lineno}")
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise ValidationError(
            Problem("bad-encoder", places[-1] if places else where, f"{message}: {reason}")
        ) from error
