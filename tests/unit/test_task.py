"""Tasks: how they are made, named and called."""

import contextlib
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from taskcore import (
    Taskcore,
    current,
    current_app,
    exceptions,
    group,
    serialize,
    shared_task,
    signals,
)
from taskcore.context import LocalRequest, reset_request, set_request
from taskcore.exceptions import (
    AlwaysEagerIgnored,
    DuplicateTaskNameWarning,
    ImproperlyConfigured,
    NotConfigured,
    NotRegistered,
    OperationalError,
    Retry,
    SettingIgnored,
    TaskcoreWarning,
)
from taskcore.result import AsyncResult
from taskcore.task import Task


def last(app: Any) -> tuple[Any, list[Any], dict[str, Any], dict[str, Any]]:
    return app.publisher.sent[-1]


def add_to(app: Any, **options: Any) -> Any:
    @app.task(**options)
    def add(x: int, y: int = 1) -> int:
        return x + y

    return add


def test_the_decorator_takes_options_or_none(app: Any) -> None:
    @app.task
    def one() -> str:
        return "one"

    @app.task()
    def two() -> str:
        return "two"

    @app.task(name="three", queue="q", bind=True)
    def three(self: Any) -> str:
        return self.name

    assert (one(), two(), three()) == ("one", "two", "three")
    assert one.name == f"{__name__}.one"
    assert app.tasks["three"] is three and three.__name__ == "three"
    assert one.__doc__ is None and isinstance(one, Task)


def test_a_slip_of_the_pen_in_an_option_is_warned_of(app: Any) -> None:
    with pytest.warns(TaskcoreWarning, match="`acks_lat` is no option.*`acks_late`"):
        app.task(acks_lat=True, name="kept")(lambda: None)
    assert app.tasks["kept"].acks_lat is True
    with pytest.raises(TypeError, match="not supported in this version"):
        app.task(Strategy="proj:Strategy")
    app.task(pydantic=False, pydantic_context=None, name="validates nothing")(lambda: None)
    with pytest.raises(TypeError, match="keywords"):
        app.task("proj.add")
    with pytest.raises(ValueError, match="rate_limit"):
        add_to(app, rate_limit="often")


def test_names_of_the_main_module(app: Any, core: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "/some/where/script.py", raising=False)
    assert app.gen_task_name("f", "__main__") == "proj.f"
    assert app.gen_task_name("f", "a.b") == "a.b.f"
    assert Taskcore(set_as_current=False).gen_task_name("f", "__main__") == "script.f"


def test_one_name_is_one_function(app: Any) -> None:
    def first() -> None: ...
    def second() -> None: ...

    app.task(first, name="n")
    again = app.task(first, name="n")
    assert app.tasks["n"] is again
    with pytest.warns(DuplicateTaskNameWarning, match="`n`"):
        assert app.task(second, name="n") is again
    assert app.tasks["n"] is again
    with pytest.raises(NotRegistered, match="no task named `nn`"):
        _ = app.tasks["nn"]


def test_options_follow_the_configuration_unless_they_are_set(app: Any) -> None:
    plain, own = add_to(app), add_to(app, name="own", acks_late=False, serializer="pickle")
    assert (plain.acks_late, plain.reject_on_worker_lost, plain.serializer) == (
        False,
        True,
        "msgpack",
    )
    app.conf.update(task_acks_late=True, task_serializer="json")
    assert (plain.acks_late, plain.serializer) == (True, "json")
    assert (own.acks_late, own.serializer) == (False, "pickle")


def test_delay_sends_and_the_short_path_sends_the_same(app: Any) -> None:
    add = add_to(app)
    results = [add.delay(1, y=2), add.delay(1, y=2)]
    (first, *a), (second, *b) = app.publisher.sent
    assert first is second and a[:2] == b[:2] == [[1], {"y": 2}]
    assert [r.id for r in results] == [a[2].pop("task_id"), b[2].pop("task_id")]
    assert a[2] == b[2] == {"reply_to": "tc-fake"}
    assert add._fast_path is not None
    assert first.task == add.name and first.fields["queue"] == "taskcore"


def test_arguments_that_do_not_fit_are_refused_before_anything_is_sent(app: Any) -> None:
    add = add_to(app)
    for _ in range(2):
        for call in (
            lambda: add.delay(),
            lambda: add.apply_async((1, 2, 3)),
            lambda: add.delay(1, z=1),
            lambda: add.apply_many([(1,), ()]),
        ):
            with pytest.raises(TypeError, match=r"add\(\)"):
                call()
        sent = len(app.publisher.sent)
        add.delay(1)
        assert len(app.publisher.sent) == sent + 1
    untyped = add_to(app, name="untyped", typing=False)
    untyped.delay(1, 2, 3)


