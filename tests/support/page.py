"""Runs the code blocks of a Markdown page, in their order, in one folder.

A comment in front of a block says what it is; without one the language decides:

    <!-- file: proj.py -->      the block is the contents of this file
    <!-- output -->             what the block before it prints, to the letter
    <!-- error: TypeError -->   the Python block ends with this exception
    <!-- not run: REASON -->    it cannot run here, and why; ini, yaml and toml are still parsed

`python` runs in an interpreter of its own, `sh` line by line. A worker is started in the
background, is ready before the next block runs, and is stopped at the end of the page, or before
the next worker; a beat is ended with the page.
"""

import configparser
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import yaml

from support.process import TASKCORE, Process, Worker
from support.wait import until

BLOCK = re.compile(
    r"^(?:<!-- (?P<note>[^\n]*?) -->\n)?^(?P<fence>`{3,})(?P<language>[\w{}-]*)[^\n`]*\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
LANGUAGES = {"python", "sh", "text", "ini", "yaml", "toml", "json", "dockerfile"}
REDIS = "redis://localhost:6379"


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    text: str
    kind: str
    """`file`, `output`, `error`, `not run`, or nothing."""
    value: str


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page; those that Sphinx executes (`{...}`) are not ours."""
    found = []
    for match in BLOCK.finditer(page.read_text()):
        kind, _, value = (match["note"] or "").partition(":")
        if not match["language"].startswith("{"):
            found.append(Block(match["language"], match["text"], kind.strip(), value.strip()))
    return found


class Runner:
    """The folder and the worker of a page."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder = folder
        self.redis_url = redis_url
        self.worker: Worker | None = None
        self.beat: Process | None = None
        self.printed = ""

    def run(self, block: Block) -> None:
        """Runs one block; AssertionError when it does not do what the page says."""
        text = block.text.replace(REDIS, self.redis_url.rsplit("/", 1)[0])
        if block.kind == "file":
            path = self.folder / block.value
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif block.kind == "output":
            assert self.printed == text, f"printed:\n{self.printed}\nthe page says:\n{text}"
        elif block.kind == "not run" or block.language not in ("python", "sh"):
            self.parse(block)
        elif block.language == "python":
            self.python(text, block)
        else:
            for line in text.splitlines():
                self.shell(line.partition(" #")[0].strip())

    def python(self, source: str, block: Block) -> None:
        done = self.command([sys.executable, "-c", source])
        if block.kind == "error":
            last = done.stderr.strip().rpartition("\n")[2]
            assert done.returncode == 1 and block.value in last, done.stderr
        else:
            assert done.returncode == 0, f"{source}\n{done.stderr}"

    def shell(self, line: str) -> None:
        words = shlex.split(line)
        if not words or words[0].startswith("#"):
            return
        if words[0] == "taskcore" and "worker" in words:
            self.stop()
            at = words.index("worker")
            self.worker = Worker(
                words[words.index("-A") + 1],
                *words[at + 1 :],
                cwd=self.folder,
                globals_=[w for w in words[1:at] if w not in ("-A", words[words.index("-A") + 1])],
            )
            if "--logfile" in words:
                log = self.folder / words[words.index("--logfile") + 1]
                until(lambda: log.exists() and "ready" in log.read_text(), "the worker")
            else:
                self.worker.ready()
            return
        if words[0] == "taskcore" and words[-1] == "beat":
            self.beat = Process([TASKCORE, *words[1:], "-l", "info"], cwd=self.folder)
            self.beat.wait_for("leads")
            return
        words[0] = {"taskcore": TASKCORE, "python": sys.executable}.get(words[0], words[0])
        done = self.command(words)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"

    def command(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            words, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )
        self.printed = done.stdout
        return done

    @staticmethod
    def parse(block: Block) -> None:
        if block.language == "ini":
            configparser.ConfigParser(strict=False, interpolation=None).read_string(block.text)
        elif block.language == "yaml":
            yaml.safe_load(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)

    def end(self) -> None:
        """Ends what the page has started, however it went."""
        for process in (self.worker, self.beat):
            if process is not None:
                process.kill()

    def stop(self) -> None:
        """StopSignals the worker, if there is one, and checks that it ended well."""
        if self.worker is not None:
            try:
                assert self.worker.stop() == 0, self.worker.output
            finally:
                self.worker.kill()
                self.worker = None
