"""Fixtures of the tests that need real processes: a Redis server, database files, workers from the
installed wheel."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.rabbitmq_server import RabbitServer
from support.redis_server import RedisServer
from support.site import Site

APPS = Path(__file__).resolve().parent / "apps"


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for the whole run; tests take a database each, see `redis_url`."""
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """An empty database."""
    redis_server.command("FLUSHALL")
    return redis_server.url(1)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server for one test alone, which may stop it, and which survives that with its data."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder, "--appendonly", "yes", "--appendfsync", "always").start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """One RabbitMQ for the whole run; tests take a virtual host each, see `rabbit_site`."""
    server = RabbitServer(tmp_path_factory.mktemp("rabbitmq")).start()
    yield server
    server.stop()


@pytest.fixture
def rabbit_site(rabbitmq_server: RabbitServer, redis_url: str, tmp_path: Path) -> Iterator[Site]:
    """An app on RabbitMQ whose results are in Redis."""
    with Site(tmp_path, rabbitmq_server.new_url(), redis_url) as made:
        yield made


@pytest.fixture(params=["sqlite", "redis"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """An app, its broker and result store, and a folder; over every broker that several processes
    can share."""
    if request.param == "redis":
        url = results = request.getfixturevalue("redis_url")
    else:
        url = results = f"sqlite:///{tmp_path / 'queue.db'}"
    with Site(tmp_path, url, results) as made:
        yield made


@pytest.fixture
def sqlite_site(tmp_path: Path) -> Iterator[Site]:
    """For what does not depend on the broker."""
    url = f"sqlite:///{tmp_path / 'queue.db'}"
    with Site(tmp_path, url, url) as made:
        yield made


@pytest.fixture
def redis_site(redis_url: str, tmp_path: Path) -> Iterator[Site]:
    """For what only Redis does."""
    with Site(tmp_path, redis_url, redis_url) as made:
        yield made


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the settings of whoever runs the tests out of them, and makes the test apps importable."""
    for name in [name for name in os.environ if name.startswith(("CELERY_", "TASKCORE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.syspath_prepend(str(APPS))
    for name in ("sample",):
        sys.modules.pop(name, None)
