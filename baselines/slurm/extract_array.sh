#!/usr/bin/env bash
# Extraction as a plain job array; every job takes its share of the clips. From the project's folder:
#
#     mkdir -p logs
#     sbatch baselines/slurm/extract_array.sh --clips CLIPS --metadata train_metadata.csv --encoder clip --out features/train
#
# Submitted again, it does what is missing; the same blemore-baselines command without --shard then says whether all is
# done.
#SBATCH --array=1-16
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --gres=gpu:1
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --output=logs/%A_%a.txt
set -euo pipefail

# shellcheck source=/dev/null
source .venv/bin/activate
exec blemore-baselines extract --workers "$SLURM_CPUS_PER_TASK" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" "$@"
