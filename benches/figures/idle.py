"""A connected worker of two children with nothing to do: its CPU, and its memory beyond the
interpreter with the same imports."""

import statistics
import subprocess
import sys
import time

from common import line, machine, runs

SECONDS = 15


def bare(env: dict[str, str]) -> float:
    """PSS of an interpreter that has imported click, which is all that the user's app brings in here."""
    code = "import click, sys; print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        pss = machine.pss_mib([process.pid])
        process.stdin.close()
    return pss


def main() -> None:
    """Measures and prints."""
    cpu, memory = [], []
    with machine.redis() as server, machine.folder() as folder:
        env = machine.environment(server.url, TALLY_DIR=str(folder))
        words = ["-A", "taskcore_app", "worker", "-c", "2", "-l", "warning", "-q"]
        for _ in range(runs(3)):
            with machine.running(machine.ours(*words), env, folder / "log") as worker:
                machine.wait(lambda: len(machine.tree(worker.pid)) >= 4, "the children", 20)
                time.sleep(2)  # what a start costs is not idling
                pids = machine.tree(worker.pid)
                before = machine.cpu_seconds(pids)
                time.sleep(SECONDS)
                cpu.append(100 * (machine.cpu_seconds(pids) - before) / SECONDS)
                memory.append(machine.pss_mib(pids) - bare(env))
    line("idle CPU of a connected worker", statistics.median(cpu), "% core", 0.5, at_least=False)
    line(
        "worker with two children beyond a bare interpreter",
        statistics.median(memory),
        "MiB PSS",
        40,
        at_least=False,
    )


if __name__ == "__main__":
    main()
