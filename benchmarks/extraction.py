"""Extraction compared with a plain script, with a full-size CLIP and random weights, without a GPU.

    python benchmarks/extraction.py

The plain script processes one clip at a time: it loads the model, decodes with OpenCV, prepares frames with the model's
own processor (PIL), encodes them as one batch and saves the rows. A variant loads the model again for every batch of 8
frames, like scripts that wrap both in one function. All run as whole processes, from the start of Python.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch
from processes import measure
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from blemore_baselines.clips.media import ArrayClip, Clip
from blemore_baselines.encoders import create
from blemore_baselines.features import statistics

OURS = "from blemore_baselines.cli import main; main()"
FIRST_FRAME = """
import os, time
import numpy as np
from blemore_baselines.encoders.base import Encoder

class FirstFrame(Encoder):
    modality = "video"
    dim = 1
    unit = "clip"

    def _encode(self, clip):
        next(iter(clip.frames()))
        return np.array([[time.time() - float(os.environ["STARTED"])]])
"""
# What the command does, but encoding in batches of several clips although there is no GPU.
AS_ON_GPU = """
import sys
from pathlib import Path
from blemore_baselines.engines.processes import preload

clips, weights, timer, out = sys.argv[1:]
preload("blemore_baselines.extract", "blemore_baselines.encoders.clip")

from blemore_baselines.encoders import create
from blemore_baselines.extract import extract

encoders = [create("clip", weights=Path(weights), device="cpu"), create(timer)]
extract(None, Path(clips), encoders, Path(out), workers=2, engine="gpu")
"""
PLAIN = """
import sys
from pathlib import Path
import cv2, numpy as np, torch
from transformers import CLIPImageProcessorPil, CLIPModel

