"""Fixtures for tests, as a plugin of pytest: an app with a broker in memory, and a worker in a thread.

Each has two names: Celery's, `celery_app`, and `taskcore_app`. The fixtures that only say something
(`..._config`, `..._parameters`, ...) are for you to override, under either name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

MARKER = "celery(**settings): settings for the app of the fixture `celery_app`; `taskcore` is another name"


def pytest_configure(config: Any) -> None:
    """Makes the markers known."""
    config.addinivalue_line("markers", MARKER)
    config.addinivalue_line("markers", "taskcore(**settings): as the marker `celery`")


@contextmanager
def _app(use_trap: bool, parameters: dict[str, Any], config: dict[str, Any]) -> Iterator[Any]:
    from taskcore.contrib.testing.app import TestApp, setup_default_app

    app = TestApp(set_as_current=False, config=config, **parameters)
    with setup_default_app(app, use_trap=use_trap):
        yield app


# What may be overridden


@pytest.fixture(scope="session")
def celery_config() -> dict[str, Any]:
    """Settings of the app."""
    return {}


@pytest.fixture(scope="session")
def taskcore_config() -> dict[str, Any]:
    """Settings of the app, over those of `celery_config`."""
    return {}


@pytest.fixture(scope="session")
def celery_parameters() -> dict[str, Any]:
    """Arguments of the app's constructor."""
    return {}


@pytest.fixture(scope="session")
def taskcore_parameters() -> dict[str, Any]:
    """Arguments of the app's constructor, over those of `celery_parameters`."""
    return {}


@pytest.fixture(scope="session")
def celery_worker_parameters() -> dict[str, Any]:
    """Arguments of `start_worker`."""
    return {}


@pytest.fixture(scope="session")
def taskcore_worker_parameters() -> dict[str, Any]:
    """Arguments of `start_worker`, over those of `celery_worker_parameters`."""
    return {}


@pytest.fixture(scope="session")
def celery_worker_pool() -> str:
    """Where tasks run: `solo` or `threads`."""
    return "solo"


@pytest.fixture(scope="session")
def taskcore_worker_pool(celery_worker_pool: str) -> str:
    """Another name of `celery_worker_pool`."""
    return celery_worker_pool


@pytest.fixture(scope="session")
def celery_includes() -> list[str]:
    """Modules to import before the worker of the session starts."""
    return []


@pytest.fixture(scope="session")
def taskcore_includes(celery_includes: list[str]) -> list[str]:
    """Another name of `celery_includes`."""
    return celery_includes


@pytest.fixture(scope="session")
def celery_class_tasks() -> list[Any]:
    """Class-based tasks to register with the app of the session."""
    return []


@pytest.fixture(scope="session")
def taskcore_class_tasks(celery_class_tasks: list[Any]) -> list[Any]:
    """Another name of `celery_class_tasks`."""
    return celery_class_tasks


@pytest.fixture(scope="session")
def celery_enable_logging() -> bool:
    """Accepted: the loggers of a test are left alone."""
    return False


@pytest.fixture(scope="session")
def use_celery_app_trap() -> bool:
    """Whether asking for the current app is an error."""
    return False


@pytest.fixture(scope="session")
def use_taskcore_app_trap(use_celery_app_trap: bool) -> bool:
    """Another name of `use_celery_app_trap`."""
    return use_celery_app_trap


# What is made of it


@pytest.fixture
def celery_app(
    request: pytest.FixtureRequest,
    celery_config: dict[str, Any],
    taskcore_config: dict[str, Any],
    celery_parameters: dict[str, Any],
    taskcore_parameters: dict[str, Any],
    use_taskcore_app_trap: bool,
) -> Iterator[Any]:
    """An app for this test, the current one while it lasts, with a broker in memory."""
    marks = [request.node.get_closest_marker(name) for name in ("celery", "taskcore")]
    settings = {**celery_config, **taskcore_config}
    for mark in filter(None, marks):
        settings |= mark.kwargs
    with _app(use_taskcore_app_trap, {**celery_parameters, **taskcore_parameters}, settings) as app:
        if not use_taskcore_app_trap:
            app.set_current()
        yield app


@pytest.fixture
def taskcore_app(celery_app: Any) -> Any:
    """Another name of `celery_app`."""
    return celery_app


@pytest.fixture
def depends_on_current_app(celery_app: Any) -> None:
    """Makes the app of the test the current one, also where that is trapped."""
    celery_app.set_current()


@pytest.fixture
def celery_worker(
    celery_app: Any,
    taskcore_includes: list[str],
    taskcore_worker_pool: str,
    celery_worker_parameters: dict[str, Any],
    taskcore_worker_parameters: dict[str, Any],
) -> Iterator[Any]:
    """A worker for this test, in a thread."""
    with _worker(
        celery_app,
        taskcore_includes,
        {
            "pool": taskcore_worker_pool,
            **celery_worker_parameters,
            **taskcore_worker_parameters,
        },
    ) as worker:
        yield worker


@pytest.fixture
def taskcore_worker(celery_worker: Any) -> Any:
    """Another name of `celery_worker`."""
    return celery_worker


@pytest.fixture(scope="session")
def celery_session_app(
    celery_config: dict[str, Any],
    taskcore_config: dict[str, Any],
    celery_parameters: dict[str, Any],
    taskcore_parameters: dict[str, Any],
    use_taskcore_app_trap: bool,
) -> Iterator[Any]:
    """An app for all tests."""
    settings = {**celery_config, **taskcore_config}
    with _app(use_taskcore_app_trap, {**celery_parameters, **taskcore_parameters}, settings) as app:
        if not use_taskcore_app_trap:
            app.set_default()
        yield app


@pytest.fixture(scope="session")
def taskcore_session_app(celery_session_app: Any) -> Any:
    """Another name of `celery_session_app`."""
    return celery_session_app


@pytest.fixture(scope="session")
def celery_session_worker(
    celery_session_app: Any,
    taskcore_includes: list[str],
    taskcore_class_tasks: list[Any],
    taskcore_worker_pool: str,
    celery_worker_parameters: dict[str, Any],
    taskcore_worker_parameters: dict[str, Any],
) -> Iterator[Any]:
    """A worker for all tests, in a thread."""
    for task in taskcore_class_tasks:
        celery_session_app.register_task(task)
    with _worker(
        celery_session_app,
        taskcore_includes,
        {
            "pool": taskcore_worker_pool,
            **celery_worker_parameters,
            **taskcore_worker_parameters,
        },
    ) as worker:
        yield worker


@pytest.fixture(scope="session")
def taskcore_session_worker(celery_session_worker: Any) -> Any:
    """Another name of `celery_session_worker`."""
    return celery_session_worker


@contextmanager
def _worker(app: Any, includes: list[str], parameters: dict[str, Any]) -> Iterator[Any]:
    from importlib import import_module

    from taskcore.contrib.testing.worker import start_worker

    for name in includes:
        import_module(name)
    with start_worker(app, **parameters) as worker:
        yield worker
