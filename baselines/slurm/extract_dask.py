"""Extraction on as many Slurm jobs as there is work for. They come and go: others do what a lost one had in hand.

    pip install 'blemore[cluster]' dask-jobqueue
    python baselines/slurm/extract_dask.py --clips CLIPS --metadata train_metadata.csv --encoder clip \\
        --out features/train

It takes the options of `blemore-baselines extract`, and must stay up while the jobs work: start it in a job of its own
or in tmux. A job is one process that encodes `CLIPS_AT_ONCE` clips at once; adapt what is in capitals.
"""

import subprocess
import sys

from dask_jobqueue import SLURMCluster

JOBS = 16
CLIPS_AT_ONCE = 8  # on a GPU they share a model; without one take 1, and more jobs
HOURS = 4
GPU = ["--gres=gpu:1"]  # [] without one


def main() -> int:
    cluster = SLURMCluster(
        cores=CLIPS_AT_ONCE,
        processes=1,
        memory="16GB",
        walltime=f"{HOURS}:00:00",
        python=sys.executable,
        job_extra_directives=GPU,
        # A worker leaves by itself before Slurm ends its job, each at another time.
        worker_extra_args=["--lifetime", f"{60 * HOURS - 20}m", "--lifetime-stagger", "10m"],
    )
    cluster.adapt(minimum_jobs=1, maximum_jobs=JOBS)
    engine = ["--engine", "dask", "--scheduler", cluster.scheduler_address]
    try:
        return subprocess.call(["blemore-baselines", "extract", *sys.argv[1:], *engine])
    finally:
        cluster.close()


if __name__ == "__main__":
    sys.exit(main())
