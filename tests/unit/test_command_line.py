"""Settings on a command line: their names and values; the queues that are left."""

from typing import Any

import pytest

from taskcore import Taskcore
from taskcore.config.command_line import parse
from taskcore.exceptions import ImproperlyConfigured
from taskcore.worker.boot import WorkerOptions, queues_of


@pytest.mark.parametrize(
    ("word", "name", "value"),
    [
        ("broker_url=redis://localhost/1", "broker_url", "redis://localhost/1"),
        ("broker.url=redis://a:b=c@localhost", "broker_url", "redis://a:b=c@localhost"),
        ("WORKER_CONCURRENCY=4", "worker_concurrency", 4),
        (".concurrency=4", "worker_concurrency", 4),
        ("_prefetch_multiplier=2", "worker_prefetch_multiplier", 2),
        ("task_acks_late=yes", "task_acks_late", True),
        ("task_acks_late=False", "task_acks_late", False),
        ("task_time_limit=2.5", "task_time_limit", 2.5),
        ("task_time_limit=null", "task_time_limit", None),
        ("task_default_queue=(str)10", "task_default_queue", "10"),
        ("worker_concurrency=(int)3", "worker_concurrency", 3),
        ("imports=a,b", "imports", ["a", "b"]),
        ('imports=["a"]', "imports", ["a"]),
        ('task_routes={"a": {"queue": "b"}}', "task_routes", {"a": {"queue": "b"}}),
        ("task_default_rate_limit=10/m", "task_default_rate_limit", "10/m"),
        ("worker_pool=solo", "worker_pool", "solo"),
        ("timezone=Europe/Vienna", "timezone", "Europe/Vienna"),
        ("celeryd_concurrency=4", "celeryd_concurrency", 4),
    ],
)
def test_a_setting(word: str, name: str, value: Any) -> None:
    assert parse([word], "worker") == {name: value}
    Taskcore("proj", set_as_current=False, **{name.upper() if "celeryd" in name else name: value})


@pytest.mark.parametrize(
    "word", ["concurrency", "=4", ".=4", "task_acks_late=perhaps", "worker_concurrency=(int)few"]
)
def test_what_is_no_setting(word: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"expected|invalid literal"):
        parse([word], "worker")


@pytest.mark.parametrize(
    ("queues", "excluded", "left"),
    [
        (None, None, ["one", "two"]),
        (None, ["one"], ["two"]),
        (["two", "three"], ["two"], ["three"]),
        (["two"], ["elsewhere"], ["two"]),
    ],
)
def test_queues_that_are_left(
    queues: list[str] | None, excluded: list[str] | None, left: list[str], caplog: Any
) -> None:
    app = Taskcore("proj", set_as_current=False, task_queues=["one", "two"])
    assert queues_of(app, WorkerOptions(queues=queues, exclude_queues=excluded)) == left
    assert ("`elsewhere` are excluded" in caplog.text) is (excluded == ["elsewhere"])


def test_no_queue_is_left() -> None:
    app = Taskcore("proj", set_as_current=False, task_queues=["one"])
    with pytest.raises(ImproperlyConfigured, match="no queues"):
        queues_of(app, WorkerOptions(exclude_queues=["one"]))
