"""The root of the tests, so that they import the checkout, each process on one thread."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # their models are too small for two, and the processes share the cores

collect_ignore_glob = ["tests/*/conftest.py"]  # they hold no doctests, and two of them would share a module's name


def pytest_collection_finish():
    """What is imported by now stays: to look through it in every collection of garbage takes a second each."""
    gc.collect()
    gc.freeze()