def test_the_short_path_follows_changes(app: Any) -> None:
    add = add_to(app)
    add.delay(1)
    app.conf.task_ignore_result = True
    assert add._fast_path is None
    add.delay(1)
    assert last(app)[3].keys() == {"task_id"} and last(app)[0].fields["ignore_result"] is True
    app.conf.task_always_eager = True
    assert add.delay(1, 2).get() == 3


def test_an_overridden_apply_async_is_used_by_delay(app: Any) -> None:
    class Loud(Task[..., Any]):
        def apply_async(self, args: Any = None, kwargs: Any = None, *a: Any, **options: Any) -> Any:
            return super().apply_async(args, kwargs, *a, headers={"loud": True}, **options)

    add = add_to(app, base=Loud)
    for _ in range(3):
        add.delay(1)
        assert last(app)[3]["headers"] == {"loud": True}


def test_options_become_fields(app: Any) -> None:
    add = add_to(app)
    add.apply_async(
        (1,), {"y": 2}, task_id="i", queue="q", priority=5, countdown=0.5, link=add.s(3)
    )
    _, args, kwargs, fields = last(app)
    assert (args, kwargs) == ([1], {"y": 2})
    assert (fields["task_id"], fields["queue"], fields["priority"]) == ("i", "q", 5)
    assert fields["callbacks"][0]["task"] == add.name
    with pytest.raises(TypeError, match="countdown"):
        add.apply_async((1,), countdwn=3)


def test_options_of_the_task_are_in_the_template(app: Any) -> None:
    add = add_to(
        app, queue="q", priority=3, time_limit=5, soft_time_limit=4, compression="gzip", expires=60
    )
    add.delay(1)
    template, _, _, fields = last(app)
    assert template.fields == {
        "protocol": "compact",
        "queue": "q",
        "serializer": "msgpack",
        "priority": 3,
        "compression": "gzip",
        "time_limit": 5,
        "soft_time_limit": 4,
    }
    assert fields["expires"] > datetime.now(UTC).timestamp() + 50
    add.delay(1)
    assert "expires" in last(app)[3]


def test_routes(app: Any) -> None:
    app.conf.task_routes = {"own": {"queue": "exact", "priority": 1}, "proj.*": "glob"}
    add_to(app, name="own").delay(1)
    assert last(app)[0].fields["queue"] == "exact" and last(app)[0].fields["priority"] == 1
    app.send_task("proj.x.y")
    assert last(app)[0].fields["queue"] == "glob"
    app.send_task("other")
    assert last(app)[0].fields["queue"] == "taskcore"
    add_to(app, name="proj.mine", queue="mine").delay(1)
    assert last(app)[0].fields["queue"] == "mine"


def test_celerys_protocol_has_its_own_defaults(app: Any) -> None:
    app.conf.task_protocol = 2
    add_to(app).delay(1)
    fields = last(app)[0].fields
    assert (fields["protocol"], fields["queue"], fields["serializer"]) == (
        "celery",
        "celery",
        "json",
    )
    assert fields["ignore_result"] is False
    app.send_task("x")
    assert last(app)[0].fields.get("ignore_result") is None


def test_a_task_published_by_a_task_belongs_to_it(app: Any, core: Any) -> None:
    add = add_to(app)
    add.delay(1)
    request = core.Request(id="parent", task="t", root_id="root")
    token = set_request(request)
    try:
        ids = [
            add.delay(1).id,
            add.apply_async((1,)).id,
            *add.apply_many([(1,)]).ids,
            app.send_task("x").id,
        ]
        free = add.apply_async((1,), add_to_parent=False)
    finally:
        reset_request(token)
    assert request.children == ids
    for _, _, _, fields in app.publisher.sent[1:]:
        assert (fields["parent_id"], fields["root_id"]) == ("parent", "root")
    assert last(app)[3]["task_id"] == free.id


def test_priority_of_the_parent_is_inherited_when_asked_for(app: Any, core: Any) -> None:
    app.conf.task_inherit_parent_priority = True
    request = core.Request(id="p", task="t", delivery_info={"priority": 7})
    token = set_request(request)
    try:
        add_to(app).delay(1)
    finally:
        reset_request(token)
    assert last(app)[3]["priority"] == 7


def test_many_calls(app: Any) -> None:
    add = add_to(app)
    results = add.apply_many(((n,) for n in range(3)), queue="q")
    assert [sent[1] for sent in app.publisher.sent] == [[0], [1], [2]]
    assert results.ids == [sent[3]["task_id"] for sent in app.publisher.sent]
    assert all(sent[3]["queue"] == "q" for sent in app.publisher.sent)
    with pytest.raises(TypeError, match="task_id"):
        add.apply_many([(1,)], task_id="same")
    with pytest.raises(TypeError, match="expected a list or tuple"):
        add.apply_many([1])


