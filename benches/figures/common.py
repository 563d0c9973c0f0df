"""What every figure does: prints one line with the value, the least that is asked of it, and
whether it is reached."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import machine


def line(name: str, value: float, unit: str, bound: float, *, at_least: bool) -> None:
    """One figure."""
    reached = value >= bound if at_least else value <= bound
    words = "at least" if at_least else "at most"
    digits = 0 if bound >= 100 else 2
    verdict = "reached" if reached else "MISSED"
    print(
        f"{name:<58} {value:>12,.{digits}f} {unit:<8} {words} {bound:>9,g}  {verdict}", flush=True
    )


def note(name: str, value: float, unit: str) -> None:
    """A figure of the machine, to judge the others by."""
    print(f"{name:<58} {value:>12,.0f} {unit}", flush=True)


def client(code: str, env: dict[str, str], python: str = sys.executable) -> list[float]:
    """Runs a producer in a process of its own, with the bench app as `m`; it prints a JSON list of
    numbers last."""
    done = subprocess.run(
        [python, "-c", code], env=env, stdout=subprocess.PIPE, text=True, check=True
    )
    numbers: list[float] = json.loads(done.stdout.strip().splitlines()[-1])
    return numbers


def runs(default: int = 5) -> int:
    """How many times each figure is taken; `--runs N` or the environment of `make bench` says
    otherwise."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=int(os.environ.get("BENCH_RUNS", default)))
    return int(parser.parse_known_args()[0].runs)


__all__ = ["client", "line", "machine", "note", "runs"]
