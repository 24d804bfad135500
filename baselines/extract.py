"""Features of many clips by one encoder, in a way that survives bad clips, crashes and kills.

What it writes, under `OUT/<encoder>/`:
- `<clip>.npy`: float32 (T, dim), whole or not at all: written under a temporary name and renamed;
- `meta.json`: what the features are (encoder, revision, preset, dim, unit) and with which packages they were made;
- `failures.csv`: `clip,kind,message`, by clip; a clip that succeeds later leaves it.

A later run does what is not done. A file counts as done if its header says float32, (T ≥ 1, dim) and its size
agrees; any other is made anew. Nothing is ever added to a folder that holds other features than those asked for.

A clip's file is found by its id anywhere under the videos folder. Where a picture file and a sound file bear the same
id (`x.mov`, `x.wav`), the one of the encoder's own modality is read; any other double is a failure that names both.
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import os
import sys
import time
from collections import deque
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Iterable, Iterator, NamedTuple, Optional

import numpy as np
from tqdm import tqdm

from blemore.errors import BlemoreError, FileError, Problem, ValidationError, some
from blemore.io import read_json, read_table, to_json, write_atomic
from blemore.labels import MEDIA_SUFFIXES, clip_id
from blemore_baselines.encoders.base import Encoder
from blemore_baselines.media import Clip

META, FAILURES = "meta.json", "failures.csv"
SOUND_SUFFIXES = (".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg")
IDENTITY = ("encoder", "revision", "preset", "modality", "dim", "unit")  # features that differ in one of these never mix
FORGOTTEN = 3600  # seconds after which a temporary file belongs to a run that was killed


class Failure(NamedTuple):
    """A clip without features: `kind` is a stable word (see `media`), `message` says what was found."""

    clip: str
    kind: str
    message: str


class Summary(NamedTuple):
    """What a run came to: every id asked for is in exactly one of the three.

    `done`: clips encoded now; `skipped`: done before; `failures`: by clip.
    """

    folder: Path
    done: list[str]
    skipped: list[str]
    failures: list[Failure]


def extract(ids: Iterable[str], videos: Path, encoder: Encoder, out: Path, *, workers: int = 1) -> Summary:
    """Encode the clips of these ids, found under `videos`, into `out/<encoder.name>/`.

    `workers` processes encode at once, each with an encoder of its own; 1: this process alone. A clip that fails,
    or even kills its process, is recorded and the rest goes on. Progress is shown on stderr.

    Raises ValidationError: the folder holds features of another kind, or the encoder cannot be loaded.
    FileError: `videos` cannot be read, or nothing can be written (a full disk): what is done stays done.
    """
    folder = Path(out) / encoder.name
    clips = sorted({clip_id(name) for name in ids})
    files = find_clips(videos, encoder.suffixes)
    _claim(folder, encoder)
    skipped = [clip for clip in clips if is_done(folder, clip, encoder.dim)]
    # What failed before stays on record until its outcome is another.
    failed = {row.clip: row for row in read_failures(folder) if not is_done(folder, row.clip, encoder.dim)}
    recorded, done = None, []
    with tqdm(total=len(clips), initial=len(skipped), desc=encoder.name, unit="clip", file=sys.stderr) as progress:
        for clip, failure in _outcomes(sorted(set(clips) - set(skipped)), files, encoder, folder, workers):
            failed.pop(clip, None)
            if failure:
                failed[clip] = failure
            else:
                done.append(clip)
            recorded = _record(folder, failed, recorded)
            progress.update()
    _record(folder, failed, recorded)
    return Summary(folder, sorted(done), skipped, [failed[clip] for clip in clips if clip in failed])


def is_done(folder: Path, clip: str, dim: int) -> bool:
    """Whether a clip's features stand there, whole and of the right kind (told without reading them)."""
    try:
        features = np.load(Path(folder) / f"{clip}.npy", mmap_mode="r", allow_pickle=False)  # fails where bytes lack
    except (OSError, ValueError, EOFError):
        return False
    return features.dtype == np.float32 and features.ndim == 2 and features.shape[1] == dim and len(features) > 0


# ------------------------------------------------------------------------------ finding the clips


