"""One call, confirmed; a thousand calls in bulk; encoding alone (nothing leaves the process with
`memory://`)."""

from typing import Any

import pytest

from taskcore import Taskcore

SMALL = (1, "two")
LARGE = ({"rows": [{"id": n, "name": f"row {n}", "value": n / 3} for n in range(100)]},)


def task(url: str, **options: Any) -> Any:
    app = Taskcore("micro", broker_url=url, **options)
    return app.task(lambda *args: None, name="micro.noop", ignore_result=True)


@pytest.mark.parametrize("arguments", [SMALL, LARGE], ids=["small", "large"])
def test_delay(benchmark: Any, broker: str, arguments: tuple[Any, ...]) -> None:
    benchmark(task(broker).delay, *arguments)


def test_apply_many(benchmark: Any, broker: str) -> None:
    calls = [(n,) for n in range(1000)]
    benchmark(task(broker).apply_many, calls)


@pytest.mark.parametrize("protocol", ["compact", 2], ids=["compact", "celery"])
@pytest.mark.parametrize("arguments", [SMALL, LARGE], ids=["small", "large"])
def test_encode(benchmark: Any, protocol: Any, arguments: tuple[Any, ...]) -> None:
    benchmark(task("memory://", task_protocol=protocol).delay, *arguments)
