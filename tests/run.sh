#!/usr/bin/env bash
# Runs the tests, after setting up .venv where that is needed. Callable from any folder; every argument goes to pytest,
# whose paths are those of the repository's root: tests/run.sh --long, tests/run.sh -k wheel, tests/run.sh tests/blemore.
# The files of tests are shared out over the processor's cores; -n0 runs all in one process, as --pdb needs.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=baselines/environment.sh
source "$root/baselines/environment.sh"

prepare_environment "$root" test
cd "$root"
# Python compiles a test file, with pytest's checks in it, once and not in each process of each run.
unset PYTHONDONTWRITEBYTECODE
# -P keeps the root's folders (tests, data, baselines) from being imported under their generic names.
exec "$venv/bin/python" -P -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile "$@"