def test_many_signatures(app: Any) -> None:
    add = add_to(app)
    results = app.send_many([add.s(1), add.s(2).set(queue="q"), app.signature("other", args=(3,))])
    assert [(s[0].task, s[1]) for s in app.publisher.sent] == [
        (add.name, [1]),
        (add.name, [2]),
        ("other", [3]),
    ]
    assert app.publisher.sent[1][3]["queue"] == "q" and len(results) == 3
    with pytest.raises(TypeError):
        app.send_many([add.s()])
    with pytest.raises(TypeError, match="signatures"):
        app.send_many(["x"])


def test_publish_signals_see_and_change_headers(app: Any) -> None:
    add = add_to(app)
    add.delay(1)
    seen: list[Any] = []

    def before(sender: Any, headers: Any, body: Any, **more: Any) -> None:
        headers["trace"] = "t"
        seen.append(("before", sender, body[0], headers["id"]))

    def after(sender: Any, headers: Any, **more: Any) -> None:
        seen.append(("after", sender, headers["id"]))

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    try:
        result = add.delay(2)
        add.apply_many([(3,), (4,)])
    finally:
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)
    assert seen[:2] == [("before", add.name, (2,), result.id), ("after", add.name, result.id)]
    assert [s[0] for s in seen[2:]] == ["before", "before", "after", "after"]
    assert all(sent[3]["headers"] == {"trace": "t"} for sent in app.publisher.sent[1:])


@contextlib.contextmanager
def receiving(signal: signals.Signal, receiver: Any) -> Iterator[None]:
    signal.connect(receiver)
    try:
        yield
    finally:
        signal.disconnect(receiver)


def test_what_a_receiver_changes_in_a_message_is_sent(app: Any) -> None:
    add = app.task(name="limited", time_limit=9, soft_time_limit=5, priority=2)(lambda x: x)
    shown: dict[str, Any] = {}

    def change(headers: Any, properties: Any, body: Any, **_: Any) -> None:
        shown.update(properties, timelimit=list(headers["timelimit"]), eta=headers["eta"])
        headers["eta"] = "2030-01-01T00:00:00+00:00"
        headers["expires"] = datetime(2031, 1, 1, tzinfo=UTC)
        headers["timelimit"][0] = 60
        headers["shadow"] = "shown"
        properties["priority"] = 7
        body[2]["errbacks"] = [{"task": "e"}]

    with receiving(signals.before_task_publish, change), warnings.catch_warnings():
        warnings.simplefilter("error")
        add.apply_async((1,), countdown=0, headers={"own": 1})
    assert (shown["priority"], shown["timelimit"]) == (2, [9, 5])
    assert datetime.fromisoformat(shown["eta"]).tzinfo is not None
    fields = app.publisher.sent[-1][3]
    assert fields["eta"] == datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    assert fields["expires"] == datetime(2031, 1, 1, tzinfo=UTC).timestamp()
    assert (fields["time_limit"], fields["soft_time_limit"]) == (60, 5)
    assert (fields["shadow"], fields["priority"], fields["headers"]) == ("shown", 7, {"own": 1})
    assert fields["errbacks"] == [{"task": "e"}]


def test_a_receiver_takes_back_what_the_call_said(app: Any) -> None:
    def change(headers: Any, properties: Any, **_: Any) -> None:
        headers.update(eta=None, expires=None)
        del headers["own"]

    with receiving(signals.before_task_publish, change):
        add_to(app).apply_async((1,), countdown=9, expires=9, headers={"own": 1})
    assert not {"eta", "expires", "headers"} & app.publisher.sent[-1][3].keys()


@pytest.mark.parametrize(
    ("part", "key", "what"),
    [
        ("headers", "root_id", "header `root_id`"),
        ("headers", "ignore_result", "header `ignore_result`"),
        ("properties", "correlation_id", "property `correlation_id`"),
        ("properties", "app_id", "property `app_id`"),
    ],
)
def test_what_a_receiver_changes_in_vain_is_warned_of(
    app: Any, part: str, key: str, what: str
) -> None:
    add = add_to(app)
    with (
        receiving(signals.before_task_publish, lambda **sent: sent[part].update({key: "x"})),
        pytest.warns(SettingIgnored, match=f"changed the {what}, which has no effect"),
    ):
        add.delay(1)


