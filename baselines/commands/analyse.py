"""The group `analyse`: a command a study."""

from __future__ import annotations

import click


@click.group()
def analyse() -> None:
    """Run one of the experiments that the paper leaves open.

    Example: blemore-baselines analyse thresholds --help
    """
