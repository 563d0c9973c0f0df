"""Every code block of the README runs: Python in an interpreter of its own, shell as commands of
the installed wheel."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from support.process import TASKCORE, Process, python

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
SHELL = [
    line.partition("#")[0].strip()
    for language, text in BLOCKS
    if language == "sh"
    for line in text.splitlines()
]


def test_every_block_is_of_a_kind_that_is_run() -> None:
    assert {language for language, _ in BLOCKS} == {"python", "sh"}
    known = {
        "pip install taskcore",
        "taskcore -A proj worker -c 2 -l info",
        "make demo",
        "make test",
        "make wheel",
    }
    assert set(SHELL) == known


def test_the_first_minute(tmp_path: Path) -> None:
    """`proj.py`, the worker in one terminal, the call in the other, exactly as printed."""
    definition, call = PYTHON[:2]
    (tmp_path / "proj.py").write_text(definition)
    command = next(shlex.split(line) for line in SHELL if line.startswith("taskcore "))
    worker = Process([TASKCORE, *command[1:]], cwd=tmp_path)
    try:
        assert python(call, cwd=tmp_path) == "42\n"
        assert worker.stop() == 0
    finally:
        worker.kill()
    assert (tmp_path / "taskcore.db").exists()


@pytest.mark.parametrize("source", PYTHON[2:])
def test_the_other_blocks_run(tmp_path: Path, source: str) -> None:
    python(source, cwd=tmp_path)


def test_the_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"help", "setup", "demo", "test", "lint", "bench"} <= set(targets)
    assert {line.split()[1] for line in SHELL if line.startswith("make ")} <= set(targets)


def test_the_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_oldest_rust_is_that_of_the_manifest() -> None:
    manifest = (ROOT / "Cargo.toml").read_text()
    assert re.findall(r"Rust (\d\.\d+) or later", README) == re.findall(
        r'^rust-version = "(.*)"$', manifest, re.MULTILINE
    )


def test_this_interpreter_is_supported() -> None:
    assert sys.version_info >= (3, 11)
