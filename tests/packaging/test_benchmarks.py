"""The GPU benchmark runs to its end without a GPU, at a tiny size, since time on a GPU is short."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_benchmark_of_a_gpu_runs_on_the_cpu(tmp_path, tmp_path_factory, long):
    if not long:
        pytest.skip("half a minute of two cores: with --long")
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", "--tiny"]
    cache = str(tmp_path_factory.mktemp("cache"))  # torch makes one in TMPDIR, and leaves it there empty
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": cache}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=1000)
    assert run.returncode == 0, run.stderr
    figures = json.loads(run.stdout.splitlines()[-1])
    assert figures["training"]["loss_difference"] < 1e-4
    for name, result in figures["encoders"].items():
        numbers = [value for value in result.values() if isinstance(value, (int, float))]
        assert all(value > 0 or key == "start_s" for key, value in result.items() if value in numbers), name
        assert all(map(math.isfinite, numbers)), name
    assert {name for name, result in figures["encoders"].items() if "share_of_limit" in result} == {
        "clip",
        "imagebind",
        "videomaev2-base",
        "wavlm",
    }
    assert not list(tmp_path.iterdir()), "what it wrote is gone"
