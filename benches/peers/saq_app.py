"""saq: a hundred coroutines in each process."""

import asyncio
import os
import sys
import time

from saq import Queue

import tally

queue = Queue.from_url(os.environ["BENCH_BROKER"])
PACKAGES = ["saq[redis]", "typing_extensions", "hiredis", "uvloop"]


async def noop(ctx, *, i):
    tally.mark()


async def noop_result(ctx, *, i):
    tally.mark()
    return i


settings = {"queue": queue, "functions": [noop, noop_result], "concurrency": 100}


async def _publish(kind, first, last):
    await queue.connect()
    for i in range(first, last):
        await queue.enqueue(kind, i=i, ttl=600)
    await queue.disconnect()


def publish(kind, first, last):
    asyncio.run(_publish(kind, first, last))


async def _roundtrip(times):
    await queue.connect()
    spans = []
    for i in range(times):
        begun = time.perf_counter_ns()
        job = await queue.enqueue("noop_result", i=i, ttl=600)
        # Its own `apply` waits for ever when the job is done before it listens, so look instead.
        while not job.completed:
            await asyncio.sleep(0.0005)
            await job.refresh()
        spans.append(time.perf_counter_ns() - begun)
    await queue.disconnect()
    return spans


def roundtrip(times):
    return asyncio.run(_roundtrip(times))


def command(kind, processes):
    saq = os.path.join(os.path.dirname(sys.executable), "saq")
    return [saq, "saq_app.settings", "--workers", str(processes)]
