"""Extraction beside the plain way, with a CLIP of full size and random weights, on processors alone.

    python benchmarks/extraction.py

The plain way takes one clip at a time: it loads the model, decodes with OpenCV, prepares frames with the model's own
processor (PIL), encodes them as one batch and saves the rows; or it loads the model anew for every batch of 8 frames,
as scripts are seen to do that wrap both in one function. All run as whole processes, from the start of Python.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import torch
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from blemore_baselines.clips.media import ArrayClip, Clip
from blemore_baselines.encoders import create
from blemore_baselines.features import statistics

OURS = "from blemore_baselines.cli import main; main()"
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
    for start in range(0, len(frames), int(batch) or len(frames)):
        model = CLIPModel.from_pretrained(weights).eval()
        pixels = CLIPImageProcessorPil()(frames[start : start + (int(batch) or len(frames))], return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            rows.append(model.get_image_features(pixel_values=pixels).pooler_output)
    np.save(Path(out, path.stem + ".npy"), torch.cat(rows).numpy())
"""


def write_clip(path: Path, frames: int, seed: int) -> None:
    """1920 × 1080, 25 frames a second: a picture that drifts, with some grain, so that it is work to decode."""
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


def measure(program: str, *arguments: object) -> tuple[float, float, float]:
    """Wall and CPU seconds of a process and its children, and the peak MiB of the largest of them."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # wait4 took it: Popen must not look for it again
    assert process.returncode == 0
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def best(call, runs: int = 20) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def end_to_end(folder: Path, weights: Path, number: int, frames: int, workers: int) -> None:
    clips = folder / "clips"
    clips.mkdir()
    for seed in range(number):
        write_clip(clips / f"clip_{seed:02}.mp4", frames, seed)
    extract = ["extract", "--clips", clips, "--encoder", "clip", "--weights", weights, "--out"]
    runs = {
        f"plain way, {workers} threads": lambda: measure(PLAIN, clips, weights, folder / "plain", workers, 0),
        "plain way, 1 thread": lambda: measure(PLAIN, clips, weights, folder / "plain_1", 1, 0),
        f"plain way, model loaded every 8 frames, {workers} threads": lambda: measure(
            PLAIN, clips, weights, folder / "plain_8", workers, 8
        ),
        f"extract, {workers} workers": lambda: measure(OURS, *extract, folder / "ours", "--workers", workers),
        f"extract, {workers} workers, bf16": lambda: measure(
            OURS, *extract, folder / "bf16", "--workers", workers, "--precision", "bf16"
        ),
        "extract, 1 worker": lambda: measure(OURS, *extract, folder / "ours_1", "--workers", 1),
    }
    print(
        f"\n| {number} clips of {frames} frames, 1080p | wall (s) | CPU (s) | frames/s | clips/s | peak memory of a"
        " process (MiB) |\n" + "|---" * 6 + "|"
    )
    walls = []
    for name, run in runs.items():
        wall, cpu, peak = run()
        walls.append(wall)
        print(
            f"| {name} | {wall:.1f} | {cpu:.1f} | {number * frames / wall:.1f} | {number / wall:.2f} | {peak:.0f} |",
            flush=True,
        )
    plain, names = min(walls[:3]), sorted(path.name for path in (folder / "plain").iterdir())
    same = all(
        (folder / "ours" / "clip" / name).read_bytes() == (folder / "ours_1" / "clip" / name).read_bytes()
        for name in names
    )
    for wall, run in ((walls[3], "ours"), (walls[4], "bf16")):
        far = max(
            cosine_distance(np.load(folder / "plain" / name), np.load(folder / run / "clip" / name)) for name in names
        )
        print(
            f"\n{run}: {plain / wall:.1f} times as fast as the quickest plain way (target 2); cosine distance of a row"
            f" {far:.1e} (target 1e-3)"
        )
    print(f"\nthe same bytes with 1 worker: {same}")


def cosine_distance(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True) for rows in (a, b))
    return float((1 - (a * b).sum(axis=1)).max())


def preprocessing(clip: Path, weights: Path) -> None:
    """Our pixels and time beside the processor's own, a frame at a time and on one thread; encoding in batches of 32."""
    torch.set_num_threads(1)
    frames = [frame for frame, _ in zip(Clip(clip).frames(), range(20))]
    encoder = create("clip", weights=weights, device="cpu")
    encoder.load()
    processor = CLIPImageProcessorPil(do_normalize=False, do_rescale=False)
    theirs = [processor(frame)["pixel_values"][0].transpose(1, 2, 0) for frame in frames]
    clip = ArrayClip(np.stack(frames))
    ours = list(encoder.items(clip))
    off = max(np.abs(a.astype(int) - b.astype(int)).max() for a, b in zip(ours, theirs))
    distance = cosine_distance(
        encoder.encode_items(ours), encoder.encode_items([item.astype(np.uint8) for item in theirs])
    )
    full, batch = CLIPImageProcessorPil(), (ours * 2)[:32]
    ours_time = best(lambda: list(encoder.items(clip)), 5) / len(frames)
    theirs_time = best(lambda: [full(frame) for frame in frames], 3) / len(frames)
    encode_time = best(lambda: encoder.encode_items(batch), 5) / len(batch)
    print("\n| a frame of 1080p | time (ms) | share of encoding |\n|---|---|---|")
    for name, seconds in (
        ("preprocessing, PIL", theirs_time),
        ("preprocessing, ours", ours_time),
        ("encoding", encode_time),
    ):
        print(f"| {name} | {1e3 * seconds:.1f} | {seconds / encode_time:.0%} |")
    print(
        f"\nlargest difference {off} of 255 (target 1), cosine distance {distance:.1e} (target 1e-3); target of the"
        " share 15 %",
        flush=True,
    )


