"""How results and signatures are made and asked: what may be written for Celery's may be written here,
but for what is listed."""

import inspect
from typing import Any

import celery.canvas
import celery.result
import pytest

import taskcore.canvas
import taskcore.result

RESULTS = ("AsyncResult", "ResultSet", "GroupResult", "EagerResult")
SIGNATURES = ("Signature", "chain", "group", "chord", "chunks", "xmap", "xstarmap")
GET = "`timeout`, `propagate` and `interval` may stand in their places, what is rarer by name"
REVOKE = "by name, as everybody writes it"
PARTS = "a step of Celery's own way to send a workflow, which is not the way here"
FOUND = "the class of a task is found by its name; what is rarer than options by name"

DIFFERENCES = {
    "AsyncResult.get": ("interval", GET),
    "AsyncResult.wait": ("interval", GET),
    "EagerResult.get": ("propagate", "`disable_sync_subtasks` by name: `interval` is third"),
    "EagerResult.wait": ("propagate", "`disable_sync_subtasks` by name: `interval` is third"),
    **{
        f"{kind}.{name}": ("callback", GET)
        for kind in ("ResultSet", "GroupResult")
        for name in ("get", "join", "join_native")
    },
    "ResultSet.iter_native": ("interval", GET),
    "GroupResult.iter_native": ("interval", GET),
    "ResultSet.revoke": ("self", REVOKE),
    "GroupResult.revoke": ("self", REVOKE),
    "ResultSet.__init__": ("app", "a `ready_barrier` is Celery's own"),
    "Signature.__init__": ("options", FOUND),
    "Signature.apply_async": ("kwargs", "a `route_name` is Celery's own"),
    "group.apply_async": ("kwargs", REVOKE),
    "chord.apply": ("propagate", "`body` by name"),
    "chord.apply_async": ("kwargs", REVOKE),
    "chain.run": ("", PARTS),
    "chain.prepare_steps": ("", PARTS),
    "chord.run": ("", PARTS),
}
"""The last parameter that may stand in Celery's place, and why not the next; none where there is no
such member."""


def members(kind: type) -> list[str]:
    """What can be called, of the class and not of dict."""
    of_dict = dir(dict) if issubclass(kind, dict) else ()
    names = [name for name in dir(kind) if not name.startswith("_") and name not in of_dict]
    calls = [name for name in names if callable(getattr(kind, name))]
    return ["__init__", *(name for name in calls if not isinstance(getattr(kind, name), type))]


def in_place(call: Any) -> list[str]:
    """The parameters that need no name; `*` for those without end."""
    kinds = inspect.Parameter
    found = []
    for one in inspect.signature(call).parameters.values():
        if one.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD):
            found.append(one.name)
        elif one.kind == kinds.VAR_POSITIONAL:
            found.append("*")
    return found


def unnamed(theirs: Any, ours: Any) -> set[str]:
    """The names that only Celery's takes."""
    kinds = inspect.Parameter
    mine = inspect.signature(ours).parameters
    if any(one.kind == kinds.VAR_KEYWORD for one in mine.values()):
        return set()
    named = (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    return {n for n, one in inspect.signature(theirs).parameters.items() if one.kind in named} - {
        *mine
    }


def last_alike(theirs: Any, ours: Any) -> str | None:
    """The last parameter at the same place, where Celery's has one more there; None: there is none."""
    their_own, my_own = in_place(theirs), in_place(ours)
    before = ""
    for index, name in enumerate(their_own):
        if name == "*":
            return None if "*" in my_own[index:] or "*" in my_own or my_own[index:] else before
        if index >= len(my_own) or my_own[index] not in (name, "*"):
            return None if "*" in my_own[: index + 1] else before
        before = name
    return None


@pytest.mark.parametrize("name", [*RESULTS, *SIGNATURES])
def test_calls_are_written_as_for_celery(name: str) -> None:
    theirs: Any = getattr(celery.result if name in RESULTS else celery.canvas, name)
    ours: Any = getattr(taskcore.result if name in RESULTS else taskcore.canvas, name)
    found = {}
    for member in members(theirs):
        key = f"{name}.{member}"
        if not hasattr(ours, member):
            found[key] = ""
            continue
        pair = getattr(theirs, member), getattr(ours, member)
        alike = last_alike(*pair)
        if alike is not None:
            found[key] = alike
        if key not in DIFFERENCES:
            assert not unnamed(*pair), (key, unnamed(*pair))
    known = {key: last for key, (last, _) in DIFFERENCES.items() if key.startswith(f"{name}.")}
    assert found == known
