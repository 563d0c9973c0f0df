"""Words of Celery's that a program says to its app: the signals of its being complete, the
configuration as a mapping, defaults, and the package's parts."""

import subprocess
import sys
from typing import Any

import pytest

import taskcore
from taskcore import Taskcore
from taskcore.exceptions import ImproperlyConfigured, NotSupportedError


@pytest.mark.parametrize("way", ["delay", "send_task", "apply", "send_many"])
def test_an_app_is_complete_with_its_first_call(app: Taskcore, way: str) -> None:
    seen: list[Any] = []
    task = app.task(lambda: None, name="t")

    def configured(sender: Any, source: Any, **_: Any) -> None:
        seen.append(source)
        app.conf.task_default_queue = "changed"
        task.delay()

    app.on_after_configure.connect(configured, weak=False)
    app.on_after_finalize.connect(lambda sender, **_: seen.append(sender), weak=False)
    assert seen == []
    calls = {
        "send_task": lambda: app.send_task("t"),
        "send_many": lambda: app.send_many([task.s()]),
    }
    for _ in range(2):
        calls.get(way, getattr(task, way, None))()
    assert [id(each) for each in seen] == [id(app.conf), id(app)]
    assert {template.fields["queue"] for template, *_ in app.publisher.sent} <= {"changed"}


@pytest.mark.parametrize("moment", ["on_after_configure", "on_after_finalize"])
def test_what_an_app_cannot_have_is_said_by_every_call(app: Taskcore, moment: str) -> None:
    task = app.task(lambda: None, name="t")

    def configured(sender: Any, **_: Any) -> None:
        sender.setup_security()

    getattr(app, moment).connect(configured, weak=False)
    for _ in range(2):
        with pytest.raises(NotSupportedError, match="setup_security"):
            task.delay()
    assert app.publisher.sent == []


def test_another_error_of_a_receiver_is_logged(
    app: Taskcore, caplog: pytest.LogCaptureFixture
) -> None:
    app.on_after_configure.connect(lambda **_: 1 / 0, weak=False)
    app.finalize()
    assert app.finalized and "division by zero" in caplog.text


def test_the_configuration_is_read_as_a_mapping(app: Taskcore) -> None:
    conf: Any = app.conf
    assert dict(conf.items()) == conf.copy() == dict(zip(conf.keys(), conf.values(), strict=True))
    copied = conf.copy()
    copied["task_time_limit"] = 3
    assert conf["task_time_limit"] is None


@pytest.mark.parametrize(("name", "instead"), [("popitem", "None"), ("clear", "None")])
def test_what_a_configuration_has_not_of_a_dict_says_so(
    app: Taskcore, name: str, instead: str
) -> None:
    with pytest.raises(NotSupportedError, match=f"`{name}`.*{instead}"):
        getattr(app.conf, name)
    assert not hasattr(app.conf, name)


def test_defaults_may_be_a_function(app: Taskcore) -> None:
    app.add_defaults(lambda: {"task_time_limit": 7})
    assert app.conf.task_time_limit == 7


@pytest.mark.parametrize("name", ["TYPE_CHECKING", "annotations"])
def test_what_the_package_needs_itself_cannot_be_imported(name: str) -> None:
    assert not hasattr(taskcore, name) and name not in dir(taskcore)


@pytest.mark.parametrize("name", ["app", "canvas", "schedules", "testing", "utils"])
def test_a_part_is_an_attribute_of_the_package(name: str) -> None:
    script = f"import sys; sys.path[:0] = {sys.path!r}\nimport taskcore; print(taskcore.{name})"
    ran = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True)
    assert f"module 'taskcore.{name}'" in ran.stdout, ran.stderr


def test_what_a_program_has_set_is_taken_back(app: Taskcore) -> None:
    app.config_from_object({"task_time_limit": 5})
    app.conf.task_time_limit = 7
    assert app.conf.setdefault("task_time_limit", 9) == 7
    assert app.conf.pop("CELERYD_TASK_TIME_LIMIT") == 7
    assert app.conf.task_time_limit == 5
    assert app.conf.pop("task_time_limit", "none") == "none"
    with pytest.raises(KeyError):
        app.conf.pop("task_time_limit")
    assert app.conf.setdefault("my_thing", 1) == 1 and app.conf.my_thing == 1
    app.conf.freeze()
    with pytest.raises(ImproperlyConfigured, match=r"cannot set `broker_url`.*frozen"):
        app.conf.pop("broker_url")
    assert app.conf.broker_url == "memory://"


def test_queues_are_selected(app: Taskcore) -> None:
    from taskcore.worker.boot import WorkerOptions, queues_of

    app.conf.task_queues = ["one", "two"]
    app.select_queues()
    assert queues_of(app, WorkerOptions()) == ["one", "two"]
    app.select_queues(["two"])
    assert queues_of(app, WorkerOptions()) == ["two"]
    app.select_queues("one")
    assert queues_of(app, WorkerOptions()) == ["one"]


class Owned:
    """A class of a library, with the app to come."""

    app: Any = None

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce_args__(self) -> tuple[int]:
        return (self.number,)


def test_a_class_belongs_to_an_app(app: Taskcore) -> None:
    import pickle

    made: Any = app.subclass_with_self(Owned, extra=1)
    assert issubclass(made, Owned) and (made.app, made.extra, made.__name__) == (app, 1, "Owned")
    app.Owned = made  # type: ignore[attr-defined]
    app.set_current()
    again = pickle.loads(pickle.dumps(made(3)))
    assert type(again) is made and again.number == 3
    named: Any = app.subclass_with_self(
        "collections:Counter", name="Mine", attribute="owner", keep_reduce=True
    )
    assert named.owner is app and named.__name__ == "Mine" and "__reduce__" not in vars(named)


def test_a_request_is_pushed_for_the_body(app: Taskcore) -> None:
    @app.task(bind=True, name="t")
    def body(self: Any) -> tuple[Any, ...]:
        return self.request.id, self.request.retries, self.request.called_directly

    body.push_request(id="1", retries=2)
    assert body.request.id == "1" and body() == ("1", 2, True)
    body.push_request({"retries": 3}, called_directly=False)
    assert body() == ("1", 3, False)
    body.pop_request()
    assert body() == ("1", 2, True)
    body.pop_request()
    body.pop_request()
    assert body() == (None, 0, True) and body.request.id is None
