"""The other side: a stock Celery app with the tasks that the compatibility tests call, by the same
names."""

import json
import os
import time
from typing import Any

from celery import Celery

URL = os.environ["STOCK_URL"]
app = Celery("stock", broker=URL, backend=URL)
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
    result_expires=600,
    result_extended=os.environ.get("STOCK_EXTENDED") == "1",
    **json.loads(os.environ.get("STOCK_CONF", "{}")),
)


def write(text: object) -> None:
    """Appends one line to the ledger."""
    handle = os.open(os.environ["SAMPLE_LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, f"{text}\n".encode())
    finally:
        os.close(handle)


@app.task(name="sample.add")
def add(x: int, y: int = 1) -> int:
    return x + y


@app.task(name="sample.echo")
def echo(value: Any) -> Any:
    return value


@app.task(name="sample.fail")
def fail(message: str) -> None:
    raise ValueError(message)


@app.task(name="sample.log")
def log(text: str) -> str:
    write(text)
    return text


@app.task(name="sample.now")
def now() -> float:
    return time.time()


@app.task(name="sample.try_until", bind=True)
def try_until(self: Any, times: int) -> int:
    write(f"try {self.request.retries}")
    if self.request.retries < times:
        raise self.retry(countdown=0)
    return int(self.request.retries)


@app.task(name="sample.describe", bind=True)
def describe(self: Any) -> dict[str, Any]:
    request = self.request
    return {
        "id": request.id,
        "task": request.task,
        "retries": request.retries,
        "args": list(request.args),
        "kwargs": dict(request.kwargs),
        "routing_key": request.delivery_info["routing_key"],
        "root_id": request.root_id,
        "origin": request.origin,
    }
