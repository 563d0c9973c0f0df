"""The stand-ins of shared tasks, of the current app and the current task: they answer for what they
stand in for, also to `mock` and `inspect`."""

import inspect
from typing import Any
from unittest import mock

import pytest

from taskcore import Task, Taskcore, current_app, current_task, shared_task


@pytest.fixture
def shared(app: Taskcore) -> Any:
    @shared_task(name="proxy.shared")
    def send_email(to: str) -> str:
        "Sends it."
        return to

    return send_email


def test_what_it_is(app: Taskcore, shared: Any) -> None:
    assert isinstance(shared, Task)
    assert isinstance(current_app, Taskcore)
    assert not isinstance(current_task, Task)
    assert current_app._get_current_object() is app
    assert shared._get_current_object() is app.tasks["proxy.shared"]


def test_what_is_read_of_it(shared: Any) -> None:
    assert shared.__doc__ == inspect.getdoc(shared) == "Sends it."
    assert shared.__module__ == __name__
    assert shared.__wrapped__("x") == "x"
    assert "delay" in dir(shared)
    assert vars(shared)["name"] == "proxy.shared"


@pytest.mark.parametrize("name", ["delay", "apply_async", "run"])
def test_a_patched_attribute_is_put_back(shared: Any, name: str) -> None:
    before = getattr(shared, name)
    with mock.patch.object(shared, name) as patched:
        getattr(shared, name)("somebody")
    patched.assert_called_once_with("somebody")
    assert getattr(shared, name) == before


def test_an_attribute_is_deleted_where_it_was_set(app: Taskcore, shared: Any) -> None:
    shared.note = 1
    del shared.note
    assert "note" not in vars(app.tasks["proxy.shared"])


def test_a_mock_takes_its_shape(shared: Any) -> None:
    made = mock.create_autospec(shared)
    made.delay("x")
    made.delay.assert_called_once_with("x")
    with pytest.raises(AttributeError):
        made.dealy("x")
