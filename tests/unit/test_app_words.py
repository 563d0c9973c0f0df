"""Words of Celery's that a program says to its app: the signals of its being complete, the
configuration as a mapping, defaults, and the package's parts."""

import subprocess
import sys
from typing import Any

import pytest

import taskcore
from taskcore import Taskcore
from taskcore.exceptions import NotSupportedError


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


@pytest.mark.parametrize(
    ("name", "instead"), [("setdefault", "add_defaults"), ("pop", "None"), ("clear", "None")]
)
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
