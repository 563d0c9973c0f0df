"""Routing compared with stock Celery: whatever queues, routes and options of a call there are, a
message goes to the same exchange with the same routing key, and belongs to the same queue."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskcore import Taskcore, entity

celery = pytest.importorskip("celery")
kombu = pytest.importorskip("kombu")

NAMES = ("celery", "feeds", "images", "news")
KEYS = ("celery", "feeds", "feed.import", "a.b")
TASKS = ("proj.add", "proj.feeds.load", "web.page")
TYPES = ("direct", "topic", "fanout")

names, keys, types = st.sampled_from(NAMES), st.sampled_from(KEYS), st.sampled_from(TYPES)
exchanges = st.fixed_dictionaries({"name": st.sampled_from(("", *NAMES)), "type": types})


@st.composite
def queues(draw: Any) -> list[dict[str, Any]]:
    """What `task_queues` says of each queue, one type per exchange."""
    kinds = {name: draw(types) for name in NAMES}
    found = []
    for name in draw(st.lists(names, unique=True, max_size=3)):
        exchange = draw(st.sampled_from((None, *NAMES)))
        kind = None if exchange is None else kinds[exchange]
        key = draw(st.one_of(st.none(), keys))
        found.append({"name": name, "exchange": exchange, "type": kind, "key": key})
    return found


destinations = st.fixed_dictionaries(
    {},
    optional={"queue": names, "exchange": names, "routing_key": keys},
)
routes = st.one_of(
    st.none(),
    st.dictionaries(
        st.sampled_from((*TASKS, "proj.*", "*", "*.load")),
        st.one_of(names, destinations.filter(bool)),
        max_size=3,
    ),
)
defaults = st.fixed_dictionaries(
    {},
    optional={
        "task_default_queue": names,
        "task_default_exchange": names,
        "task_default_exchange_type": types,
        "task_default_routing_key": keys,
        "task_create_missing_queue_exchange_type": types,
        "task_queue_max_priority": st.integers(1, 10),
    },
)


def made(module: Any, queue: dict[str, Any]) -> Any:
    exchange = queue["exchange"] and module.Exchange(queue["exchange"], type=queue["type"])
    return module.Queue(queue["name"], exchange, queue["key"] or "")


def stock_destination(app: Any, name: str, options: dict[str, Any]) -> Any:
    """Exchange, routing key and queue, as stock Celery hands them to kombu."""
    producer = MagicMock()
    routed = app.amqp.router.route(dict(options), name)
    message = app.amqp.as_task_v2("id", name, (), {})
    queue = routed.get("queue")
    app.amqp.send_task_message(producer, name, message, **routed)
    published = producer.publish.call_args.kwargs
    declared = [one.name for one in published["declare"] or ()]
    return (published["exchange"], published["routing_key"] or "", declared), getattr(
        queue, "name", None
    )


def own_destination(app: Any, name: str, options: dict[str, Any]) -> Any:
    router = app.amqp.router
    routed = router.route(dict(options), name)
    way = router.destination(routed, app.conf.task_default_queue)
    declared = [way.queue.name] if way.queue is not None and not way.queue.is_broadcast else []
    queue = routed.get("queue")
    return (way.exchange, way.routing_key, declared), getattr(queue, "name", None)


@given(queues(), routes, defaults, st.sampled_from(TASKS), destinations)
@settings(max_examples=150, deadline=None)
def test_a_call_goes_where_stock_celery_sends_it(
    queues: list[dict[str, Any]],
    routes: Any,
    defaults: dict[str, Any],
    task: str,
    options: dict[str, Any],
) -> None:
    conf = {"task_routes": routes, **defaults}
    stock = celery.Celery("stock", broker="memory://", set_as_current=False)
    stock.conf.update(task_queues=[made(kombu, queue) for queue in queues] or None, **conf)
    own = Taskcore("own", broker="memory://", set_as_current=False, task_protocol=2)
    own.conf.update(task_queues=[made(entity, queue) for queue in queues] or None, **conf)
    expected, queue = stock_destination(stock, task, options)
    if expected[:2] == ("", "") or expected[1] is None:
        return  # stock publishes it to nowhere
    assert own_destination(own, task, options) == (expected, queue)
    kombus = Taskcore("kombu", broker="memory://", set_as_current=False, task_protocol=2)
    kombus.conf.update(task_queues=[made(kombu, queue) for queue in queues] or None, **conf)
    assert own_destination(kombus, task, options) == (expected, queue)
    assert {
        name: (one.exchange.name, one.exchange.type, one.routing_key)
        for name, one in own.amqp.queues.items()
    } == {
        name: (one.exchange.name, one.exchange.type, one.routing_key)
        for name, one in stock.amqp.queues.items()
    }


@given(st.lists(names, unique=True, max_size=3), st.lists(names, unique=True, max_size=2), queues())
@settings(max_examples=100, deadline=None)
def test_what_is_selected_and_deselected_is_what_stock_celery_consumes(
    selected: list[str], deselected: list[str], queues: list[dict[str, Any]]
) -> None:
    found = []
    for make, module in ((celery.Celery, kombu), (Taskcore, entity)):
        app = make("app", broker="memory://", set_as_current=False)
        app.conf.update(task_default_queue="celery", task_protocol=2)
        app.conf.task_queues = [made(module, queue) for queue in queues] or None
        app.amqp.queues.select(selected)
        app.amqp.queues.deselect(deselected)
        app.amqp.queues.select_add(
            "added", exchange="news", exchange_type="topic", routing_key="n.#"
        )
        consumed = app.amqp.queues.consume_from
        keys = [queue.routing_key for queue in consumed.values()]
        to = [(queue.exchange.name, queue.exchange.type) for queue in consumed.values()]
        found.append((list(consumed), keys, to))
    assert found[0] == found[1]
