#!/usr/bin/env bash
# The whole path, from clips or features to a checked submission and a report.
#
#     baselines/run_all.sh                                on a small demo dataset, which is made first
#     BLEMORE_DATA=/path/to/dataset baselines/run_all.sh  on the real one, from its pre-extracted features if it has any
#
# BLEMORE_NORMALISE=standardise gives every actor the same mean and spread.
# BLEMORE_ENCODERS="ImageBind WavLM_large" selects the features to use together (default: the paper's best pair or all).
# BLEMORE_OUT=/path is the output folder (default: output/ in the repository's root).
# Finished steps are not repeated: stop it at any time and start it again. To start over, delete the output folder.
#
# This script creates .venv if needed, then starts `blemore-baselines run`.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=baselines/environment.sh
source "$root/baselines/environment.sh"

[ $# -eq 0 ] || fail "run_all.sh takes no arguments, but reads these environment variables:" \
    "$(sed -n '4,9s/^# *//p' "$0")"
prepare_environment "$root" baselines
export BLEMORE_OUT="${BLEMORE_OUT:-$root/output}"
exec "$venv/bin/blemore-baselines" run
