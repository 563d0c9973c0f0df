"""Beats of the app `ticking`, and what its tasks have written."""

import json
import os
from collections import defaultdict
from datetime import datetime
from itertools import pairwise
from typing import Any

from support.process import TASKCORE, Process
from support.site import Site


class Beats:
    """Beats on one site.

    Args:
        schedule: `beat_schedule`.
        conf: other settings.
    """

    def __init__(self, site: Site, schedule: dict[str, Any] | None = None, **conf: Any) -> None:
        self.site = site
        self.env = site.env | {
            "SAMPLE_BROKER": site.broker,
            "SAMPLE_SCHEDULE": json.dumps(schedule or {}),
            "SAMPLE_CONF": json.dumps(conf),
        }

    def start(self, *options: str) -> Process:
        """Starts a beat, logging at INFO."""
        command = [TASKCORE, "-A", "ticking", "beat", "-l", "info", *options]
        beat = Process(command, cwd=self.site.folder, env=self.env)
        self.site.processes.append(beat)
        return beat

    def worker(self, *options: str) -> Process:
        """Starts a worker."""
        return self.site.worker("-c", "1", *options, app="ticking", env=self.env)

    def cli(self, *words: str, code: int = 0) -> str:
        """Runs `taskcore beat` with a command; what it says."""
        command = [TASKCORE, "-A", "ticking", "beat", *words]
        done = Process(command, cwd=self.site.folder, env=self.env)
        assert done.wait() == code, done.output
        return done.output

    def entries(self) -> dict[str, Any]:
        """What `taskcore beat list` shows, by name."""
        lines = self.cli("list", "--json").splitlines()
        return {entry["name"]: entry for entry in map(json.loads, lines)}

    def due(self) -> dict[str, list[float]]:
        """The due times that ran, by entry, in order."""
        ran = defaultdict(list)
        for line in self.site.written():
            name, due, *_ = line.split()
            ran[name].append(datetime.fromisoformat(due).timestamp())
        return {name: sorted(times) for name, times in ran.items()}


def gaps(times: list[float]) -> set[float]:
    """How far apart due times are."""
    return {round(b - a, 6) for a, b in pairwise(times)}


def kill(beat: Process) -> None:
    """Ends a beat as a crash does."""
    os.kill(beat.pid, 9)
    beat.popen.wait()
