"""A private Redis and an app on it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import machine


@pytest.fixture(scope="session")
def server() -> Iterator[machine.Redis]:
    with machine.redis() as running:
        yield running


@pytest.fixture(params=["redis", "sqlite"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'bench.db'}"
    redis: machine.Redis = request.getfixturevalue("server")
    redis.clear()
    return redis.url
