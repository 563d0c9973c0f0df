"""What Celery's guide does with routing does the same with only the imports changed: each program is
run with both packages, and where its tasks go is compared."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest

pytest.importorskip("kombu")

AUTOMATIC = """
app = Celery(broker="memory://")
app.conf.task_routes = {"feed.tasks.import_feed": {"queue": "feeds"}}
"""

GLOB = """
app = Celery(broker="memory://")
app.conf.task_routes = {"feed.tasks.*": {"queue": "feeds"}}
"""

ORDERED = """
import re
app = Celery(broker="memory://")
app.conf.task_routes = ([
    ("feed.tasks.*", {"queue": "feeds"}),
    ("web.tasks.*", {"queue": "web"}),
    (re.compile(r"(video|image)\\.tasks\\..*"), {"queue": "media"}),
],)
"""

DEFAULT = """
app = Celery(broker="memory://")
app.conf.task_default_queue = "default"
"""

MANUAL = """
app = Celery(broker="memory://")
app.conf.task_default_queue = "default"
app.conf.task_queues = (
    Queue("default", routing_key="task.#"),
    Queue("feed_tasks", routing_key="feed.#"),
)
app.conf.task_default_exchange = "tasks"
app.conf.task_default_exchange_type = "topic"
app.conf.task_default_routing_key = "task.default"
app.conf.task_routes = {
    "feed.tasks.import_feed": {"queue": "feed_tasks", "routing_key": "feed.import"},
}
"""

MIXED = """
app = Celery(broker="memory://")
app.conf.task_queues = (
    Queue("feed_tasks", routing_key="feed.#"),
    Queue("regular_tasks", routing_key="task.#"),
    Queue("image_tasks", exchange=Exchange("mediatasks", type="direct"), routing_key="image.compress"),
)
app.conf.task_routes = {"image.tasks.compress": {"queue": "image_tasks"}}
"""

PRIORITIES = """
app = Celery(broker="memory://")
app.conf.task_queues = [
    Queue("tasks", Exchange("tasks"), routing_key="tasks", queue_arguments={"x-max-priority": 10}),
]
app.conf.task_queue_max_priority = 10
app.conf.task_default_priority = 5
app.conf.task_default_queue = "tasks"
"""

SEVERAL = """
app = Celery(broker="memory://")
default_exchange = Exchange("default", type="direct")
media_exchange = Exchange("media", type="direct")
app.conf.task_queues = (
    Queue("default", default_exchange, routing_key="default"),
    Queue("videos", media_exchange, routing_key="media.video"),
    Queue("images", media_exchange, routing_key="media.image"),
)
app.conf.task_default_queue = "default"
app.conf.task_default_exchange = "default"
app.conf.task_default_routing_key = "default"
app.conf.task_routes = {"video.tasks.compress": {"exchange": "media", "routing_key": "media.video", "queue": "videos"}}
"""

BINDINGS = """
app = Celery(broker="memory://")
media_exchange = Exchange("media", type="direct")
app.conf.task_queues = (
    Queue("media", [binding(media_exchange, routing_key="media.video"), binding(media_exchange, routing_key="media.image")]),
)
app.conf.task_routes = {"video.tasks.*": {"queue": "media"}}
"""

ROUTER = """
app = Celery(broker="memory://")
def route_task(name, args, kwargs, options, task=None, **kw):
    if name == "video.tasks.compress":
        return {"exchange": "video", "exchange_type": "topic", "routing_key": "video.compress"}
app.conf.task_routes = (route_task,)
"""

ROUTERS = """
app = Celery(broker="memory://")
def route_for_task(task, args=None, kwargs=None, options=None, **kw):
    if "task" in kw or task.startswith("web."):
        return {"queue": "web", "routing_key": "web.any"} if task.startswith("web.") else None
