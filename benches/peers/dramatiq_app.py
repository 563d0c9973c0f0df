"""dramatiq: eight threads in each process, which served it best."""

import os
import sys
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

import tally

URL = os.environ["BENCH_BROKER"]
broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
dramatiq.set_broker(broker)
PACKAGES = ["dramatiq[redis]", "hiredis"]


@dramatiq.actor
def noop(i):
    tally.mark()


@dramatiq.actor(store_results=True)
def noop_result(i):
    tally.mark()
    return i


def publish(kind, first, last):
    send = {"noop": noop, "noop_result": noop_result}[kind].send
    for i in range(first, last):
        send(i)


def roundtrip(times):
    spans = []
    for i in range(times):
        begun = time.perf_counter_ns()
        noop_result.send(i).get_result(block=True, timeout=10_000)
        spans.append(time.perf_counter_ns() - begun)
    return spans


def command(kind, processes):
    return [sys.executable, "-m", "dramatiq", "dramatiq_app", "-p", str(processes), "-t", "8"]
