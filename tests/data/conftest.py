"""A cache folder of its own for each test."""

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The cache folder, empty."""
    monkeypatch.setattr("mmbert.io.download.cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"
