"""Every form of a workflow, published by each side and run by the other."""

from types import ModuleType, SimpleNamespace
from typing import Any

import celery.canvas
import pytest

import taskcore.canvas

WAIT = 60
NAMES = ("chain", "group", "chord", "chunks", "xmap", "xstarmap")


def words(module: Any, add: Any, echo: Any) -> Any:
    return SimpleNamespace(add=add, echo=echo, **{name: getattr(module, name) for name in NAMES})


def forms(w: Any) -> dict[str, tuple[Any, Any]]:
    """A workflow and its value."""
    add, echo, group, chord, chain = w.add, w.echo, w.group, w.chord, w.chain
    return {
        "chain": (chain(add.s(1, 2), add.s(3), add.s(4)), 10),
        "group": (group(add.s(i, i) for i in range(5)), [0, 2, 4, 6, 8]),
        "chord": (chord([add.s(1, 1), add.s(2, 2)], echo.s()), [2, 4]),
        "task, group, task, task": (
            add.s(1, 1) | group(add.s(1), add.s(2)) | echo.s() | echo.s(),
            [3, 4],
        ),
        "chord of chains": (
            chord([add.s(1, 1) | add.s(1), add.s(2, 2)], echo.s() | echo.s()),
            [3, 4],
        ),
        "chord of chords": (
            chord([chord([add.s(1, 1), add.s(2, 2)], echo.s()), add.s(3, 3)], echo.s()),
            [[2, 4], 6],
        ),
        "chain of groups": (
            group(add.s(1, 1), add.s(2, 2)) | group(echo.s(), echo.s()) | echo.s(),
            [[2, 4], [2, 4]],
        ),
        "group of chains with chords": (
            group(
                add.s(1, 1) | group(add.s(1), add.s(2)) | echo.s(),
                chord([add.s(4, 4)], echo.s()) | echo.s(),
            ),
            [[3, 4], [8]],
        ),
        "chain that ends in a group": (add.s(1, 1) | group(add.s(1), add.s(2)), [3, 4]),
        "starmap": (add.starmap([(1, 1), (2, 2)]), [2, 4]),
        "map": (add.map([1, 2]), [2, 3]),
        "chunks": (add.chunks([(1, 1), (2, 2), (3, 3)], 2), [[2, 4], [6]]),
        "task": (add.s(1, 1), 2),
    }


@pytest.mark.parametrize("workers", ["taskcore", "stock", "both"])
def test_a_stock_client(mixed: Any, stock: ModuleType, workers: str) -> None:
    _start(mixed, workers)
    made = forms(words(celery.canvas, stock.add, stock.echo))
    running = {name: (sig.apply_async(), value) for name, (sig, value) in made.items()}
    found = {name: result.get(timeout=WAIT) for name, (result, _) in running.items()}
    assert found == {name: value for name, (_, value) in made.items()}


@pytest.mark.parametrize("workers", ["taskcore", "stock", "both"])
def test_a_taskcore_client(mixed: Any, workers: str) -> None:
    _start(mixed, workers)
    made = forms(words(taskcore.canvas, mixed.task("add"), mixed.task("echo")))
    running = {name: (sig.apply_async(), value) for name, (sig, value) in made.items()}
    found = {name: result.get(timeout=WAIT) for name, (result, _) in running.items()}
    assert found == {name: value for name, (_, value) in made.items()}


def _start(mixed: Any, workers: str) -> None:
    if workers != "stock":
        mixed.taskcore_worker("-c", "1")
    if workers != "taskcore":
        mixed.celery_worker("-c", "1")
