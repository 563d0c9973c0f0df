"""What a type checker sees: parameters of a task's function are those of `delay`, its return value
is that of `get`."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import taskcore
from taskcore import AsyncResult, Task

SOURCES = Path(__file__).resolve().parents[2] / "python"

PROGRAM = """
from typing import Any
from taskcore import Task, Taskcore, shared_task

app = Taskcore("p")

@app.task
def plain(x: int, y: int = 1) -> int:
    return x + y

@app.task(bind=True, max_retries=3)
def bound(self: Task[..., Any], x: str) -> str:
    return x

@app.task(bind=True)
def bare(self: Task, x: str) -> str:
    return x

@app.task(queue="q")
async def awaited(x: int) -> bytes:
    return b""

@app.task
async def other(x: int) -> bytes:
    return b""

@app.task(bind=True)
async def third(self: Task, x: int) -> bytes:
    return await awaited(x)

@shared_task
async def fourth(x: int) -> bytes:
    return await other(x)

async def main(tasks: list[Task]) -> None:
    reveal_type(await other(1))          # bytes
    reveal_type(await third(1))          # bytes
    reveal_type(await fourth(1))         # bytes
    tasks.append(awaited)

@shared_task
def shared(x: bytes) -> bytes:
    return x

reveal_type(plain.delay(1).get())        # int
reveal_type(plain(1))                    # int
reveal_type(plain.apply_many([(1,)]))    # ResultSet[int]
reveal_type(bound.delay("x"))            # AsyncResult[str]
reveal_type(awaited.delay(1).get())      # bytes
reveal_type(other.delay(1).get())        # bytes
reveal_type(third.apply((1,)).get())     # bytes
reveal_type(bare.delay("x").get())       # str
reveal_type(shared.delay(b"").get())     # bytes
plain.apply_async((1,), countdown=3)
plain.delay("x")                         # error
bound.delay(1)                           # error
awaited.delay()                          # error
awaited(1) + b""                         # error
fourth(1) + b""                          # error
plain.apply_async((1,), countdwn=3)      # error
"""


def test_tasks_are_typed(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "program.py").write_text(PROGRAM)
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-color-output", "program.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(SOURCES)},
        capture_output=True,
        text=True,
    )
    lines = PROGRAM.splitlines()
    expected = {n: line.split("# ")[1] for n, line in enumerate(lines, 1) if "  # " in line}
    seen: dict[int, str] = {}
    for number, kind, text in re.findall(
        r"^program\.py:(\d+): (note|error): (.*)$", ran.stdout, re.M
    ):
        if kind == "error":
            seen[int(number)] = "error"
        elif shown := re.search(r'Revealed type is "(.*)"', text):
            seen[int(number)] = re.sub(r"\w+\.", "", shown[1])
    assert seen == expected, ran.stdout + ran.stderr


def test_classes_take_parameters_while_the_program_runs_too() -> None:
    class Own(Task[..., int]):
        pass

    assert issubclass(Own, Task)
    assert get_args(Task[[int], str]) == ([int], str)
    assert get_args(AsyncResult[int]) == (int,)


@pytest.mark.parametrize("name", taskcore.__all__)
def test_annotations_of_public_classes_can_be_evaluated(name: str) -> None:
    value = getattr(taskcore, name)
    if isinstance(value, type):

        class Own(value):  # type: ignore[misc, valid-type]
            count: int = 0

        assert get_type_hints(Own) == {"count": int}


def public_functions(owner: type) -> Iterator[Any]:
    for name, member in inspect.getmembers_static(owner):
        if isinstance(member, (classmethod, staticmethod)):
            member = member.__func__
        function = member.fget if isinstance(member, property) else member
        own = inspect.isfunction(function) and function.__module__.startswith("taskcore")
        if own and (not name.startswith("_") or name in ("__init__", "__await__")):
            yield function


@pytest.mark.parametrize("name", taskcore.__all__)
def test_annotations_of_public_functions_can_be_evaluated(name: str) -> None:
    value = getattr(taskcore, name)
    for function in public_functions(value) if isinstance(value, type) else [value]:
        if inspect.isfunction(function):
            hints = get_type_hints(function)
            assert not any(isinstance(hint, str) for hint in hints.values()), function


def test_annotations_name_the_real_types() -> None:
    hints = get_type_hints(AsyncResult.get)
    assert hints["timeout"] == float | None and hints["options"] is Any
    assert get_type_hints(AsyncResult.children.fget)["return"] == list[AsyncResult[Any]] | None
    assert get_type_hints(taskcore.Taskcore.send_task)["return"] == AsyncResult[Any]


@pytest.mark.parametrize("bind", [False, True])
def test_a_task_shows_the_parameters_of_its_function(app: Any, bind: bool) -> None:
    def plain(x: int, y: str = "") -> bytes:
        return b""

    def bound(self: Task[..., Any], x: int, y: str = "") -> bytes:
        return b""

    task = app.task(bind=bind)(bound if bind else plain)
    hints = get_type_hints(task)
    hints.pop("self", None)
    assert hints == {"x": int, "y": str, "return": bytes}
    assert inspect.signature(task) == inspect.signature(plain)
