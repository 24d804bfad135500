"""What all tests share: the real data, if it is available, and how thorough to be.

`pytest --long` runs fuzzing and property cases at full size; without it, a small, seeded share of them.
"""

import os
from functools import partialmethod
from inspect import signature
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# No deadline: a machine that is busy with something else must not fail a test.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=60, derandomize=True, **_COMMON)
settings.register_profile("long", max_examples=3000, **_COMMON)


# click 8.1, the last for Python 3.9, mixes stderr into stdout by default; later ones keep them apart.
if "mix_stderr" in signature(CliRunner).parameters:
    CliRunner.__init__ = partialmethod(CliRunner.__init__, mix_stderr=False)


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run fuzzing, kills and property cases at full size")


def pytest_configure(config):
    settings.load_profile("long" if config.getoption("--long") else "default")
    config.addinivalue_line("markers", "long: takes long and repeats what quicker tests show: with --long alone")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes long: with --long"))


@pytest.fixture(scope="session")
def long(request) -> bool:
    """Whether to run at full size."""
    return request.config.getoption("--long")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real data, which is not part of the project."""
    folder = Path(os.environ.get("BLEMORE_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; name its folder with BLEMORE_SHARED")
    return folder.resolve()


@pytest.fixture(scope="session")
def wheels(request, tmp_path_factory):
    """A folder with the wheels that travel with the scoring program; fetched once and kept in pytest's cache, if it has
    one.
    """
    from blemore.io import write_atomic
    from blemore_codabench import vendor
    from blemore_codabench.bundle import BundleError

    cache = getattr(request.config, "cache", None)  # none with -p no:cacheprovider
    folder = cache.mkdir("wheels") if cache else tmp_path_factory.mktemp("wheels")
    try:
        vendor.vendored(folder)
    except BundleError:
        download = tmp_path_factory.mktemp("download")  # another process may be fetching them, too
        try:
            vendor.fetch(download)
            for path in download.iterdir():
                write_atomic(folder / path.name, path.read_bytes())
        except BundleError as error:
            pytest.skip(f"no wheels: {error}")
    return folder
