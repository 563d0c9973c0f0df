"""Packages that import Celery, with taskcore in its place."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.process import TASKCORE, Process
from support.wait import until

WAIT = 90
TASKS = """
import os
from celery import Celery
app = Celery("addons", broker=os.environ["BROKER"], backend=os.environ["BROKER"])

@app.task
def add(x, y):
    return x + y

@app.task
def fail():
    raise ValueError("seen by the add-on")

@app.task
async def later():
    return "later"
"""
SENTRY = """
import json, os, sentry_sdk
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.transport import Transport

class ToFile(Transport):
    def capture_envelope(self, envelope):
        with open("told", "a") as file:
            for item in envelope.items:
                if item.payload.json is not None:
                    file.write(json.dumps(item.payload.json, default=str) + "\\n")

sentry_sdk.init(dsn="http://key@localhost:9/1", transport=ToFile, traces_sample_rate=1.0, integrations=[CeleryIntegration()])
"""
OTEL = """
import json
from celery.signals import worker_process_init
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

class ToFile(SpanExporter):
    def export(self, spans):
        with open("told", "a") as file:
            for span in spans:
                file.write(json.dumps(json.loads(span.to_json())) + "\\n")
        return SpanExportResult.SUCCESS

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ToFile()))
trace.set_tracer_provider(provider)
CeleryInstrumentor().instrument()
"""


class Addon:
    """A worker with an add-on, and what that has told."""

    def __init__(self, folder: Path, source: str) -> None:
        self.folder = folder
        (folder / "addons.py").write_text(source + TASKS)
        self.env = {"BROKER": f"sqlite:///{folder / 'queue.db'}"}
        command = [TASKCORE, "celery", "-A", "addons", "worker", "-c", "1", "-l", "info"]
        self.worker = Process(command, cwd=folder, env=self.env)
        self.worker.wait_for(r"\bready\b", WAIT)

    def call(self, source: str) -> None:
        """Runs a program that calls tasks."""
        text = "import taskcore.as_celery\nfrom addons import *\n" + textwrap.dedent(source)
        done = subprocess.run(
            [sys.executable, "-c", text],
            cwd=self.folder,
            env=os.environ | self.env,
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def told(self) -> list[dict[str, Any]]:
        """What the add-on has said so far, in this process and in the worker's."""
        path = self.folder / "told"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def addon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Addon]:
    made = Addon(tmp_path, request.param)
    yield made
    try:
        assert made.worker.stop() == 0, made.worker.output
    finally:
        made.worker.kill()


@pytest.mark.parametrize("addon", [SENTRY], indirect=True, ids=["sentry"])
def test_sentry_sees_failures_and_traces(addon: Addon) -> None:
    addon.call("""
        with sentry_sdk.start_transaction(name="web"):
            assert add.delay(1, 2).get(timeout=60) == 3
            assert later.delay().get(timeout=60) == "later"
            failed = fail.delay()
            try:
                failed.get(timeout=60)
            except ValueError:
                pass
    """)

    def failure() -> list[dict[str, Any]]:
        return [event for event in addon.told() if event.get("exception")]

    def transactions() -> dict[str, dict[str, Any]]:
        return {e["transaction"]: e for e in addon.told() if e.get("type") == "transaction"}

    until(lambda: bool(failure()), "the failure")
    (event,) = failure()
    assert event["exception"]["values"][-1]["value"] == "seen by the add-on"
    assert event["exception"]["values"][-1]["mechanism"]["type"] == "celery"
    assert event["extra"]["celery-job"]["task_name"] == "addons.fail"
    until(lambda: len(transactions()) >= 4, "the transactions")
    traces = {e["contexts"]["trace"]["trace_id"] for e in transactions().values()}
    assert set(transactions()) == {"web", "addons.add", "addons.later", "addons.fail"}
    assert len(traces) == 1, "the task belongs to the trace of its caller"


@pytest.mark.parametrize("addon", [OTEL], indirect=True, ids=["opentelemetry"])
def test_opentelemetry_sees_calls_and_executions(addon: Addon) -> None:
    addon.call("""
        assert add.delay(1, 2).get(timeout=60) == 3
        try:
            fail.delay().get(timeout=60)
        except ValueError:
            pass
    """)

    def spans() -> dict[str, dict[str, Any]]:
        return {span["name"]: span for span in addon.told()}

    until(lambda: len(spans()) >= 4, "the spans")
    published, ran = spans()["apply_async/addons.add"], spans()["run/addons.add"]
    assert ran["parent_id"] == published["context"]["span_id"]
    assert ran["attributes"]["celery.state"] == "SUCCESS"
    assert spans()["run/addons.fail"]["status"]["status_code"] == "ERROR"
