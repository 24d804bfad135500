"""The examples in the docstrings are right."""

import doctest
import importlib
import pkgutil

import pytest

import blemore_baselines
import blemore_codabench

NAMES = [
    module.name
    for package in (blemore_baselines, blemore_codabench)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if "slurm" not in module.name
]


@pytest.mark.parametrize("name", NAMES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    assert sum(bool(test.examples) for name in NAMES for test in finder.find(importlib.import_module(name))) >= 4
