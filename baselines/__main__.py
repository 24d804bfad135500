"""Starts `blemore-baselines`, or says what to install first. Before that it imports the standard library alone."""

import sys
from importlib.util import find_spec

# What the extra `baselines` in setup.cfg installs, by the names of the modules.
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
    "soundfile",
    "soxr",
    "torch",
    "tqdm",
    "transformers",
)


def main() -> None:
    """The command. Exit code 1 where a package of the extra is missing."""
    missing = [name for name in MODULES if find_spec(name) is None]
    if missing:
        sys.exit(
            f"blemore-baselines needs packages that are not installed ({', '.join(missing)}): run"
            " pip install '.[baselines]' in the kit's folder"
        )
    from blemore_baselines.cli import main as start

    start(prog_name="blemore-baselines")


if __name__ == "__main__":
    main()
