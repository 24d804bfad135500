#!/usr/bin/env bash
# Fine-tuning as a job array: one job per fold, and the last one for the final model. From the project's folder:
#
#     mkdir -p logs
#     sbatch baselines/slurm/finetune.sh --encoder hicmae --recipe published --metadata train_metadata.csv --clips CLIPS \
#         --faces FACES --weights checkpoint-99.pth --cache CACHE --out run
#
# A stopped job continues from its last epoch when it is submitted again. The last job to end writes the run's figures. Fill
# the cache before you submit the array, or several jobs will decode the same clips. For several GPUs per job, raise --gres;
# for several machines, start `accelerate launch` on each (with --num_machines, --machine_rank and --main_process_ip).
#SBATCH --array=0-5
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --gres=gpu:1
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=logs/%A_%a.txt
set -euo pipefail

# shellcheck source=/dev/null
source .venv/bin/activate
folds=(0 1 2 3 4 final)
exec accelerate launch --num_processes "${SLURM_GPUS_ON_NODE:-1}" --num_machines 1 --mixed_precision no \
    --dynamo_backend no --main_process_port "$((20000 + SLURM_JOB_ID % 20000))" \
    -m blemore_baselines finetune --workers "$SLURM_CPUS_PER_TASK" --folds "${folds[$SLURM_ARRAY_TASK_ID]}" "$@"