clips, weights, out, threads, batch = sys.argv[1:]
torch.set_num_threads(int(threads))
Path(out).mkdir()
for path in sorted(Path(clips).iterdir()):
    video, frames = cv2.VideoCapture(str(path)), []
    while (read := video.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    rows = []
    size = int(batch) or len(frames)
    for start in range(0, len(frames), size):
        model = CLIPModel.from_pretrained(weights).eval()
        pixels = CLIPImageProcessorPil()(frames[start : start + size], return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            rows.append(model.get_image_features(pixel_values=pixels).pooler_output)
    np.save(Path(out, path.stem + ".npy"), torch.cat(rows).numpy())
"""


def write_clip(path: Path, frames: int, seed: int) -> None:
    """1920 × 1080, 25 frames per second: a drifting picture with some grain, so decoding takes realistic effort."""
    rng = np.random.default_rng(seed)
    picture = np.kron(rng.integers(0, 256, (40, 70, 3)), np.ones((32, 32, 1))).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        for number in range(frames):
            top, left = 3 * number % 200, 5 * number % 320
            frame = picture[top : top + 1080, left : left + 1920] // 2 + rng.integers(0, 32, (1080, 1920, 1), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def best(call: Callable[[], object], runs: int = 20) -> float:
    """The shortest time of a call, in seconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def end_to_end(folder: Path, weights: Path, number: int, frames: int, workers: int) -> None:
    """Whole runs compared with the plain scripts, and the distance between their features."""
    clips = folder / "clips"
    clips.mkdir()
    for seed in range(number):
        write_clip(clips / f"clip_{seed:02}.mp4", frames, seed)
    plain = PLAIN, clips, weights
    extract = OURS, "extract", "--clips", clips, "--encoder", "clip", "--weights", weights, "--out"
    calls = {
        f"plain way, {workers} threads": (*plain, folder / "plain", workers, 0),
        "plain way, 1 thread": (*plain, folder / "plain_1", 1, 0),
        f"plain way, model loaded every 8 frames, {workers} threads": (*plain, folder / "plain_8", workers, 8),
        f"extract, {workers} workers": (*extract, folder / "ours", "--workers", workers),
        f"extract, {workers} workers, bf16": (*extract, folder / "bf16", "--workers", workers, "--precision", "bf16"),
        "extract, 1 worker": (*extract, folder / "ours_1", "--workers", 1),
    }
    print(f"\n| {number} clips of {frames} frames, 1080p", end="")
    print(" | wall (s) | CPU (s) | frames/s | clips/s | peak memory of a process (MiB) |")
    print("|---" * 6 + "|")
    walls = []
    for name, call in calls.items():
        wall, cpu, peak, _ = measure(*call)
        walls.append(wall)
        speeds = f"{number * frames / wall:.1f} | {number / wall:.2f}"
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {speeds} | {peak:.0f} |", flush=True)
    for wall, name in ((walls[3], "ours"), (walls[4], "bf16")):
        compare(min(walls[:3]) / wall, folder / "plain", folder / name / "clip")
    contents = [[path.read_bytes() for path in feature_files(folder / name / "clip")] for name in ("ours", "ours_1")]
    print(f"\nthe same bytes with 1 worker: {contents[0] == contents[1]}")


def compare(speed: float, plain: Path, features: Path) -> None:
    """Prints how much faster than the plain script a run was, and the distance of its features from the plain ones."""
    pairs = zip(feature_files(plain), feature_files(features), strict=True)
    distance = max(cosine_distance(np.load(plain_file), np.load(file)) for plain_file, file in pairs)
    print(f"\n{features.parent.name}: {speed:.1f} times as fast as the fastest plain script (target 2); ", end="")
    print(f"cosine distance of a row {distance:.1e} (target 1e-3)")


def feature_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npy"))


def cosine_distance(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True) for rows in (a, b))
    return float((1 - (a * b).sum(axis=1)).max())


def start_up(folder: Path, weights: Path) -> None:
    """Whole runs that have next to nothing to do: two clips of one frame, into a new folder and into one begun.

    A second encoder's feature is the time of the first frame that its process decoded.
    """
    clips, module = folder / "short", folder / "first_frame.py"
    clips.mkdir()
    for seed in range(2):
        write_clip(clips / f"clip_{seed}.mp4", 1, seed)
    module.write_text(FIRST_FRAME)
    timer = f"{module}:FirstFrame"
    command = OURS, "extract", "--clips", clips, "--weights", f"clip={weights}", "--encoder", "clip", "--encoder", timer
    runs = {
        "1 worker": (*command, "--workers", 1, "--out"),
        "2 workers": (*command, "--workers", 2, "--out"),
        "as on a GPU, 2 workers": (AS_ON_GPU, clips, weights, timer),
    }
    print("\n| seconds from the start of Python | to the first decoded frame (target 5) | to the end | CPU |")
    print("|---" * 4 + "|")
    for name, call in runs.items():
        out = folder / name
        for state in ("new", "begun"):
            os.environ["STARTED"] = str(time.time())
            wall, cpu, *_ = measure(*call, out)
            first = min(float(np.load(path)[0, 0]) for path in (out / "first_frame").glob("*.npy"))
            print(f"| {name}, {state} folder | {first:.1f} | {wall:.1f} | {cpu:.1f} |", flush=True)
            (out / "clip" / "clip_1.npy").unlink()
            for path in (out / "first_frame").glob("*.npy"):
                path.unlink()


def preprocessing(clip: Path, weights: Path) -> None:
    """The kit's pixels and times compared with the processor's, per frame on one thread; encoding in batches of 32."""
    torch.set_num_threads(1)
    frames = [frame for frame, _ in zip(Clip(clip).frames(), range(20))]
    encoder = create("clip", weights=weights, device="cpu")
    encoder.load()
    processor, full = CLIPImageProcessorPil(do_normalize=False, do_rescale=False), CLIPImageProcessorPil()
    pil = [processor(frame)["pixel_values"][0].transpose(1, 2, 0) for frame in frames]
    clip = ArrayClip(np.stack(frames))
    items = list(encoder.items(clip))
    batch = (items * 2)[:32]
    off = max(np.abs(a.astype(int) - b.astype(int)).max() for a, b in zip(items, pil))
    distance = cosine_distance(
        encoder.encode_items(items), encoder.encode_items([item.astype(np.uint8) for item in pil])
    )
    times = {
        "preprocessing, PIL": best(lambda: [full(frame) for frame in frames], 3) / len(frames),
        "preprocessing, ours": best(lambda: list(encoder.items(clip)), 5) / len(frames),
        "encoding": best(lambda: encoder.encode_items(batch), 5) / len(batch),
    }
    print("\n| per frame of 1080p | time (ms) | share of encoding |\n|---|---|---|")
    for name, seconds in times.items():
        print(f"| {name} | {1e3 * seconds:.1f} | {seconds / times['encoding']:.0%} |")
    print(f"\nlargest difference {off} of 255 (target 1), cosine distance {distance:.1e} (target 1e-3); ", end="")
    print("target of the share 15 %", flush=True)


def memory(folder: Path, weights: Path, lengths: tuple[int, ...]) -> None:
    """The peak memory of one worker, by length of clip."""
    print("\n| one clip of 1080p | frames | wall (s) | peak memory (MiB), target 2,560 |\n|---|---|---|---|")
    for seconds in lengths:
        clips = folder / f"long_{seconds}"
        clips.mkdir()
        write_clip(clips / "clip.mp4", 25 * seconds, 0)
        extract = ["extract", "--clips", clips, "--encoder", "clip", "--weights", weights, "--workers", 1]
        wall, _, peak, _ = measure(OURS, *extract, "--out", folder / f"out_{seconds}")
        print(f"| {seconds} s | {25 * seconds} | {wall:.1f} | {peak:.0f} |", flush=True)


def aggregation() -> None:
    """The kit's statistics over time compared with one numpy call per statistic."""
    x = np.random.default_rng(0).normal(size=(250, 1024)).astype(np.float32)
    calls = [np.mean, np.std, *(partial(np.percentile, q=q) for q in (10, 25, 50, 75, 90))]
    numpy_time = best(lambda: [call(x, axis=0) for call in calls])
    kit_time = best(lambda: statistics(x))
    print("\n| seven statistics of 250 × 1024 | time (ms) |\n|---|---|")
    print(f"| seven numpy calls | {1e3 * numpy_time:.1f} |\n| kit | {1e3 * kit_time:.1f} |")
    print(f"\n{numpy_time / kit_time:.1f} times as fast (target 6)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--frames", type=int, default=25, help="per clip")
    lengths = "lengths of the clips whose peak memory is measured"
    parser.add_argument("--seconds", type=int, nargs="*", default=[3, 30], help=lengths)
    parser.add_argument("--only", choices=["end_to_end", "start_up", "preprocessing", "memory", "aggregation"])
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores, ", end="")
    print(f"load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = folder / "weights"
        torch.manual_seed(0)
        CLIPModel(CLIPConfig()).save_pretrained(weights)  # both towers, as on the hub
        if options.only in (None, "aggregation"):
            aggregation()
        if options.only in (None, "start_up"):
            start_up(folder, weights)
        if options.only in (None, "preprocessing"):
            write_clip(folder / "clip.mp4", 20, 0)
            preprocessing(folder / "clip.mp4", weights)
        if options.only in (None, "memory"):
            memory(folder, weights, tuple(options.seconds))
        if options.only in (None, "end_to_end"):
            end_to_end(folder, weights, options.clips, options.frames, len(os.sched_getaffinity(0)))


if __name__ == "__main__":
    main()
