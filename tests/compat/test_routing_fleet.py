"""A fleet of both kinds on one Redis with exchanges: whoever publishes, the message is in the queues
whose bindings fit, and whoever consumes those runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest

from support.process import Process
from support.wait import until
from taskcore.exceptions import UnroutableError

PACKAGES = ("celery", "taskcore")

PUBLISH = """
import json, sys
from routed import app
name, values, options = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
if name == "routed.reload" and hasattr(app.amqp.queues["everywhere"].exchange, "maybe_bind"):
    # A stock client takes an exchange that it has not declared for a direct one.
    options["declare"] = [app.amqp.queues["everywhere"].exchange]
for value in values:
    app.tasks[name].apply_async((value,), **options)
"""


def environment(site: Any, package: str) -> dict[str, str]:
    return {**site.env, "ROUTED_PACKAGE": package, "ROUTED_URL": site.broker}


def start(site: Any, package: str, queues: str) -> Process:
    """A worker of a package on some of the queues."""
    command = [sys.executable, "-m", package, "-A", "routed", "worker", "-l", "INFO", "-P", "solo"]
    if package == "celery":
        command += ["--without-mingle", "--without-gossip"]
    command += ["-Q", queues]
    worker = Process(command, cwd=site.folder, env=environment(site, package))
    site.processes.append(worker)
    worker.wait_for(r"\bready\b")
    return worker


def publish(site: Any, package: str, name: str, *values: str, **options: str) -> None:
    """Calls of a task, by a client of its own: a stock client remembers what it has declared."""
    words = [f"routed.{name}", json.dumps(values or [package]), json.dumps(options)]
    command = [sys.executable, "-c", PUBLISH, *words]
    env = os.environ | environment(site, package)
    done = subprocess.run(command, env=env, cwd=site.folder, capture_output=True, text=True)
    if "UnroutableError" in done.stderr:
        raise UnroutableError(done.stderr)
    assert done.returncode == 0, done.stderr


def test_topics_both_ways(mixed: Any) -> None:
    start(mixed, "taskcore", "images,default")
    start(mixed, "celery", "videos,archive")
    expected = []
    for package in PACKAGES:
        for name in ("image", "video", "plain"):
            publish(mixed, package, name)
        publish(mixed, package, "image", f"{package}-old", routing_key="media.x.old")
        expected += [
            f"taskcore image {package} media media.image.new",
            f"celery video {package} media media.video.new",
            f"taskcore plain {package}  default",
            f"celery image {package}-old media media.x.old",
        ]
    until(lambda: sorted(mixed.written()) == sorted(expected), f"exactly {sorted(expected)}")


def test_queues_have_their_messages_before_any_worker_has_come(mixed: Any) -> None:
    for package in PACKAGES:
        publish(mixed, package, "image")
    start(mixed, "taskcore", "images")
    assert sorted(line.split()[2] for line in mixed.wait_written(2)) == ["celery", "taskcore"]


def test_what_is_published_to_all_runs_on_each_worker(mixed: Any) -> None:
    with pytest.raises(UnroutableError, match="exchange `everywhere`"):
        publish(mixed, "taskcore", "reload", "early")
    start(mixed, "celery", "everywhere")

    def stock_worker_listens() -> bool:
        # It says that it is ready before it has subscribed.
        with suppress(UnroutableError):
            publish(mixed, "taskcore", "reload", "probe")
        return bool(mixed.written())

    until(stock_worker_listens, "the stock worker to hear what is published to all")
    for _ in range(2):
        start(mixed, "taskcore", "everywhere")

    def ran(value: str) -> list[str]:
        lines = [line.split() for line in mixed.written()]
        return sorted(line[0] for line in lines if line[2] == value)

    for package in PACKAGES:
        publish(mixed, package, "reload")
        until(
            lambda package=package: ran(package) == ["celery", "taskcore", "taskcore"],
            f"each worker to run what {package} sent, now {ran(package)}",
        )


def test_a_call_may_name_exchange_and_routing_key(mixed: Any) -> None:
    start(mixed, "celery", "images")
    publish(mixed, "taskcore", "image", "direct", exchange="media", routing_key="media.image.a")
    assert mixed.wait_written(1) == ["celery image direct media media.image.a"]
