"""Gives each test its own cache folder."""

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The empty cache folder."""
    monkeypatch.setattr("mmbert.io.download.cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"
