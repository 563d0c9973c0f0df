"""What a user of RabbitMQ gets, through the command line."""

import json
import os
import signal
import time
from typing import Any

import pytest

from support.rabbitmq_server import RabbitServer
from support.site import Site
from support.wait import until
from taskcore.exceptions import ImproperlyConfigured

WAIT = 60


def test_values_come_back(rabbit_site: Site) -> None:
    rabbit_site.worker()
    assert rabbit_site.task("add").delay(2, 3).get(timeout=WAIT) == 5
    results = rabbit_site.task("add").apply_many([(n, n) for n in range(1000)])
    assert [result.get(timeout=WAIT) for result in results] == [2 * n for n in range(1000)]


def test_a_task_waits_in_the_server_until_it_is_due(rabbit_site: Site) -> None:
    begun = time.time()
    result = rabbit_site.task("now").apply_async(countdown=4)
    rabbit_site.worker()
    assert result.get(timeout=WAIT) >= begun + 4


def test_retries_and_chains(rabbit_site: Site) -> None:
    rabbit_site.worker()
    add = rabbit_site.task("add")
    chain: Any = add.s(1, 1) | add.s(2) | add.s(3)
    assert chain.delay().get(timeout=WAIT) == 7


def test_an_unknown_task_is_parked_listed_and_replayed(rabbit_site: Site) -> None:
    rabbit_site.worker()
    rabbit_site.app.send_task("sample.nobody")
    found: list[dict[str, Any]] = []

    def parked() -> bool:
        found[:] = json.loads(rabbit_site.cli("dead", "list", "--json", "taskcore"))
        return bool(found)

    until(parked, "the dead letter")
    assert "sample.nobody" in found[0]["reason"]


def test_a_killed_workers_tasks_are_run_by_the_others(rabbit_site: Site) -> None:
    victim = rabbit_site.worker("-c", "2", "-l", "warning")
    rabbit_site.worker("-c", "2", "-l", "warning")
    rabbit_site.task("work_late").apply_many([(str(n),) for n in range(2000)])
    rabbit_site.wait_written(100)
    os.killpg(victim.pid, signal.SIGKILL)
    until(lambda: len(set(rabbit_site.written())) == 2000, "every task to have run", timeout=WAIT)


def test_a_worker_reconnects_when_its_connection_is_closed(
    rabbit_site: Site, rabbitmq_server: RabbitServer
) -> None:
    worker = rabbit_site.worker()
    assert rabbit_site.task("add").delay(1).get(timeout=WAIT) == 2
    host = rabbit_site.broker.rpartition("/")[2]
    rabbitmq_server.ctl("close_all_connections", "--vhost", host, "maintenance")
    worker.wait_for("maintenance")
    worker.wait_for("the broker is back")
    assert rabbit_site.task("add").delay(2).get(timeout=WAIT) == 3
    assert worker.stop() == 0


def test_refused_credentials_are_told_at_once(rabbit_site: Site) -> None:
    app = rabbit_site.client(task_publish_retry=True)
    app.conf.broker_url = rabbit_site.broker.replace("guest:guest", "guest:wrong")
    with pytest.raises(ImproperlyConfigured, match="password"):
        app.send_task("sample.add", (1,))
