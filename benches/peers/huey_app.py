"""huey: pops without acknowledging, so a crash loses what ran."""

import os
import sys
import time

from huey import RedisHuey

import tally

huey = RedisHuey("bench", url=os.environ["BENCH_BROKER"])
PACKAGES = ["huey", "redis", "hiredis"]


@huey.task()
def noop(i):
    tally.mark()


@huey.task()
def noop_result(i):
    tally.mark()
    return i


def publish(kind, first, last):
    task = {"noop": noop, "noop_result": noop_result}[kind]
    for i in range(first, last):
        task(i)


def roundtrip(times):
    spans = []
    for i in range(times):
        begun = time.perf_counter_ns()
        # A result of 0 reads as none, hence the 1.
        noop_result(i + 1)(blocking=True, timeout=10, backoff=1, max_delay=0.0005)
        spans.append(time.perf_counter_ns() - begun)
    return spans


def command(kind, processes):
    consumer = os.path.join(os.path.dirname(sys.executable), "huey_consumer")
    return [
        consumer,
        "huey_app.huey",
        "-k",
        "process",
        "-w",
        str(processes),
        "-q",
        "-n",
        "-d",
        "0.001",
    ]