def test_what_no_message_can_carry_is_refused_from_a_receiver(app: Any) -> None:
    add = add_to(app)
    with (
        receiving(
            signals.before_task_publish, lambda properties, **_: properties.update(priority=99)
        ),
        pytest.raises(ValueError, match="priority `99`"),
    ):
        add.delay(1)
    assert app.publisher.sent == []


def test_a_local_call_shows_where_it_would_have_gone(app: Any) -> None:
    task = app.task(name="where", bind=True)(lambda self: self.request.delivery_info)
    assert task.apply(priority=3).get() == {
        "is_eager": True,
        "exchange": None,
        "routing_key": None,
        "priority": 3,
    }


def test_a_class_is_a_task(app: Any) -> None:
    class Count(app.Task):  # type: ignore[misc]
        name = "count"
        acks_late = True

        def __init__(self) -> None:
            self.calls = 0

        def run(self, by: int) -> int:
            self.calls += by
            return self.calls

    count = app.register_task(Count())
    assert count(2) == 2 and count(3) == 5 and count.acks_late
    assert app.tasks["count"] is count
    count.delay(1)
    with pytest.raises(TypeError):
        count.delay()


def test_a_base_class_gives_attributes_and_hooks(app: Any) -> None:
    class Base(Task[..., Any]):
        colour = "red"

    @app.task(base=Base, bind=True, colour="blue")
    def show(self: Any) -> str:
        return str(self.colour)

    assert show() == "blue" and isinstance(show, Base)


def test_an_override_of_call_sees_the_request(app: Any, core: Any) -> None:
    class Base(Task[..., Any]):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return ("called", super().__call__(*args, **kwargs))

    @app.task(base=Base, bind=True)
    def who(self: Any) -> Any:
        return self.request.id

    request = core.Request(id="i", task=who.name)
    assert app.executor.run(app.executor.plan(who.name), request, (), {}).result == (
        "called",
        "i",
    )
    assert who() == ("called", None)


def test_calling_runs_here_with_an_empty_request(app: Any) -> None:
    @app.task(bind=True)
    def who(self: Any) -> Any:
        return self.request.id, self.request.called_directly, self.request.retries

    assert who() == (None, True, 0)
    with pytest.raises(AttributeError, match="retries"):
        _ = who.request.retris


def test_shared_tasks_belong_to_every_app(core: Any) -> None:
    early = Taskcore("early", broker="memory://")

    @shared_task(name="shared.double", bind=True)
    def double(self: Any, x: int) -> int:
        return 2 * x

    late = Taskcore("late", broker="memory://")
    assert early.tasks["shared.double"] is not late.tasks["shared.double"]
    assert double.app is late and double(2) == 4
    early.set_current()
    assert double.app is early
    double.delay(1)
    assert early.publisher.sent and not late.publisher.sent


