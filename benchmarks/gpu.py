"""Extraction and training beside what the hardware could do, with random weights of full size: five minutes on a GPU.

    python benchmarks/gpu.py [--tiny]

- Peak: a product of 8192³ in bf16.
- Encoding: each encoder's share of that peak, in batches of its default size, by the operations as torch counts them;
  from pixels on the device, and from items in the computer's memory.
- Decoding: what a bare pool of processes on all cores comes to that decodes clips, converts frames to RGB and resizes
  them as the encoder does.
- End to end: `extract`, from the difference of a short run and a long one, beside the smaller of the two limits.
- Training: cross-validation by `published` for the dataset's size, reckoned from ten epochs, and all of `fast`.

Encoders have the preset `reference`: the preset `published` computes in fp32. `--tiny` runs the same on the CPU in some
seconds, where the figures mean nothing. The last line is one JSON object with the figures.
"""

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
import training
from random_weights import write_checkpoint
from torch.utils.flop_counter import FlopCounterMode

from blemore_baselines import engines
from blemore_baselines.clips.media import Clip
from blemore_baselines.dataset import Dataset
from blemore_baselines.encoders import create
from blemore_baselines.encoders.torch_encoder import TorchEncoder, arithmetic
from blemore_baselines.extract import extract
from blemore_baselines.features import Features
from blemore_baselines.models.crossval import cross_validate
from blemore_baselines.models.recipes import HEADS, PRESETS

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
END_TO_END = ("clip", "imagebind", "videomaev2-base", "wavlm")
# Shares of the peak that are wanted.
TARGETS = {
    "clip": 0.35,
    "imagebind": 0.55,
    "videomaev2": 0.55,
    "videomaev2-base": 0.45,
    "videoswin": 0.15,
    "hubert": 0.25,
    "wavlm": 0.25,
    "hicmae": None,
}
ROWS = 11  # of the published table of results: so many sources of features are trained on
RATE = 48_000  # samples a second


class Sizes(NamedTuple):
    """side: of the product; picture: (height, width); clips: of the short run and of the long one"""

    side: int = 8192
    picture: tuple[int, int] = (1080, 1920)
    frames: int = 125
    clips: tuple[int, int] = (16, 176)
    processes: int = engines.available_cores()
    epochs: tuple[int, int] = (2, 12)
    dim: int = training.DIM
    every: int = 1  # of the dataset's clips, every so manieth is trained on
    seconds: float = 0.5  # that a measurement lasts
    batch: int = 1000  # items at most


TINY = Sizes(64, (48, 64), 33, (1, 2), 1, (1, 2), 40, 50, 0.0, 2)


# ------------------------------------------------------------------------------- measuring


def timed(call: Callable[[], object], seconds: float) -> float:
    """Seconds that a call takes on the device, over as many calls as fill the time."""
    together = 5 if seconds else 1  # calls before the device is waited for
    for _ in range(together):
        call()
    wait()
    start, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - start < seconds:
        for _ in range(together):
            call()
        wait()
        calls += together
    return (time.perf_counter() - start) / calls


def wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def peak(sizes: Sizes) -> float:
    """Operations a second of a large product in bf16."""
    a, b = (torch.randn(sizes.side, sizes.side, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    return 2 * sizes.side**3 / timed(lambda: a @ b, sizes.seconds)


# ------------------------------------------------------------------------------- the clips


def write_clip(path: Path, frames: int, size: tuple[int, int], seed: int) -> None:
    """25 frames a second of a picture that drifts, with some grain, and noise to hear."""
    rng, (height, width) = np.random.default_rng(seed), size
    picture = np.kron(rng.integers(0, 256, (height // 16, width // 16, 3)), np.ones((32, 32, 1))).astype(np.uint8)
    sound = rng.uniform(-0.3, 0.3, (1, RATE * frames // 25)).astype(np.float32)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "23"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        for number in range(frames):
            top, left = 3 * number % height, 5 * number % width
            frame = picture[top : top + height, left : left + width] // 2 + rng.integers(
                0, 32, (height, width, 1), np.uint8
            )
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode())
        samples = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
        samples.sample_rate, samples.time_base = RATE, Fraction(1, RATE)
        container.mux([*audio.encode(samples), *audio.encode()])


def write_clips(folder: Path, sizes: Sizes, processes) -> list[Path]:
    """A folder of clips for each run. A few are originals, the others are links to them."""
    originals = [folder / f"original_{seed}.mp4" for seed in range(min(16, sizes.clips[1]))]
    processes.starmap(write_clip, [(path, sizes.frames, sizes.picture, seed) for seed, path in enumerate(originals)], 1)
    runs = [folder / f"clips_{number}" for number in sizes.clips]
    for number, run in zip(sizes.clips, runs):
        run.mkdir()
        for clip in range(number):
            os.link(originals[clip % len(originals)], run / f"clip_{clip:03}.mp4")
    return runs


# -------------------------------------------------------------------------------- encoding


def encoding(encoder: TorchEncoder, item: np.ndarray, sizes: Sizes) -> dict[str, float]:
    """How fast an encoder encodes batches of its default size: items and operations a second."""
    batch = [torch.from_numpy(np.ascontiguousarray(item))] * encoder.batch_size
    on_device = torch.stack(batch).to(DEVICE)
    encoder.model.requires_grad_(False)  # the counter would look for gradients
    with FlopCounterMode(display=False) as counter:
        encoder.encode_batch(batch)
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode(), arithmetic(encoder.device, encoder.precision):
        forward = timed(lambda: encoder.forward(on_device.to(encoder.dtype)), sizes.seconds)
    with_copies = timed(lambda: encoder.encode_batch(batch), sizes.seconds)
    return {
        "batch_size": encoder.batch_size,
        "precision": encoder.precision,
        "gflop_an_item": counter.get_total_flops() / len(batch) / 1e9,
        "items_per_s": len(batch) / forward,
        "items_per_s_with_copies": len(batch) / with_copies,
        "memory_gb": torch.cuda.max_memory_allocated() / 1e9 if DEVICE == "cuda" else None,
        "operations_per_s": counter.get_total_flops() / forward,
    }


def items_of(encoder: TorchEncoder, clip: Path) -> int:
    """Decode a clip as `extract` would. Gives the number of the model's inputs."""
    engines.one_thread()
    return sum(1 for _ in encoder.items(Clip(clip)))


def decoding(encoder: TorchEncoder, clips: Path, sizes: Sizes, processes) -> float:
    """Items a second of a bare pool of processes, each of which has loaded what it needs."""
    paths = sorted(clips.iterdir())
    processes.starmap(items_of, [(encoder, paths[0])] * sizes.processes, 1)
    start = time.perf_counter()
    items = processes.starmap(items_of, [(encoder, path) for path in paths], 1)
    return sum(items) / (time.perf_counter() - start)


def end_to_end(
    encoder: TorchEncoder, runs: list[Path], items: list[int], out: Path, processes: int
) -> tuple[float, float]:
    """Items a second of `extract`, without its start; and the seconds of that start.

    The first run is not measured: it also starts the server from which later worker processes are forked.
    """
    walls = []
    for number, run in enumerate((runs[0], *runs)):
        start = time.perf_counter()
        [summary] = extract(None, run, [encoder], out / f"{number}", workers=processes)
        walls.append(time.perf_counter() - start)
        if summary.failures:
            raise SystemExit(f"{summary.failures[0]}")
    _, short, long = walls
    rate = (items[1] - items[0]) / (long - short) if long > short else items[1] / long  # noise hides the difference
    return rate, short - items[0] / rate


def of_encoder(name: str, folder: Path, runs: list[Path], sizes: Sizes, processes) -> dict[str, float]:
    """All figures of an encoder."""
    weights = write_checkpoint(name, folder, tiny=sizes is TINY)
    encoder = create(name, "reference", weights=weights, device=DEVICE)
    encoder.load()
    encoder.batch_size = min(encoder.batch_size, sizes.batch)
    clip = next(runs[0].iterdir())
    item = next(encoder.items(Clip(clip)))
    result = encoding(encoder, item, sizes)
    if name in END_TO_END:
        result["decoded_per_s"] = decoding(encoder, runs[1], sizes, processes)
        per_clip = items_of(encoder, clip)
        fresh = create(name, "reference", weights=weights, device=DEVICE)
        items = [per_clip * number for number in sizes.clips]
        result["end_to_end_per_s"], result["start_s"] = end_to_end(fresh, runs, items, folder / name, sizes.processes)
        limit = min(result["decoded_per_s"], result["items_per_s"])
        result["share_of_limit"] = result["end_to_end_per_s"] / limit
    if name == "clip" and DEVICE == "cuda":
        compiled = create(name, "reference", weights=weights, device=DEVICE, compile=True)
        compiled.load()
        result["compiled_operations_per_s"] = encoding(compiled, item, sizes)["operations_per_s"]
    return result


# -------------------------------------------------------------------------------- training


def invented(sizes: Sizes) -> tuple[Dataset, Features]:
    """A dataset of the real size, or some of its rows and columns."""
    dataset, features = training.invented()
    rows = slice(None, None, sizes.every)
    X, ids = features.X[rows, : sizes.dim], dataset.ids[rows]
    return (
        Dataset(ids, dataset.labels[rows], dataset.folds[rows], dataset.actors[rows]),
        Features(ids, X, np.arange(len(X)), {}),
    )


def training_figures(sizes: Sizes) -> dict[str, float]:
    """Seconds of an epoch and of the whole, by the device, and how far losses are from those of a plain loop."""
    dataset, features = invented(sizes)
    published, fast = (PRESETS[name]["aggregate"] for name in ("published", "fast"))
    cross_validate(dataset, features, published._replace(epochs=1))  # the device gets ready
    walls, (few, many) = [], sizes.epochs
    for epochs in sizes.epochs:
        start = time.perf_counter()
        result = cross_validate(dataset, features, published._replace(epochs=epochs), list(HEADS))
        walls.append(time.perf_counter() - start)
    epoch = (walls[1] - walls[0]) / (many - few)
    losses = np.stack([result.losses[fold][-1, 0, :few] for fold in range(5)])
    training.DIM = sizes.dim
    _, plain = training.plain(dataset, features, list(HEADS)[-1], published, few)
    return {
        "epoch_s": epoch,
        "published_s": ROWS * (walls[0] + (published.epochs - few) * epoch),
        "fast_s": training.whole(dataset, features, fast),
        "loss_difference": float(np.abs(losses / plain - 1).max()),
    }


# ------------------------------------------------------------------------------ the report


def commit() -> str:
    root = Path(__file__).resolve().parents[1]
    run = subprocess.run(["git", "-C", root, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return run.stdout.strip() or "unknown"


def print_encoders(results: dict[str, dict[str, float]], peak_rate: float) -> None:
    print("\n| encoder | batch | GFLOP an item | items/s | with copies | share of peak | target | memory (GB) ", end="")
    print("| decoded/s | end to end/s | of the smaller limit |\n|" + "---|" * 11)
    for name, result in results.items():
        cells = [name, result["batch_size"], f"{result['gflop_an_item']:.3g}"]
        cells += [f"{result[key]:,.0f}" for key in ("items_per_s", "items_per_s_with_copies")]
        cells += [f"{result['operations_per_s'] / peak_rate:.1%}", f"{TARGETS[name]:.0%}" if TARGETS[name] else ""]
        cells += [f"{result['memory_gb']:.1f}" if result["memory_gb"] else ""]
        for key, form in (("decoded_per_s", ",.0f"), ("end_to_end_per_s", ",.0f"), ("share_of_limit", ".0%")):
            cells.append(f"{result[key]:{form}}" if key in result else "")
        print("|", " | ".join(map(str, cells)), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny models, clips and data: does it all run?")
    sizes = TINY if parser.parse_args().tiny else Sizes()
    device = torch.cuda.get_device_name() if DEVICE == "cuda" else platform.processor() or "CPU"
    print(f"{device}, {sizes.processes} processes, torch {torch.__version__}, commit {commit()}", flush=True)
    start, peak_rate = time.perf_counter(), peak(sizes)
    print(f"peak: {peak_rate / 1e12:.3g} TFLOP/s in bf16", flush=True)
    figures = {
        "device": device,
        "torch": torch.__version__,
        "commit": commit(),
        "peak": peak_rate,
        "training": training_figures(sizes),
    }
    print(
        "training: {epoch_s:.3f} s an epoch of three heads in five folds; published, reckoned: {published_s:.0f} s"
        " (target 180); fast: {fast_s:.1f} s (target 1.5); losses within {loss_difference:.1e} (target 1e-4)".format(
            **figures["training"]
        ),
        flush=True,
    )
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name, get_context("spawn").Pool(sizes.processes) as processes:
        runs = write_clips(Path(name), sizes, processes)
        for encoder in TARGETS:
            with tempfile.TemporaryDirectory(dir=name) as folder:
                results[encoder] = of_encoder(encoder, Path(folder), runs, sizes, processes)
    print_encoders(results, peak_rate)
    figures |= {"encoders": results, "seconds": time.perf_counter() - start}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
