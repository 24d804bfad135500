"""Recipes: importing them loads nothing heavy, and which epoch corresponds to the final model."""

import subprocess
import sys

import pytest

from blemore_baselines.models.recipes import Recipe


def test_importing_recipes_loads_nothing_heavy():
    code = "import sys, blemore_baselines.models.recipes\nprint(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    modules = set(run.stdout.split())
    assert "blemore_baselines" in modules and not modules & {"torch", "numpy", "pandas", "scipy", "cv2", "tqdm"}


@pytest.mark.parametrize("epochs, final_epochs, epoch", [(200, 100, 100), (9, 9, 9), (4, 7, 4)])
def test_the_epoch_that_corresponds_to_the_final_model(epochs, final_epochs, epoch):
    assert Recipe(1e-2, 1e-3, 8, epochs, final_epochs).oof_epoch == epoch