def test_without_an_app_nothing_is_sent_by_accident(
    core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = current.get_app_or_none()
    current.set_app(None)
    try:

        @shared_task(name="shared.lonely")
        def lonely(x: int) -> int:
            return 2 * x

        def send() -> Any:
            return lonely.delay(1)

        for use in (send, lambda: current_app.send_task("t"), lambda: AsyncResult("i").get()):
            with pytest.raises(NotConfigured, match="import the module that makes it"):
                use()
        assert lonely(2) == 4 and lonely.apply((3,)).get() == 6
        monkeypatch.setenv("TASKCORE_BROKER_URL", "memory://named")
        current.set_app(None)
        send()
        assert current_app.publisher.url == "memory://named"
    finally:
        current.set_app(before)


def test_a_task_that_is_defined_again_publishes_as_it_says_now(app: Any) -> None:
    def define(queue: str) -> Any:
        @app.task(name="again", queue=queue)
        def again() -> None: ...

        return again

    old = define("first")
    old.delay()
    new = define("second")
    for task in (new, old, new):
        task.delay()
    assert [template.fields["queue"] for template, *_ in app.publisher.sent] == [
        "first",
        "second",
        "first",
        "second",
    ]


def test_options_may_be_changed_between_calls(app: Any) -> None:
    @app.task
    def changing() -> None: ...

    changing.delay()
    changing.queue, changing.priority = "other", 3
    changing.delay()
    changing.delay()
    first, *others = [template.fields for template, *_ in app.publisher.sent]
    assert "other" not in first.values()
    assert all((one["queue"], one["priority"]) == ("other", 3) for one in others)
    with pytest.raises(TypeError, match="priority"):
        changing.priority = "high"


def test_time_limits_follow_the_settings_and_messages_carry_the_tasks_own(app: Any) -> None:
    @app.task
    def plain() -> None: ...

    @app.task(time_limit=3, soft_time_limit=None)
    def own() -> None: ...

    app.conf.update(task_time_limit=20, task_soft_time_limit=10)
    assert (plain.time_limit, plain.soft_time_limit) == (20, 10)
    assert (own.time_limit, own.soft_time_limit) == (3, 10)
    plain.delay()
    assert last(app)[0].fields.keys().isdisjoint({"time_limit", "soft_time_limit"})
    for call in (own.delay, lambda: plain.apply_async(time_limit=5)):
        with pytest.raises(ValueError, match="soft_time_limit is `10`"):
            call()
    plain.apply_async(time_limit=10)


def test_an_eager_call_refuses_what_could_not_be_sent(app: Any) -> None:
    @app.task
    def fails() -> None:
        raise KeyError("x")

    app.conf.task_always_eager = True
    with pytest.raises(TypeError, match="did you mean `routing_key`"):
        fails.apply_async(routing_kei="x")
    with pytest.raises(KeyError):
        fails.apply_async(throw=True)
    with pytest.warns(SettingIgnored, match="propagate"):
        assert fails.apply(propagate=True).state == "FAILURE"


@pytest.mark.parametrize(
    ("call", "how", "again"),
    [
        (((1,), {"y": 2}), {"args": (5,)}, (5, 2)),
        (((1,), {"y": 2}), {"args": (5, 6)}, (5, 6)),
        (((1,), {"y": 2}), {"kwargs": {"y": 9}}, (1, 9)),
        (((1, 2), {}), {"kwargs": {"y": 9}}, (1, 9)),
        (((1, 2), {}), {"kwargs": {"x": 9}}, (9, 2)),
        (((), {"x": 1, "y": 2}), {"args": (7, 8)}, (7, 8)),
        (((1,), {}), {"args": (7,), "kwargs": {"y": 8}}, (7, 8)),
    ],
)
def test_a_retry_may_name_arguments_in_the_other_way(
    app: Any, call: Any, how: dict[str, Any], again: tuple[int, int]
) -> None:
    @app.task(bind=True)
    def pair(self: Any, x: int, y: int = 0) -> tuple[int, int]:
        if not self.request.retries:
            raise self.retry(countdown=0, **how)
        return x, y

    assert pair.apply(*call).get() == again


@pytest.mark.parametrize(("limit", "runs"), [(0, 1), (2, 3), (None, 11)])
def test_a_limit_of_retries_at_the_call_ends_automatic_ones(
    app: Any, limit: int | None, runs: int
) -> None:
    seen = []

    @app.task(bind=True, autoretry_for=(Exception,), max_retries=10, default_retry_delay=0)
    def stubborn(self: Any) -> None:
        seen.append(1)
        try:
            raise KeyError("x")
        except KeyError as exc:
            raise self.retry(exc=exc, max_retries=limit, countdown=0) from exc

    assert stubborn.apply().state == "FAILURE" and len(seen) == runs


@pytest.mark.parametrize(("name", "value"), [("Request", "proj:Request"), ("Strategy", "proj:s")])
def test_a_base_class_cannot_say_what_nobody_hears(app: Any, name: str, value: Any) -> None:
    base = type("Base", (Task,), {name: value})
    with pytest.raises(TypeError, match=f"task option `{name}` is not supported"):
        app.task(base=base, name="deaf")(print)
    assert "deaf" not in app.tasks
    app.task(base=type("Base", (Task,), {"Request": None}), name="hears")(lambda: None)


def test_options_without_effect_are_said_and_can_be_read_back(app: Any) -> None:
    with pytest.warns(SettingIgnored, match="send_events"):
        task = add_to(app, send_events=True)
    assert task.send_events is True
    with pytest.raises(TypeError, match="`backend` is not supported"):
        add_to(app, name="other", backend="redis://")


@pytest.mark.parametrize("trail", [True, False])
def test_what_a_task_publishes_is_its_trail(app: Any, core: Any, trail: bool) -> None:
    add = add_to(app)
    app.task(lambda: None, name="parent", trail=trail)
    request = core.Request(id="p", task="parent")
    token = set_request(request)
    try:
        one = add.delay(1, 2)
        many = add.apply_many([(1, 2), (3, 4)])
        several = group([add.s(1, 2), add.s(3, 4)]).apply_async()
        add.apply_async((5, 6), add_to_parent=False)
    finally:
        reset_request(token)
    of_group = (several.id, [((task_id, None), None) for task_id in several.ids])
    assert request.children == ([one.id, *many.ids, of_group] if trail else [])
    with pytest.raises(TypeError, match="`trail`"):
        add_to(app, name="other", trail="yes")


def test_two_functions_of_one_name_in_one_file_are_told_apart(app: Any) -> None:
    @app.task(name="twice")
    def work() -> str:
        return "first"

    with pytest.warns(DuplicateTaskNameWarning) as warned:

        @app.task(name="twice")  # type: ignore[no-redef]
        def work() -> str:
            return "second"

    assert app.tasks["twice"].run() == work() == "first"
    assert warned[0].filename == __file__


def test_kombus_errors_are_caught_where_kombu_is_loaded(app: Any, core: Any) -> None:
    kombu = pytest.importorskip("kombu.exceptions")
    for name in ("OperationalError", "EncodeError", "DecodeError", "ContentDisallowed"):
        with pytest.raises(getattr(kombu, name)):
            raise getattr(exceptions, name)("x")
    with pytest.raises(kombu.EncodeError):
        serialize.dumps(object(), "json")


def test_packages_of_a_django_project_are_discovered(
    app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = {
        "django/__init__.py": "from django.apps import apps\n\ndef setup():\n    apps.ready = True\n",
        "django/apps.py": (
            "from types import SimpleNamespace\n\nclass apps:\n    ready = False\n\n"
            "    def get_app_configs():\n        assert apps.ready\n"
            "        return [SimpleNamespace(name='shop')]\n"
        ),
        "shop/__init__.py": "",
        "shop/tasks.py": "found = True\n",
        "blog/__init__.py": "",
        "blog/apps.py": "class BlogConfig:\n    name = 'blog'\n",
        "blog/tasks.py": "found = True\n",
    }
    for name, text in source.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in ("django", "django.apps", "shop", "shop.tasks", "blog", "blog.tasks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    app.autodiscover_tasks()
    app.autodiscover_tasks(lambda: ["blog.apps.BlogConfig"])
    with pytest.warns(TaskcoreWarning, match="DJANGO_SETTINGS_MODULE"):
        app.import_modules()
    assert "shop.tasks" not in sys.modules and "blog.tasks" in sys.modules
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "site.settings")
    app.import_modules()
    assert "shop.tasks" in sys.modules


def test_eager_execution(app: Any) -> None:
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    add = add_to(app)
    assert add.delay(1, 2).get() == 3
    assert not app.publisher.sent
    with pytest.raises(Exception, match="object"):
        add.delay(object())
    with pytest.raises(TypeError, match="countdown"):
        add.apply_async((1,), countdwn=1)
    with pytest.warns(AlwaysEagerIgnored):
        app.send_task("x")


def test_apply_keeps_what_the_task_raised(app: Any) -> None:
    @app.task
    def fail() -> None:
        raise ValueError("x")

    result = fail.apply()
    assert (
        result.failed()
        and isinstance(result.result, ValueError)
        and "in fail" in str(result.traceback)
    )
    with pytest.raises(ValueError, match="x"):
        result.get()
    with pytest.raises(ValueError, match="x"):
        fail.apply(throw=True)


def test_apply_retries_here(app: Any) -> None:
    tries: list[int] = []

    @app.task(bind=True, max_retries=3)
    def until(self: Any, n: int) -> int:
        tries.append(self.request.retries)
        if self.request.retries < n:
            raise self.retry(countdown=100)
        return n

    assert until.apply((2,)).get() == 2
    assert tries == [0, 1, 2]
    with pytest.raises(Exception, match="limit is 3"):
        until.apply((5,)).get()


def test_apply_runs_callbacks(app: Any) -> None:
    got: list[Any] = []
    collect = app.task(lambda value, extra: got.append((value, extra)), name="collect")
    app.conf.task_always_eager = True
    assert add_to(app).apply((1, 2), link=collect.s("more")).get() == 3
    assert got == [(3, "more")]


def test_retry_outside_of_an_execution_raises(app: Any) -> None:
    @app.task(bind=True)
    def again(self: Any) -> None:
        raise self.retry(exc=KeyError("k"))

    with pytest.raises(KeyError, match="k"):
        again()
    with pytest.raises(Retry):
        again.retry()


def test_a_state_of_ones_own(app: Any, core: Any) -> None:
    @app.task(bind=True)
    def work(self: Any) -> None:
        self.update_state(state="PROGRESS", meta={"done": 1})

    app.executor.run(app.executor.plan(work.name), core.Request(id="i", task=work.name), (), {})
    assert app.backend.documents["i"]["status"] == "PROGRESS"
    assert AsyncResult("i", app=app).info == {"done": 1}
    with pytest.raises(TypeError, match="task_id"):
        work.update_state(state="X")


def test_a_task_is_replaced_only_while_it_runs(app: Any) -> None:
    add = add_to(app)
    with pytest.raises(RuntimeError, match="`replace` of task"):
        add.replace(add.s(1))


def test_without_results_the_remedy_is_named(core: Any) -> None:
    app = Taskcore("p", broker="redis://x")
    result = add_to(app).delay(1)
    assert last(app)[3].keys() == {"task_id"}
    with pytest.raises(ImproperlyConfigured, match="backend="):
        result.get()


def test_a_broker_that_is_down_raises_at_the_call(app: Any) -> None:
    add = add_to(app)
    app.publisher.error = OperationalError("down")
    for _ in range(2):
        with pytest.raises(OperationalError):
            add.delay(1)


def test_publisher_and_results_get_the_configuration(core: Any) -> None:
    with pytest.warns(Warning, match="visibility_timeout"):
        app = Taskcore(
            "p",
            broker="redis://h",
            backend="redis://r",
            task_publish_timeout=2,
            result_expires=60,
            broker_transport_options={"global_keyprefix": "k:", "visibility_timeout": 3600},
            task_publish_retry_policy={"max_retries": 9},
        )
    options = app.publisher.options
    assert options["options"] == {"global_keyprefix": "k:"}
    assert (options["timeout"], options["max_retries"], options["interval_step"]) == (2.0, 9, 0.2)
    assert app.backend.options == {"expires": 60.0, "options": {}, "encoding": None}
    app.conf.update(task_publish_retry_policy=None)
    assert app.publisher.options["max_retries"] is None  # as long as `task_publish_timeout` lasts
    app.conf.update(task_publish_retry=False, broker_transport_options={})
    assert app.publisher.options["max_retries"] == 0


def test_a_local_request_is_no_parent(app: Any) -> None:
    outer = LocalRequest(task="t", id=None)
    token = set_request(outer)
    try:
        add_to(app).delay(1)
    finally:
        reset_request(token)
    assert "parent_id" not in last(app)[3]


def test_a_task_is_pickled_by_its_name(app: Any) -> None:
    import pickle

    from taskcore import Taskcore, current

    made = app.task(len, name="t")
    made.__module__ = __name__
    Taskcore("another", broker="memory://", backend="memory://")
    try:
        assert pickle.loads(pickle.dumps(made)) is made
    finally:
        current.set_app(app)


def test_the_current_task_is_of_whichever_app_runs_one(app: Any) -> None:
    from taskcore import Taskcore, current, current_task

    seen = app.task(lambda: current_task.name, name="t")
    Taskcore("another", broker="memory://", backend="memory://")
    try:
        assert seen.apply().get() == "t" and not current_task
    finally:
        current.set_app(app)


class Patient(Task[..., Any]):
    max_retries = 42


@pytest.mark.parametrize("spec", [Patient, f"{__name__}:Patient", f"{__name__}.Patient"])
def test_the_class_of_an_apps_tasks(core: Any, spec: Any) -> None:
    from taskcore import Taskcore

    made = Taskcore("p", broker="memory://", task_cls=spec, set_as_current=False)
    assert made.task(len, name="t").max_retries == 42


@pytest.mark.parametrize("spec", ["nope", "json:nope", "nowhere:X", "json:JSONDecoder", int, 5])
def test_a_class_that_is_none_of_tasks_is_refused(core: Any, spec: Any) -> None:
    from taskcore import Taskcore
    from taskcore.exceptions import ImproperlyConfigured

    with pytest.raises(ImproperlyConfigured, match="task_cls"):
        Taskcore("p", broker="memory://", task_cls=spec, set_as_current=False)


def test_a_task_is_unregistered(app: Any) -> None:
    from taskcore.exceptions import NotRegistered

    made = app.task(len, name="t")
    app.tasks.unregister(made)
    with pytest.raises(NotRegistered):
        app.tasks.unregister("t")


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        (None, (3, None, None)),
        ({"t": {"max_retries": 9}}, (9, None, None)),
        ({"t": {"max_retries": 9}, "*": {"max_retries": 1, "rate_limit": "2/s"}}, (9, "2/s", None)),
        (
            [{"*": {"time_limit": 5}}, {"t": {"time_limit": 7}}, {"u": {"max_retries": 1}}],
            (3, None, 7),
        ),
    ],
)
@pytest.mark.parametrize("when", ["before", "after", "module"])
def test_annotations_replace_a_tasks_own_options(
    app: Any, monkeypatch: pytest.MonkeyPatch, annotations: Any, expected: Any, when: str
) -> None:
    import sys
    import types

    module = types.ModuleType("settings_of_test")
    module.__dict__["task_annotations"] = annotations
    if when == "before":
        app.conf.task_annotations = annotations
    elif when == "module":
        # Imported on first use, not when tasks are defined.
        app.config_from_object("settings_of_test")
    made = app.task(name="t")(lambda: 1)
    if when == "after":
        app.conf.task_annotations = annotations
    elif when == "module":
        monkeypatch.setitem(sys.modules, "settings_of_test", module)
        made.delay()
    assert (made.max_retries, made.rate_limit, made.time_limit) == expected
    assert app.producer.template(made).fields.get("time_limit") == expected[2]


