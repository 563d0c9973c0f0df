"""Both kinds of clients and workers on one RabbitMQ, on classic and on quorum queues; results are in
Redis."""

import importlib
import json
import sys
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from support.process import Process
from support.site import Site

WAIT = 60


class Rabbit(Site):
    """A site whose queue is Celery's, of one type."""

    kind = "classic"

    @property
    def env(self) -> dict[str, str]:
        conf: dict[str, Any] = {"result_backend": self.results}
        if self.kind == "quorum":
            conf |= {"task_default_queue_type": "quorum", "worker_detect_quorum_queues": True}
        return super().env | {"STOCK_URL": self.broker, "STOCK_CONF": json.dumps(conf)}

    def client(self, **conf: Any) -> Any:
        return super().client(task_protocol=2, **conf)

    def celery_worker(self) -> Process:
        """A stock Celery worker."""
        command = [sys.executable, "-m", "celery", "-A", "stock", "worker", "-l", "INFO", "-c", "2"]
        worker = Process(command, cwd=self.folder, env=self.env | {"TMPDIR": str(self.folder)})
        self.processes.append(worker)
        worker.wait_for(r"\bready\.", timeout=WAIT)
        return worker


@pytest.fixture(params=["classic", "quorum"])
def rabbit(request: pytest.FixtureRequest, rabbit_site: Site) -> Iterator[Rabbit]:
    """One RabbitMQ, two kinds of clients and workers."""
    with Rabbit(rabbit_site.folder, rabbit_site.broker, rabbit_site.results) as made:
        made.kind = request.param
        yield made


@pytest.fixture
def stock(rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A stock Celery client in this process."""
    for name, value in rabbit.env.items():
        if name != "PYTHONPATH":
            monkeypatch.setenv(name, value)
    sys.modules.pop("stock", None)
    module = importlib.import_module("stock")
    yield module
    module.app.close()
    sys.modules.pop("stock", None)


def test_a_stock_worker_runs_ours(rabbit: Rabbit) -> None:
    rabbit.celery_worker()
    assert rabbit.task("add").delay(2, 3).get(timeout=WAIT) == 5
    begun = time.time()
    assert rabbit.task("now").apply_async(countdown=3).get(timeout=WAIT) >= begun + 3


def test_ours_runs_a_stock_clients(rabbit: Rabbit, stock: ModuleType) -> None:
    begun = time.time()
    # Before a worker is there: the client declares the queue, of its type.
    later = stock.now.apply_async(countdown=4)
    first = stock.add.delay(2, 3)
    rabbit.worker("-Q", "celery")
    assert first.get(timeout=WAIT) == 5
    assert later.get(timeout=WAIT) >= begun + 4
    results = [stock.add.delay(n, n) for n in range(100)]
    assert [result.get(timeout=WAIT) for result in results] == [2 * n for n in range(100)]


def test_both_kinds_of_workers_share_a_queue(rabbit: Rabbit, stock: ModuleType) -> None:
    rabbit.celery_worker()
    rabbit.worker("-Q", "celery")
    results = [stock.add.delay(n, n) for n in range(200)]
    results += rabbit.task("add").apply_many([(n, n) for n in range(200)])
    values = [result.get(timeout=WAIT) for result in results]
    assert values == [2 * n for n in range(200)] * 2
