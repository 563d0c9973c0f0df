"""Celery with the settings that served it best here: prefetch of 64, no gossip, mingle or heartbeat."""

import os
import sys
import time

from celery import Celery, canvas

import tally
from compositions import Compositions

URL = os.environ["BENCH_BROKER"]
app = Celery("bench", broker=URL, backend=URL)
app.conf.update(
    worker_prefetch_multiplier=64, broker_connection_retry_on_startup=True, result_expires=600
)
PACKAGES = ["celery[redis]", "hiredis"]


@app.task(name="bench.noop", ignore_result=True)
def noop(i):
    tally.mark()


@app.task(name="bench.noop_result")
def noop_result(i):
    tally.mark()
    return i


@app.task(name="bench.started")
def started():
    return time.monotonic_ns()


@app.task(name="bench.step")
def step(number):
    return number + 1


@app.task(name="bench.add_up")
def add_up(numbers):
    return sum(numbers)


workflows = Compositions(canvas, noop_result, step, add_up)


def publish(kind, first, last):
    task = {"noop": noop, "noop_result": noop_result, "celery": noop}[kind]
    with app.producer_pool.acquire(block=True) as producer:
        for i in range(first, last):
            task.apply_async((i,), producer=producer)


def roundtrip(times):
    spans = []
    for i in range(times):
        begun = time.perf_counter_ns()
        noop_result.delay(i).get(timeout=10)
        spans.append(time.perf_counter_ns() - begun)
    return spans


def command(kind, processes):
    words = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "celery_app",
        "worker",
        "-P",
        "prefork",
        "-c",
        str(processes),
    ]
    return [*words, "-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
