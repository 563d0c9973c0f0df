"""Where messages go: queues, routes and the options of tasks and calls, down to the core's fields."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskcore.entity import Broadcast, Exchange, Queue, binding, to_queue, worker_direct
from taskcore.exceptions import ImproperlyConfigured, NotSupportedError, QueueNotFound
from taskcore.publishing.routes import declaration, is_plain
from taskcore.worker.boot import WorkerOptions, configure

WAY = ("queue", "exchange", "routing_key")


@pytest.fixture
def media(app: Any) -> Any:
    """An app with a topic exchange and two queues bound to it."""
    to = Exchange("media", type="topic")
    app.conf.task_default_queue = "default"
    app.conf.task_queues = [
        Queue("default", Exchange("default"), "default"),
        Queue("images", to, "media.image.#"),
        Queue("videos", to, "media.video.#"),
        Broadcast("reload", queue="own"),
    ]
    return app


def sent(app: Any, call: Any) -> dict[str, Any]:
    """The fields of the one message that a call publishes, over those of its template."""
    del app.publisher.sent[:]
    call()
    [(template, _, _, fields)] = app.publisher.sent
    return {**template.fields, **(fields or {})}


def way(app: Any, call: Any) -> tuple[Any, ...]:
    """Where that message goes."""
    fields = sent(app, call)
    return tuple(fields.get(key) or "" for key in WAY)


def test_without_routing_a_message_names_its_queue_and_nothing_else(app: Any) -> None:
    task = app.task(lambda: None, name="t")
    task.delay()
    fields = sent(app, task.delay)
    assert fields["queue"] == "taskcore" and not {"exchange", "routing_key", "route"} & set(fields)
    other = sent(app, lambda: task.apply_async(queue="other"))
    assert (other["queue"], other["exchange"], other["route"]) == ("other", "", "")


def test_what_a_call_says_wins_over_the_task_and_that_over_the_route(media: Any) -> None:
    media.conf.task_routes = {"t*": {"queue": "videos", "routing_key": "media.video.a"}}
    plain = media.task(lambda: None, name="t")
    own = media.task(lambda: None, name="t.own", queue="images", routing_key="media.image.b")
    assert way(media, plain.delay) == ("videos", "media", "media.video.a")
    assert way(media, own.delay) == ("images", "media", "media.image.b")
    assert way(media, lambda: own.apply_async(routing_key="c")) == ("images", "media", "c")
    assert way(media, lambda: own.apply_async(queue="default")) == ("default", "", "default")
    explicit = way(media, lambda: plain.apply_async(exchange="media", routing_key="x"))
    assert explicit == ("videos", "media", "x")
    assert way(media, lambda: media.send_task("t.far")) == ("videos", "media", "media.video.a")


def test_the_core_is_told_of_all_queues_of_an_exchange_but_those_of_single_workers(
    media: Any,
) -> None:
    task = media.task(lambda: None, name="t", queue="images")
    route = json.loads(sent(media, task.delay)["route"])
    assert route["type"] == "topic"
    assert [queue["name"] for queue in route["declares"]] == ["images", "videos"]
    assert route["declares"][0]["bindings"][0]["routing_key"] == "media.image.#"
    everywhere = media.task(lambda: None, name="all", queue="reload")
    fields = sent(media, everywhere.delay)
    assert json.loads(fields["route"]) == {"type": "fanout", "declares": []}
    assert fields["exchange"] == "reload"


def test_functions_are_asked_at_each_call(media: Any) -> None:
    asked = []

    def by_first_argument(name: str, args: Any, kwargs: Any, options: Any, task: Any = None) -> Any:
        asked.append((name, tuple(args), kwargs, task and task.name))
        if args and args[0] == "image":
            return {"queue": "images", "routing_key": "media.image.new", "priority": 3}
        return None

    task = media.task(lambda kind: None, name="t")
    assert way(media, lambda: task.delay("image")) == ("default", "", "")
    media.conf.task_routes = [by_first_argument, {"t": "videos"}]
    fields = sent(media, lambda: task.delay("image"))
    assert tuple(fields[key] for key in WAY) == ("images", "media", "media.image.new")
    assert fields["priority"] == 3
    assert way(media, lambda: task.delay("other"))[0] == "videos"
    assert way(media, lambda: task.apply_async(("image",), queue="default"))[0] == "default"
    assert asked[0] == ("t", ("image",), {}, "t")
    task.apply_many([("image",), ("b",)])
    queues = [message[3]["queue"] for message in media.publisher.sent[-2:]]
    assert queues == ["images", "videos"]


def test_a_router_may_be_named(app: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    source = """
        def route(name, args, kwargs, options, task=None, **kw):
            return "named"
        class Old:
            def route_for_task(self, task, args=None, kwargs=None):
                return {"queue": "old"}
    """
    import textwrap

    (tmp_path / "routers_of_test.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(str(tmp_path))
    task = app.task(lambda: None, name="t")
    for name, queue in (("route", "named"), ("Old", "old")):
        app.conf.task_routes = (f"routers_of_test.{name}",)
        assert way(app, task.delay)[0] == queue
    app.conf.task_routes = "routers_of_test.none"
    with pytest.raises(ImproperlyConfigured, match="cannot be imported"):
        task.delay()


def test_a_route_may_say_other_options_of_the_call(app: Any) -> None:
    app.conf.task_routes = {"t": {"queue": "q", "expires": 60, "priority": 4}}
    task = app.task(lambda: None, name="t")
    fields = sent(app, task.delay)
    assert fields["queue"] == "q" and fields["priority"] == 4 and fields["expires"] > 60
    assert sent(app, lambda: task.apply_async(priority=1))["priority"] == 1


def test_queues_that_are_not_defined_are_made_unless_that_is_off(media: Any) -> None:
    task = media.task(lambda: None, name="t")
    assert way(media, lambda: task.apply_async(queue="new"))[0] == "new"
    media.conf.task_create_missing_queues = False
    with pytest.raises(QueueNotFound, match="did you mean `images`"):
        task.apply_async(queue="image")
    with pytest.raises(ImproperlyConfigured, match="`image` is not in task_queues"):
        configure(media, WorkerOptions(queues=["image"]))
    media.conf.update(task_create_missing_queues=True, task_create_missing_queue_type="quorum")
    fields = sent(media, lambda: task.apply_async(queue="newer"))
    assert json.loads(fields["route"])["declares"][0]["arguments"] == {"x-queue-type": "quorum"}


def test_queues_that_are_added_count_from_then_on(media: Any) -> None:
    task = media.task(lambda: None, name="t")
    assert way(media, lambda: task.apply_async(queue="late")) == ("late", "", "late")
    media.amqp.queues.add(Queue("late", Exchange("lates", "topic"), "a.b"))
    assert way(media, lambda: task.apply_async(queue="late")) == ("late", "lates", "a.b")


@pytest.mark.parametrize("queue", ["", 3, object()])
def test_what_is_no_queue_is_refused(app: Any, queue: Any) -> None:
    task = app.task(lambda: None, name="t")
    with pytest.raises(TypeError, match="queue"):
        task.apply_async(queue=queue)


def test_what_a_worker_is_told(media: Any) -> None:
    config = configure(media, WorkerOptions(queues=["images", "reload"], hostname="w1@h"))
    assert config.queues == ["images", "own"]
    declared = {queue["name"]: queue for queue in map(json.loads, config.declarations)}
    assert set(declared) == {"images", "videos", "own"}
    assert declared["own"]["auto_delete"] and not declared["images"]["auto_delete"]
    media.conf.worker_direct = True
    config = configure(media, WorkerOptions(queues=["images"], hostname="w1@h"))
    assert config.queues == ["images", "w1@h.dq2"]
    direct = json.loads(config.declarations[-1])
    assert direct["bindings"][0]["exchange"]["name"] == "C.dq2"
    task = media.task(lambda: None, name="t")
    assert way(media, lambda: task.apply_async(queue=worker_direct("w1@h")))[0] == "w1@h.dq2"


def test_entities_say_what_kombus_say() -> None:
    kombu = pytest.importorskip("kombu")
    common = pytest.importorskip("kombu.common")
    to = {"name": "e", "type": "topic", "durable": False, "arguments": {"x": 1}}
    options: dict[str, Any] = {
        "queue_arguments": {"x-max-priority": 5},
        "binding_arguments": {"x-match": "any"},
        "expires": 1.5,
        "message_ttl": 2,
        "max_length": 3,
        "max_length_bytes": 4,
        "durable": False,
        "exclusive": True,
        "alias": "b",
    }
    theirs = kombu.Queue("a", kombu.Exchange(**to), "k.#", **options)
    ours = Queue("a", Exchange(**to), "k.#", **options)
    assert declaration(to_queue(theirs)) == declaration(ours)
    assert ours.auto_delete and declaration(ours)["arguments"]["x-expires"] == 1500
    several = [("e", "topic", "a"), ("f", "fanout", "")]
    their_bindings = [kombu.binding(kombu.Exchange(n, t), k) for n, t, k in several]
    our_bindings = [binding(Exchange(n, t), k) for n, t, k in several]
    found = to_queue(kombu.Queue("a", their_bindings))
    assert declaration(found) == declaration(Queue("a", our_bindings))
    assert found == Queue("a", bindings=our_bindings) != Queue("a")
    assert to_queue(common.Broadcast("all", queue="mine")).is_broadcast
    assert is_plain(to_queue("plain")) and not is_plain(found)
    assert Broadcast("all").name != Broadcast("all").name


def test_entities_are_strict() -> None:
    with pytest.raises(ValueError, match="expected direct, topic, fanout, headers"):
        Exchange("e", type="topics")
    with pytest.raises(TypeError, match="did you mean `queue_arguments`"):
        Queue("q", queue_argument={})
    with pytest.raises(NotSupportedError, match="no_ack"):
        Queue("q", no_ack=True)
    with pytest.raises(NotSupportedError, match=r"`declare` of kombu's `Queue` .*task_queues"):
        _ = Queue("q").declare
    assert not hasattr(Queue("q"), "declare")


def test_queues_as_a_dict_of_celery_3(app: Any) -> None:
    app.conf.task_queues = {
        "feeds": {"exchange": "feed", "exchange_type": "topic", "binding_key": "feed.#"},
        "default": {},
    }
    feeds = app.amqp.queues["feeds"]
    assert (feeds.exchange.name, feeds.exchange.type, feeds.routing_key) == (
        "feed",
        "topic",
        "feed.#",
    )
    assert list(app.amqp.queues.consume_from) == ["feeds", "default"]
    assert "feeds" in app.amqp.queues.format() and "feed(topic)" in app.amqp.queues.format(2)


def test_what_only_kombu_has_is_named(app: Any) -> None:
    with pytest.raises(NotSupportedError, match=r"`TaskConsumer` of `app\.amqp`"):
        _ = app.amqp.TaskConsumer
    with pytest.raises(AttributeError, match="did you mean `queues`"):
        _ = app.amqp.queuess


def test_what_projects_ask_of_pools(app: Any) -> None:
    task = app.task(lambda: None, name="t")
    with app.producer_or_acquire() as producer, app.producer_or_acquire(producer) as same:
        assert same is producer
        assert way(app, lambda: task.apply_async(producer=producer))[0] == "taskcore"
        with pytest.raises(NotSupportedError, match="publishes tasks and nothing else"):
            producer.publish({}, exchange="e")
    with app.connection_for_write() as connection, app.connection_or_acquire(connection) as same:
        assert same is connection
        task.apply_async(connection=connection)
    with app.pool.acquire(block=True) as pooled, app.producer_pool.acquire() as made:
        assert pooled.as_uri() == made.connection.as_uri() == "memory://"
    with pytest.raises(TypeError, match="connections of its own"):
        task.apply_async(connection=object())