def find_clips(videos: Path, suffixes: tuple[str, ...] = MEDIA_SUFFIXES) -> dict[str, list[Path]]:
    """Every file of these kinds under a folder, by clip id. Hidden files are left out: archivers put shadows of clips there.

    Raises FileError: there is no such folder, or it cannot be read.
    """
    def give_up(error: OSError):
        raise FileError(Problem("cannot-open", str(error.filename), f"cannot be read: {error.strerror}",
                                hint="Expected the folder that holds the clips."))

    found: dict[str, list[Path]] = {}
    for folder, folders, names in os.walk(videos, onerror=give_up):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        for name in names:
            if not name.startswith(".") and name.lower().endswith(suffixes):
                found.setdefault(Path(name).stem, []).append(Path(folder, name))
    return found


def _choose(clip: str, paths: list[Path], encoder: Encoder) -> Path | Failure:
    """The file to read for a clip, or why there is none."""
    own = [path for path in paths if (path.suffix.lower() in SOUND_SUFFIXES) == (encoder.modality == "audio")]
    if len(paths) == 1 or len(own) == 1:
        return (own or paths)[0]
    if not paths:
        return Failure(clip, "missing-file", f"no file of this name ({some(encoder.suffixes, 3)}) under the folder of the clips")
    doubles = sorted(map(str, own or paths))
    message = f"{len(doubles)} files bear this name ({some(doubles)}); expected one. Move the others elsewhere."
    return Failure(clip, "ambiguous", message)


# --------------------------------------------------------------------------------- the folder


def _claim(folder: Path, encoder: Encoder) -> None:
    """Write meta.json, or see that the folder's own says the same. Removes what killed runs left."""
    meta = describe(encoder)
    path = folder / META
    if path.exists():
        found = read_json(path).data
        found = found if isinstance(found, dict) else {}
        other = [f"{key} {found.get(key)!r} (expected {meta[key]!r})" for key in IDENTITY if found.get(key) != meta[key]]
        if other:
            message = f"the folder holds features of another kind: {', '.join(other)}"
            raise ValidationError(Problem("other-features", str(path), message, hint="Choose another output folder."))
        changed = [name for name, version in meta["versions"].items() if found.get("versions", {}).get(name) != version]
        if changed:
            print(f"note: {folder} was begun with other versions of {', '.join(changed)}", file=sys.stderr)
    elif any(folder.glob("*.npy")):
        message = f"holds .npy files, but no {META} that says what they are"
        raise ValidationError(Problem("other-features", str(folder), message, hint="Choose another output folder."))
    else:
        write_atomic(path, to_json(meta))
    for left in folder.glob(".*.tmp"):
        try:
            if time.time() - left.stat().st_mtime > FORGOTTEN:  # a younger one may belong to a run beside this one
                left.unlink()
        except OSError:
            pass  # another run was quicker