def memory(folder: Path, weights: Path, lengths: tuple[int, ...]) -> None:
    print("\n| one clip of 1080p | frames | wall (s) | peak memory (MiB), target 2,560 |\n|---|---|---|---|")
    for seconds in lengths:
        clips = folder / f"long_{seconds}"
        clips.mkdir()
        write_clip(clips / "clip.mp4", 25 * seconds, 0)
        wall, _, peak = measure(
            OURS,
            "extract",
            "--clips",
            clips,
            "--encoder",
            "clip",
            "--weights",
            weights,
            "--out",
            folder / f"out_{seconds}",
            "--workers",
            1,
        )
        print(f"| {seconds} s | {25 * seconds} | {wall:.1f} | {peak:.0f} |", flush=True)


def aggregation() -> None:
    x = np.random.default_rng(0).normal(size=(250, 1024)).astype(np.float32)
    plain = lambda: [
        np.mean(x, axis=0),
        np.std(x, axis=0),
        *(np.percentile(x, q, axis=0) for q in (10, 25, 50, 75, 90)),
    ]
    ours, theirs = best(lambda: statistics(x)), best(plain)
    print(
        f"\n| seven statistics of 250 × 1024 | time (ms) |\n|---|---|\n| seven numpy calls | {1e3 * theirs:.1f} |\n|"
        f" ours | {1e3 * ours:.1f} |"
    )
    print(f"\n{theirs / ours:.1f} times as fast (target 6)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--frames", type=int, default=25, help="of each clip")
    parser.add_argument(
        "--seconds", type=int, nargs="*", default=[3, 30], help="lengths of the clips whose peak memory is measured"
    )
    parser.add_argument("--only", choices=["end_to_end", "preprocessing", "memory", "aggregation"])
    options = parser.parse_args()
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores, load"
        f" {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = folder / "weights"
        torch.manual_seed(0)
        CLIPModel(CLIPConfig()).save_pretrained(weights)  # both towers, as on the hub
        if options.only in (None, "aggregation"):
            aggregation()
        if options.only in (None, "preprocessing"):
            write_clip(folder / "clip.mp4", 20, 0)
            preprocessing(folder / "clip.mp4", weights)
        if options.only in (None, "memory"):
            memory(folder, weights, tuple(options.seconds))
        if options.only in (None, "end_to_end"):
            end_to_end(folder, weights, options.clips, options.frames, len(os.sched_getaffinity(0)))


if __name__ == "__main__":
    main()
