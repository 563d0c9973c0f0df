"""Random workflows of the tasks of `nodes`, and a plain interpreter of what they mean."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from support.wait import until
from taskcore import chain, chord, group
from taskcore.exceptions import ChordError

WAIT = 60

Spec = Any
"""`("node", n)`, `("again", n)`, `("broken", n)`, `("become", n, spec)`, `("chain", parts)`,
`("group", parts)`, `("chord", parts, body)`; each `n` once."""


class Failed(Exception):
    """A part of the workflow fails."""


class Maker:
    """Makes workflows."""

    def __init__(self, random: Random, failing: float = 0.0, replaced: bool = True) -> None:
        """
        Args:
            failing: of how many tasks it is the way to fail.
            replaced: whether tasks are replaced.
        """
        self._random = random
        self._failing = failing
        self._replaced = replaced
        self.nodes = 0
        """How many there are in all that was made; each has a number of its own."""

    def make(self, depth: int) -> Spec:
        """A workflow of at most so many levels."""
        random = self._random
        if depth == 0 or random.random() < 0.2:
            return self._task(depth)
        kind = random.choice(["chain", "group", "chord"])
        parts = [self.make(depth - 1) for _ in range(random.randint(2, 3))]
        return ("chord", parts, self.make(depth - 1)) if kind == "chord" else (kind, parts)

    def make_large(self, depth: int, least: int, most: int) -> Spec:
        """One of so many levels and nodes."""
        first = self.nodes
        while True:
            self.nodes = first
            spec = self.make(depth)
            if least <= self.nodes - first <= most:
                return spec

    def _task(self, depth: int) -> Spec:
        self.nodes += 1
        number, dice = self.nodes, self._random.random()
        if dice < self._failing:
            return ("broken", number)
        if dice > 0.93 and depth and self._replaced:
            return ("become", number, self.make(depth - 1))
        return ("again" if dice > 0.83 else "node", number)


def check(
    app: Any, specs: list[Spec], written: Callable[[], list[str]], often: bool = False
) -> None:
    """Runs workflows at the same time; each gives what it means, and each of its nodes runs once.

    Args:
        written: the lines of the ledger.
        often: nodes may run more than once.
    """
    running = [(spec, build(app, spec).apply_async((0,))) for spec in specs]
    finish(running, written, often)


def finish(
    running: list[tuple[Spec, Any]], written: Callable[[], list[str]], often: bool = False
) -> None:
    """As `check`, of workflows that are on their way."""
    expected: list[int] = []
    for spec, result in running:
        try:
            value = meaning(spec, 0, expected)
        except Failed:
            with pytest.raises((ValueError, ChordError), match="is broken"):
                result.get(timeout=WAIT)
        else:
            assert result.get(timeout=WAIT) == value, spec
        for one in every_result(result):
            until(one.ready, f"a result of {spec}")
    until(lambda: set(map(int, written())) >= set(expected), "all nodes")
    ran = sorted(map(int, written()))
    assert (sorted(set(ran)) if often else ran) == sorted(expected), [spec for spec, _ in running]


def build(app: Any, spec: Spec) -> Any:
    """The signature."""
    kind, inside = spec[:2]
    if kind == "become":
        return app.tasks["nodes.become"].s(inside, build(app, spec[2]))
    if kind in ("node", "again", "broken"):
        return app.tasks[f"nodes.{kind}"].s(inside)
    parts = [build(app, part) for part in inside]
    if kind == "chord":
        return chord(parts, build(app, spec[2]))
    return chain(parts) if kind == "chain" else group(parts)


def meaning(spec: Spec, given: Any, ran: list[int]) -> Any:
    """The value of a workflow called with `given`.

    Args:
        ran: gets the numbers of the nodes that run.
    Raises:
        Failed: it has none.
    """
    from nodes import value_of

    kind, inside = spec[:2]
    if kind == "chain":
        for part in inside:
            given = meaning(part, given, ran)
        return given
    if kind not in ("group", "chord"):
        ran.append(inside)
        if kind == "broken":
            raise Failed
        return meaning(spec[2], given, ran) if kind == "become" else value_of(inside, given)
    values, failed = [], None
    for part in spread(inside):
        try:
            values.append(meaning(part, given, ran))
        except Failed as error:
            failed = error
    if failed is not None:
        raise failed
    return meaning(spec[2], values, ran) if kind == "chord" else values


def spread(parts: list[Spec]) -> list[Spec]:
    """The members of a group, with those of groups in it in their places."""
    found = []
    for part in parts:
        found += spread(part[1]) if part[0] == "group" else [part]
    return found


def every_result(result: Any) -> list[Any]:
    """A result, its parents, and the members of all that are groups."""
    found = []
    while result is not None:
        members = getattr(result, "results", None)
        found += [one for member in members for one in every_result(member)] if members else []
        found += [] if members else [result]
        result = result.parent
    return found