def describe(encoder: Encoder) -> dict:
    """What stands in meta.json: what the features are, and the versions of the packages behind them."""
    packages = sorted({"av", "numpy", *encoder.packages})
    return {
        "encoder": encoder.name, "revision": encoder.revision, "preset": encoder.preset, "modality": encoder.modality,
        "dim": encoder.dim, "unit": encoder.unit, "weights": encoder.weights, "licence": encoder.licence,
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def read_failures(folder: Path) -> list[Failure]:
    """The failures on record in a feature folder; none where there is no record.

    Raises ValidationError: the record is not such a table.
    """
    path = Path(folder) / FAILURES
    rows = read_table(path) if path.exists() else []
    if rows and not set(Failure._fields) <= set(rows[0]):
        raise ValidationError(Problem("bad-table", str(path), f"expected the columns {', '.join(Failure._fields)}",
                                      hint="Delete it: the next run writes it anew."))
    return [Failure(*(row[column] for column in Failure._fields)) for row in rows]


def _record(folder: Path, failed: dict[str, Failure], recorded: Optional[str]) -> str:
    """Write failures.csv where it would change; gives its text."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Failure._fields, *sorted(failed.values())])
    if text.getvalue() != recorded:
        write_atomic(folder / FAILURES, text.getvalue())
    return text.getvalue()


# ------------------------------------------------------------------------------------ the work


Task = tuple[str, Path]  # a clip and its file
Outcome = tuple[str, Optional[Failure]]


def _outcomes(
    clips: list[str], files: dict[str, list[Path]], encoder: Encoder, folder: Path, workers: int
) -> Iterator[Outcome]:
    """What became of each clip, as it becomes known."""
    chosen = [(clip, _choose(clip, files.get(clip, []), encoder)) for clip in clips]
    yield from ((clip, choice) for clip, choice in chosen if isinstance(choice, Failure))
    tasks = [(clip, choice) for clip, choice in chosen if not isinstance(choice, Failure)]
    if workers <= 1 or len(tasks) <= 1:
        _load(encoder)
        yield from ((clip, encode_file(clip, path, encoder, folder)) for clip, path in tasks)
    else:
        yield from _in_processes(tasks, encoder, folder, workers)


def encode_file(clip: str, path: Path, encoder: Encoder, folder: Path) -> Optional[Failure]:
    """The unit of work: one clip's file to one feature file. Gives the failure, if it is one of the clip.

    Raises FileError: the features cannot be written, which is no fault of the clip.
    """
    try:
        features = encoder.encode(Clip(path))
    except BlemoreError as error:
        problem = error.problems[0]
        return Failure(clip, problem.code, _one_line(problem.message, problem.hint))
    except Exception as error:  # whatever an encoder does wrong must not stop the other clips
        return Failure(clip, "encoder-error", _one_line(f"{type(error).__name__}: {error}"))
    content = io.BytesIO()
    np.save(content, features, allow_pickle=False)
    write_atomic(folder / f"{clip}.npy", content.getvalue())
    return None


def _one_line(*parts: Optional[str]) -> str:
    return ". ".join(" ".join(part.split()) for part in parts if part)


def _load(encoder: Encoder) -> None:
    """Load an encoder's weights: a failure here is one of the run, not of its first clip."""
    try:
        encoder.load()
    except BlemoreError:
        raise
    except Exception as error:
        raise _cannot_load(encoder, _one_line(f"{type(error).__name__}: {error}")) from error


def _cannot_load(encoder: Encoder, message: str, hint: Optional[str] = None) -> ValidationError:
    return ValidationError(Problem("cannot-load", f"encoder {encoder.name!r}", message, hint=hint))


def _in_processes(tasks: list[Task], encoder: Encoder, folder: Path, workers: int) -> Iterator[Outcome]:
    """Each process gets one task at a time, so that when it dies it is known which clip it died of."""
    waiting, context = deque(tasks), get_context("spawn")
    running: dict = {}  # our end of the pipe → the process, and its task (None: it is still loading)

    def start() -> None:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, encoder, folder, workers), daemon=True)
        process.start()
        theirs.close()  # so that the pipe ends when the process does
        running[ours] = process, None

    try:
        for _ in range(min(workers, len(tasks))):
            start()
        while running:
            for pipe in connection.wait(list(running)):
                process, task = running.pop(pipe)
                try:
                    outcome, trouble = pipe.recv()
                except (EOFError, ConnectionResetError):
                    process.join()
                    died = f"its process died (exit code {process.exitcode})"
                    if task is None:
                        hint = "Is there enough memory for so many workers? Try one."
                        raise _cannot_load(encoder, f"{died} before the first clip", hint) from None
                    yield task[0], Failure(task[0], "crashed", f"{died}. Too little memory, or a fault in a decoder.")
                    if waiting:
                        start()
                    continue
                if trouble:
                    kind, problems = trouble
                    raise kind(problems)
                if task is not None:
                    yield task[0], outcome
                following = waiting.popleft() if waiting else None
                pipe.send(following)
                if following is None:
                    process.join()
                else:
                    running[pipe] = process, following
    finally:
        for process, _ in running.values():
            process.terminate()


def _work(pipe, encoder: Encoder, folder: Path, workers: int) -> None:
    """A process's life: load, say so, then a task in and its outcome out until None comes.

    Sends (outcome, None), or (None, (exception class, problems)) where the run must stop.
    """
    try:
        _load(encoder)
        _share_cores(workers)
        pipe.send((None, None))
        while (task := pipe.recv()) is not None:
            pipe.send((encode_file(*task, encoder, folder), None))
    except BlemoreError as error:
        pipe.send((None, (type(error), error.problems)))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass  # the run itself has ended


def _share_cores(workers: int) -> None:
    """Give each process its share of the cores, in the libraries that it has loaded."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