def test_an_annotation_of_an_option_that_does_not_exist_is_refused(app: Any) -> None:
    from taskcore.exceptions import ImproperlyConfigured

    app.task(len, name="t")
    for wrong, told in [
        ({"t": {"Strategy": "proj:Strategy"}}, "`Strategy` is not supported"),
        ({"t": {"@nothing": print}}, "nothing"),
        ({"*": {"rate_limit": "1/x"}}, "rate_limit"),
        ({"t": 5}, "a dict of task name"),
        (lambda task: None, "a dict of task name"),
    ]:
        with pytest.raises(ImproperlyConfigured, match=told):
            app.conf.task_annotations = wrong
        app.conf.task_annotations = None


def test_a_retry_says_when_in_few_digits() -> None:
    for when, words in ((0.21920532319210595, "in 0.219s"), (180, "in 180s"), (2.5, "in 2.5s")):
        assert Retry(when=when).humanize() == words


@pytest.mark.parametrize(
    ("option", "wrong", "told"),
    [
        ("max_retries", "5", "a whole number"),
        ("max_retries", -1, "a whole number"),
        ("max_retries", True, "a whole number"),
        ("time_limit", "5", "more than 0 seconds"),
        ("soft_time_limit", 0, "more than 0 seconds"),
        ("autoretry_for", ValueError, "a tuple of exception classes"),
        ("autoretry_for", "ValueError", "a tuple of exception classes"),
        ("throws", [int], "a tuple of exception classes"),
        ("queue", 5, "a name, or an object that has one"),
        ("exchange", "", "a name, or an object that has one"),
        ("exchange_type", "topics", "direct, topic, fanout or headers"),
        ("routing_key", "", "text that is not empty"),
        ("priority", 10, "a whole number from 0"),
        ("expires", "soon", "seconds as a number"),
        ("retry_backoff", "fast", "True, False"),
        ("retry_kwargs", [1], "a dict"),
        ("default_retry_delay", -1, "seconds as a number"),
        ("acks_late", "yes", "True or False"),
    ],
)
@pytest.mark.parametrize("how", ["decorator", "class", "annotation"])
def test_an_option_of_the_wrong_kind_is_refused(
    app: Any, option: str, wrong: Any, told: str, how: str
) -> None:
    options = {"decorator": {option: wrong}, "class": {"base": type("B", (Task,), {option: wrong})}}
    if how == "annotation":
        app.conf.task_annotations = {"t": {option: wrong}}
    with pytest.raises((TypeError, ImproperlyConfigured), match=f"option `{option}`.*{told}"):
        app.task(name="t", **options.get(how, {}))(lambda: 1)


