"""taskcore: late acknowledgement, as the figure of the harness is at-least-once."""

import os
import sys
import time
from pathlib import Path

import tally
from compositions import Compositions
from taskcore import Taskcore, canvas

URL = os.environ["BENCH_BROKER"]
app = Taskcore("bench", broker_url=URL, result_backend=URL, task_acks_late=True)
PACKAGES: list[str] = []


@app.task(name="bench.noop", ignore_result=True)
def noop(i: int) -> None:
    tally.mark()


@app.task(name="bench.noop_result")
def noop_result(i: int) -> int:
    tally.mark()
    return i


@app.task(name="bench.started")
def started() -> int:
    return time.monotonic_ns()


@app.task(name="bench.step")
def step(number: int) -> int:
    return number + 1


@app.task(name="bench.add_up")
def add_up(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(name="bench.lateness", ignore_result=True)
def lateness(due: float) -> None:
    late = time.time() - due
    with open(f"{os.environ['TALLY_DIR']}/{os.getpid()}.late", "a") as out:
        out.write(f"{late}\n")
    tally.mark()


workflows = Compositions(canvas, noop_result, step, add_up)
TASKS = {"noop": noop, "noop_result": noop_result}


def publish(kind: str, first: int, last: int) -> None:
    delay = TASKS[kind].delay
    for i in range(first, last):
        delay(i)


def publish_bulk(kind: str, first: int, last: int) -> None:
    TASKS[kind].apply_many((i,) for i in range(first, last))


def roundtrip(times: int) -> list[int]:
    spans = []
    for i in range(times):
        begun = time.perf_counter_ns()
        noop_result.delay(i).get(timeout=10)
        spans.append(time.perf_counter_ns() - begun)
    return spans


def command(kind: str, processes: int) -> list[str]:
    taskcore = str(Path(sys.executable).with_name("taskcore"))
    queue = "celery" if kind == "celery" else "taskcore"
    return [
        taskcore,
        "-A",
        "taskcore_app",
        "worker",
        "-c",
        str(processes),
        "-Q",
        queue,
        "-l",
        "warning",
        "-q",
    ]