app.conf.task_queues = (Queue("web", Exchange("web", type="topic"), routing_key="web.#"), Queue("celery"))
app.conf.task_routes = [
    lambda name, args, kwargs, options, task=None, **kw: "feeds" if name.startswith("feed.") else None,
    {"web.tasks.run": {"queue": "web", "routing_key": "web.run"}},
]
"""

BROADCAST = """
app = Celery(broker="memory://")
app.conf.task_queues = (Broadcast("broadcast_tasks"),)
app.conf.task_routes = {
    "tasks.reload_cache": {"queue": "broadcast_tasks", "exchange": "broadcast_tasks"}
}
"""

BROADCAST_BY_BEAT = """
from PACKAGE.schedules import crontab
app = Celery(broker="memory://")
app.conf.task_queues = (Broadcast("broadcast_tasks"),)
app.conf.beat_schedule = {
    "test-task": {
        "task": "tasks.reload_cache",
        "schedule": crontab(minute=0, hour="*/3"),
        "options": {"exchange": "broadcast_tasks"},
    },
}
"""

PROGRAMS = [
    AUTOMATIC,
    GLOB,
    ORDERED,
    DEFAULT,
    MANUAL,
    MIXED,
    PRIORITIES,
    SEVERAL,
    BINDINGS,
    ROUTER,
    ROUTERS,
    BROADCAST,
    BROADCAST_BY_BEAT,
]
IMPORTS = {
    "celery": "from celery import Celery\nfrom kombu import Exchange, Queue, binding\nfrom kombu.common import Broadcast\n",
    "taskcore": "from taskcore import Celery\nfrom taskcore.entity import Broadcast, Exchange, Queue, binding\n",
}
TASKS = (
    "feed.tasks.import_feed",
    "web.tasks.run",
    "image.tasks.compress",
    "video.tasks.compress",
    "tasks.reload_cache",
    "other",
)
CALLS: list[dict[str, Any]] = [
    {},
    {"queue": "feed_tasks", "routing_key": "feed.import"},
    {"exchange": "broadcast_tasks"},
    {"routing_key": "task.other"},
]


def run(program: str, package: str) -> Any:
    space: dict[str, Any] = {"__name__": "proj"}
    exec(IMPORTS[package] + program.replace("PACKAGE", package), space)
    app = space["app"]
    if package == "taskcore":
        app.conf.task_protocol = 2
    return app


def stock_way(app: Any, task: str, options: dict[str, Any]) -> tuple[str, str]:
    producer = MagicMock()
    routed = app.amqp.router.route(dict(options), task)
    app.amqp.send_task_message(producer, task, app.amqp.as_task_v2("id", task), **routed)
    sent = producer.publish.call_args.kwargs
    return sent["exchange"], sent["routing_key"] or ""


def own_way(app: Any, task: str, options: dict[str, Any]) -> tuple[str, str]:
    router = app.amqp.router
    way = router.destination(router.route(dict(options), task), app.conf.task_default_queue)
    return way.exchange, way.routing_key


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("options", CALLS)
def test_a_program_of_the_guide_sends_its_tasks_the_same_way(
    program: str, options: dict[str, Any]
) -> None:
    stock, own = run(program, "celery"), run(program, "taskcore")
    compared = {}
    for task in TASKS:
        expected = stock_way(stock, task, options)
        if expected != ("", ""):  # which is nowhere
            compared[task] = (own_way(own, task, options), expected)
    assert compared and all(found == expected for found, expected in compared.values()), compared

    def queues(app: Any) -> list[Any]:
        return sorted(
            (queue.exchange.name, queue.exchange.type, queue.routing_key, queue.alias)
            for queue in app.amqp.queues.values()
        )

    assert queues(own) == queues(stock)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_of_the_guide_publishes(program: str) -> None:
    """Down to a broker, whose answer says whether a queue has the message."""
    from taskcore.exceptions import UnroutableError

    app = run(program, "taskcore")
    app.conf.broker_url = f"memory://chapter-{PROGRAMS.index(program)}"
    lost = []
    for task in TASKS:
        try:
            app.send_task(task)
        except UnroutableError:
            lost.append(task)
    # Nothing is bound to these: a fanout without a worker, and an exchange that has no queue.
    expected = {BROADCAST: ["tasks.reload_cache"], ROUTER: ["video.tasks.compress"]}
    assert lost == expected.get(program, [])
    held = sum(app.publisher.stats(name)["depth"] for name in app.publisher.queues())
    assert held >= len(TASKS) - len(lost)
