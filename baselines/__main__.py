"""Starts `blemore-baselines`, or says what to install first. Imports nothing heavy before that."""

import sys
from importlib.util import find_spec

from blemore.errors import NOT_INSTALLED, some

# The packages of the extra `baselines` in setup.cfg, by module name.
MODULES = (
    "PIL",
    "av",
    "cv2",
    "matplotlib",
    "numpy",
    "pandas",
    "pooch",
    "requests",
    "safetensors",
    "sklearn",
    "soundfile",
    "soxr",
    "torch",
    "tqdm",
    "transformers",
)


def main() -> None:
    """Runs the command. The exit code is NOT_INSTALLED if a package of the extra is missing."""
    missing = [name for name in MODULES if find_spec(name) is None]
    if missing:
        message = f"blemore-baselines needs packages that are not installed ({some(missing)})"
        print(f"{message}: in the kit's folder, run pip install '.[baselines]'", file=sys.stderr)
        sys.exit(NOT_INSTALLED)
    from blemore_baselines.cli import main as start

    start(prog_name="blemore-baselines")


if __name__ == "__main__":
    main()
