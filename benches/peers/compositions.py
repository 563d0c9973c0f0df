"""The workflows that `workflows.py` times, built with the canvas of whichever system runs this."""

import json
import time
from pathlib import Path


class Compositions:
    """The canvas of a system (`chain`, `group`, `chord`), and its tasks `noop_result` (gives back
    its argument), `step` (adds one) and `add_up` (adds up a list)."""

    def __init__(self, canvas, noop_result, step, add_up):
        self.canvas = canvas
        self.noop_result, self.step, self.add_up = noop_result, step, add_up

    def numbers(self, size):
        return (self.noop_result.s(i) for i in range(size))

    def build(self, kind, size):
        """The workflow, and what it must give."""
        if kind == "group":
            return self.canvas.group(self.numbers(size)), list(range(size))
        if kind == "chord":
            header = self.canvas.group(self.numbers(size))
            return self.canvas.chord(header, self.add_up.s()), size * (size - 1) // 2
        if kind == "chain":
            return self.canvas.chain(
                self.step.s(0), *[self.step.s() for _ in range(size - 1)]
            ), size
        node = self.noop_result.s(1)
        for _ in range(size):
            node = self.canvas.chord([node, self.noop_result.s(1)], self.add_up.s())
        return node, size + 1

    def run(self, kind, size):
        """Seconds to compose, until all is published, and until the value is there; CPU seconds of
        the client; its peak RSS in KiB."""
        begun, cpu = time.perf_counter(), time.process_time()
        workflow, expected = self.build(kind, size)
        built = time.perf_counter() - begun
        result = workflow.delay()
        published = time.perf_counter() - begun
        found = result.get(timeout=300)
        spent = time.perf_counter() - begun
        if found != expected:
            raise SystemExit(f"{kind} of {size} gave {found!r:.100}, expected {expected!r:.100}")
        return built, published, spent, time.process_time() - cpu, peak_kib("self")


def peak_kib(pid):
    """Peak RSS of a process, as the kernel kept it."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmHWM:"))


def repeat(compositions, kind, size, times):
    """Prints the figures of so many runs as JSON, after a small one that opens the connections."""
    compositions.run(kind, min(size, 3))
    print(json.dumps([compositions.run(kind, size) for _ in range(times)]))
