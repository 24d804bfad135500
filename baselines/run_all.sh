#!/usr/bin/env bash
# The whole path, from clips or features to a checked submission and a report.
#
#     baselines/run_all.sh                                on a small demo dataset, which is made first
#     BLEMORE_DATA=/path/to/dataset baselines/run_all.sh  on the real one, from its pre-extracted features if it has any
#
# BLEMORE_NORMALISE=standardise brings every actor to the same mean and spread.
# BLEMORE_ENCODERS="ImageBind WavLM_large" names the features to use together (default: the paper's best pair, or all).
# BLEMORE_OUT=/path is where everything is written instead of output/ in the repository's root.
# What is done is not done again: stop it when you like and start it again. Delete the output folder to start afresh.
#
# This script sets up .venv where that is needed; the rest is `blemore-baselines run`.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=baselines/environment.sh
source "$root/baselines/environment.sh"

[ $# -eq 0 ] || fail "run_all.sh takes no arguments; it is told everything by variables:" \
    "$(sed -n '4,9s/^# *//p' "$0")"
prepare_environment "$root" baselines
export BLEMORE_OUT="${BLEMORE_OUT:-$root/output}"
exec "$venv/bin/blemore-baselines" run
