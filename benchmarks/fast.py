"""The preset `fast` compared with `published`: paired nested scores over seeds, and times.

    python benchmarks/fast.py [--seeds N] [--demo DIR]

It uses the demo's features (`gray_flow` and `logmel`, aggregated and fused; generated first without --demo) and, if the
real data is available (BLEMORE_SHARED), the real logits of one HiCMAE run as features. A difference is the nested score
of fast minus that of published with the same seed.

The last line is one JSON object with the figures.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from blemore.evaluate import read_ids
from blemore_baselines.dataset import read_dataset
from blemore_baselines.decoding.accounts import figures
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.demo.generator import make_demo
from blemore_baselines.encoders import create
from blemore_baselines.extract import extract
from blemore_baselines.features import fuse, read_features, read_scores
from blemore_baselines.models.crossval import cross_validate
from blemore_baselines.models.recipes import HEADS, PRESETS

SHARED = Path(os.environ.get("BLEMORE_SHARED") or Path(__file__).resolve().parents[2] / "shared") / "blemore-real"


def demo_features(folder):
    make_demo(folder)
    dataset = read_dataset(folder / "train_metadata.csv")
    names = ("gray_flow", "logmel")
    extract(
        read_ids(folder / "train_metadata.csv"),
        folder / "train",
        [create(name) for name in names],
        folder / "features",
        workers=2,
    )
    return dataset, fuse([read_features(folder / "features" / name, dataset.ids) for name in names])


def real_features():
    dataset = read_dataset(SHARED / "train_metadata.csv")
    scores = read_scores(SHARED / "hicmae" / "e100_ce_train_oof_logits.csv", dataset.ids)
    return dataset, scores._replace(X=scores.X.astype(np.float32))


def nested(dataset, features, preset, seeds):
    """Nested scores (heads, seeds), and the training time in seconds."""
    start = time.perf_counter()
    logits = cross_validate(dataset, features, PRESETS[preset]["aggregate"], list(HEADS), seeds, title=preset).logits
    duration = time.perf_counter() - start
    scores = [
        [figures(softmax(run), dataset.labels, dataset.folds)["nested"]["score"] for run in by_seed]
        for by_seed in logits
    ]
    return np.array(scores), duration


def compare(name, dataset, features, seeds):
    """Prints and returns the figures of both presets on the same features."""
    published, slow = nested(dataset, features, "published", range(seeds))
    fast, quick = nested(dataset, features, "fast", range(seeds))
    print(
        f"{name}, {features.X.shape[0]} × {features.X.shape[1]}: published {slow:.0f} s, fast {quick:.1f} s"
        f" ({slow / quick:.0f} times faster), {seeds} seeds"
    )
    heads = {}
    for head, a, b in zip(HEADS, published, fast):
        heads[head] = {
            "published": float(a.mean()),
            "fast": float(b.mean()),
            "difference": float((b - a).mean()),
            "standard_error": float((b - a).std(ddof=1) / np.sqrt(len(a))),
        }
        print(
            f"  {head:<7} published {a.mean():.4f}  fast {b.mean():.4f}  difference {(b - a).mean():+.4f}"
            f" (standard error {heads[head]['standard_error']:.4f})",
            flush=True,
        )
    return {
        "clips": len(dataset.ids),
        "dim": features.X.shape[1],
        "published_s": slow,
        "fast_s": quick,
        "times_faster": slow / quick,
        "heads": heads,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--demo", type=Path)
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        results["demo"] = compare("demo", *demo_features(options.demo or Path(folder)), options.seeds)
        if SHARED.is_dir():
            results["logits"] = compare("logits", *real_features(), options.seeds)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