def test_options_of_every_kind_are_taken(app: Any) -> None:
    import datetime as dt

    app.task(
        name="t",
        max_retries=None,
        time_limit=1.5,
        autoretry_for=[ValueError, KeyError],
        throws={KeyError},
        expires=dt.timedelta(hours=1),
        default_retry_delay=dt.timedelta(seconds=1),
        retry_backoff=2,
        priority=0,
        acks_late=None,
        retry_kwargs={"max_retries": 1},
    )(lambda: 1)


@pytest.mark.parametrize(("said", "seen"), [(None, False), (False, False), (True, True)])
def test_the_request_says_whether_the_result_is_wanted(core: Any, said: Any, seen: bool) -> None:
    from taskcore.context import Context

    assert Context(core.Request(id="i", task="t", ignore_result=said)).ignore_result is seen
    assert Context().ignore_result is False


@pytest.mark.parametrize("base", [None, "hooks"])
def test_apply_retries_here_what_retry_gave_back(app: Any, base: str | None) -> None:
    class Hooks(Task[..., Any]):
        def after_return(self, *args: Any) -> None: ...

    tries: list[str] = []

    @app.task(bind=True, max_retries=3, **({"base": Hooks} if base else {}))  # type: ignore[untyped-decorator]
    def until(self: Any, n: int) -> Any:
        tries.append(self.request.hostname)
        return self.retry(throw=False) if self.request.retries < n else n

    assert until.apply((2,)).get() == 2
    assert tries == [app.node] * 3


def test_a_shared_task_is_pickled_as_the_task_that_it_stands_for(app: Any) -> None:
    import pickle

    from taskcore import shared_task

    shared = shared_task(name="shared.one")(len)
    assert pickle.loads(pickle.dumps(shared)) is app.tasks["shared.one"]
