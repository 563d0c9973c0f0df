"""Random workflows, and a plain interpreter of what they mean."""

from random import Random
from typing import Any

from taskcore import chain, chord, group

Spec = Any
"""`("tag", n)`, `("boom",)`, `("chain", parts)`, `("group", parts)`, `("chord", parts, body)`."""


class Failed(Exception):
    """A part of the workflow fails."""


def random_spec(random: Random, depth: int, failing: float = 0.0) -> Spec:
    """A workflow of at most so many levels.

    Args:
        failing: of how many tasks it is the way to fail.
    """
    if depth == 0 or random.random() < 0.2:
        return ("boom",) if random.random() < failing else ("tag", random.randrange(10))
    kind = random.choice(["chain", "group", "chord"])
    count = random.randint(2, 3)
    parts = [random_spec(random, depth - 1, failing) for _ in range(count)]
    if kind == "chord":
        return ("chord", parts, random_spec(random, depth - 1, failing))
    return (kind, parts)


def build(site: Any, spec: Spec) -> Any:
    """The signature."""
    kind = spec[0]
    if kind == "tag":
        return site.task("tag").s(spec[1])
    if kind == "boom":
        return site.task("boom").s()
    parts = [build(site, part) for part in spec[1]]
    if kind == "chord":
        return chord(parts, build(site, spec[2]))
    return chain(parts) if kind == "chain" else group(parts)


def meaning(spec: Spec, given: Any) -> Any:
    """The value of a workflow called with `given`.

    Raises:
        Failed: it has none.
    """
    kind = spec[0]
    if kind == "boom":
        raise Failed
    if kind == "tag":
        return [spec[1], given]
    if kind == "chain":
        for part in spec[1]:
            given = meaning(part, given)
        return given
    values = [meaning(part, given) for part in spread(spec[1])]
    return meaning(spec[2], values) if kind == "chord" else values


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
