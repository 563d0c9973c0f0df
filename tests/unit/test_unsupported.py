"""Celery's names that this version does not have: one clear error each."""

from typing import Any

import pytest

import taskcore
from taskcore import canvas, result, schedules, signals, unsupported
from taskcore.exceptions import NotSupportedError
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


@pytest.mark.parametrize("name", sorted(unsupported.RESULT))
def test_of_a_result(app: Any, name: str) -> None:
    with pytest.raises(NotSupportedError, match=f"`{name}` of Celery's `AsyncResult`"):
        getattr(AsyncResult("i", app), name)


@pytest.mark.parametrize("name", sorted(unsupported.PACKAGE))
@pytest.mark.parametrize("module", [taskcore, canvas, result, schedules])
def test_of_a_module(module: Any, name: str) -> None:
    with pytest.raises(NotSupportedError, match=f"`{name}` of Celery's"):
        exec(f"from {module.__name__} import {name}", {})


def test_other_names_are_the_ordinary_error(app: Any) -> None:
    task, found = app.task(lambda: 1, name="t"), AsyncResult("i", app)
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


@pytest.mark.parametrize(
    "name", ["task_received", "task_revoked", "task_unknown", "heartbeat_sent", "beat_init"]
)
def test_a_signal_that_nobody_sends_refuses_receivers(name: str) -> None:
    with pytest.raises(NotSupportedError, match=f"signal `{name}` is not sent"):

        @getattr(signals, name).connect
        def receive(**_: Any) -> None: ...
