"""Celery's names that this version does not have: one clear error each."""

import logging
from typing import Any

import pytest

import taskcore
from taskcore import current, signals, unsupported
from taskcore.exceptions import NotSupportedError, SettingIgnored
from taskcore.result import AsyncResult


@pytest.mark.parametrize("name", sorted(unsupported.APP))
def test_of_an_app(app: Any, name: str) -> None:
    with pytest.raises(NotSupportedError, match=f"`{name}` of Celery's `Taskcore`"):
        getattr(app, name)
    assert not hasattr(app, name)


@pytest.mark.parametrize("name", sorted(unsupported.TASK))
def test_of_a_task(app: Any, name: str) -> None:
    task = app.task(lambda: 1, name="t")
    with pytest.raises(NotSupportedError, match=f"`{name}` of Celery's `Task`"):
        getattr(task, name)


@pytest.mark.parametrize("name", sorted(unsupported.MODULES))
def test_a_module_of_celerys(name: str) -> None:
    package, _, last = f"taskcore.{name}".rpartition(".")
    for statement in (
        f"import taskcore.{name}",
        f"from {package} import {last}",
        f"from taskcore.{name} import anything",
        f"from taskcore.{name}.deeper import anything",
    ):
        with pytest.raises(ModuleNotFoundError, match=f"`celery.{name}` has no") as caught:
            exec(statement, {})
        assert isinstance(caught.value, NotSupportedError)


def test_modules_that_nobody_has_are_the_ordinary_error() -> None:
    for name in ("taskcore.nowhere", "taskcore.app.nowhere", "nowhere"):
        with pytest.raises(ModuleNotFoundError, match=f"No module named '{name}'"):
            exec(f"import {name}", {})


def test_the_modules_that_are_missing_are_celerys() -> None:
    from importlib.util import find_spec

    assert [name for name in unsupported.MODULES if find_spec(f"celery.{name}") is None] == []


def test_names_of_celerys_app_that_are_here(app: Any, core: Any) -> None:
    from taskcore.app import app_or_default
    from taskcore.app.log import TaskFormatter
    from taskcore.context import reset_request, set_request
    from taskcore.contrib.django.task import DjangoTask

    assert app_or_default(app) is app and app_or_default() is current.get_app()
    assert DjangoTask is taskcore.Task
    formatter = TaskFormatter("%(task_name)s[%(task_id)s] %(message)s", use_color=False)
    record = logging.makeLogRecord({"msg": "hello"})
    assert formatter.format(record) == "???[???] hello"
    token = set_request(core.Request(id="i", task="t"))
    try:
        assert formatter.format(record) == "t[i] hello"
    finally:
        reset_request(token)


def test_other_names_are_the_ordinary_error(app: Any) -> None:
    task, found = app.task(lambda: 1, name="t"), AsyncResult("i", app=app)
    for owner, name, near in [
        (app, "send_tsk", "send_task"),
        (task, "aply_async", "apply_async"),
        (found, "sucessful", "successful"),
    ]:
        with pytest.raises(AttributeError, match=f"`{name}`, did you mean `{near}`") as caught:
            getattr(owner, name)
        assert not isinstance(caught.value, NotSupportedError)
    with pytest.raises(ImportError, match="cannot import name"):
        exec("from taskcore import grup", {})


UNSENT = [name for name in vars(signals) if isinstance(getattr(signals, name), signals._Unsent)]


@pytest.mark.parametrize("name", UNSENT)
def test_a_signal_that_nobody_sends_warns_and_keeps_receivers(name: str) -> None:
    signal = getattr(signals, name)
    with pytest.warns(SettingIgnored, match=f"signal `{name}` is not sent"):

        @signal.connect
        def receive(**_: Any) -> None: ...

    assert signal.has_listeners() and signal.disconnect(receive)


def test_every_signal_of_celery_is_here() -> None:
    import celery.signals

    assert {*celery.signals.__all__} - vars(signals).keys() == set()
    for name in celery.signals.__all__:
        assert isinstance(getattr(signals, name), signals.Signal)
