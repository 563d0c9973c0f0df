"""taskiq: its list broker, a hundred coroutines, a prefetch of 64."""

import asyncio
import os
import sys
import time

from taskiq.serializers import ORJSONSerializer
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

import tally

URL = os.environ["BENCH_BROKER"]
results = RedisAsyncResultBackend(redis_url=URL, result_ex_time=600)
broker = ListQueueBroker(url=URL).with_result_backend(results).with_serializer(ORJSONSerializer())
PACKAGES = ["taskiq", "taskiq-redis", "hiredis", "uvloop", "orjson"]


@broker.task
async def noop(i: int):
    tally.mark()


@broker.task
async def noop_result(i: int):
    tally.mark()
    return i


async def _publish(kind, first, last):
    await broker.startup()
    task = {"noop": noop, "noop_result": noop_result}[kind]
    for i in range(first, last):
        await task.kiq(i)
    await broker.shutdown()


def publish(kind, first, last):
    asyncio.run(_publish(kind, first, last))


async def _roundtrip(times):
    await broker.startup()
    spans = []
    for i in range(times):
        begun = time.perf_counter_ns()
        task = await noop_result.kiq(i)
        await task.wait_result(check_interval=0.0005, timeout=10)
        spans.append(time.perf_counter_ns() - begun)
    await broker.shutdown()
    return spans


def roundtrip(times):
    return asyncio.run(_roundtrip(times))


def command(kind, processes):
    taskiq = os.path.join(os.path.dirname(sys.executable), "taskiq")
    words = [
        taskiq,
        "worker",
        "taskiq_app:broker",
        "-w",
        str(processes),
        "--max-async-tasks",
        "100",
    ]
    return [*words, "--max-prefetch", "64", "--log-level", "ERROR"]
