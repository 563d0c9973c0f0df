"""The commands that workers know, as the command line shows and reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from taskcore.control.panel import CommandInfo, Panel

Kind = Literal["inspect", "control"]


def _is_true(text: str) -> bool:
    return text.lower() in ("1", "yes", "on", "true")


def _seconds(text: str) -> float | None:
    return None if text.lower() in ("", "none") else float(text)


def _info(
    kind: Kind,
    help: str,
    signature: str | None = None,
    args: Sequence[tuple[str, Callable[[str], Any]]] = (),
    variadic: str | None = None,
) -> CommandInfo:
    return CommandInfo(None, kind, True, 1.0, help, signature, list(args), variadic)


_IDS: Final = "[id1 [id2 [... [idN]]]]"
# fmt: off
COMMANDS: Final[dict[str, CommandInfo]] = {
    "active": _info("inspect", "Tasks that run."),
    "active_queues": _info("inspect", "Queues that are consumed from."),
    "clock": _info("inspect", "The logical clock."),
    "conf": _info("inspect", "Settings, without secrets.", "[include_defaults=False]", [("with_defaults", _is_true)]),
    "health": _info("inspect", "Whether they are ready for tasks, and why not; only of taskcore's workers."),
    "memdump": _info("inspect", "Samples of memory so far.", "[n_samples=10]", [("samples", int)]),
    "memsample": _info("inspect", "Memory of the worker's process."),
    "objgraph": _info("inspect", "A graph of objects; only of Celery's workers.", "[object_type=Request] [num=200 [max_depth=10]]",
                      [("type", str), ("num", int), ("max_depth", int)]),
    "ping": _info("inspect", "Whether they are there."),
    "query_task": _info("inspect", "Where tasks are.", _IDS, variadic="ids"),
    "registered": _info("inspect", "Names of tasks, with attributes.", "[attr1 [attr2 [... [attrN]]]]", variadic="taskinfoitems"),
    "report": _info("inspect", "What is installed and set, for a bug report."),
    "reserved": _info("inspect", "Tasks that wait for a slot or a rate limit."),
    "revoked": _info("inspect", "Ids that are dropped when they come."),
    "scheduled": _info("inspect", "Tasks that wait for their due time."),
    "stats": _info("inspect", "Figures of the worker."),
    "add_consumer": _info("control", "Consume from another queue.", "<queue> [exchange [type [routing_key]]]",
                          [("queue", str), ("exchange", str), ("exchange_type", str), ("routing_key", str)]),
    "autoscale": _info("control", "Change the bounds of a pool that scales by itself.", "[max [min]]", [("max", int), ("min", int)]),
    "cancel_consumer": _info("control", "Consume from a queue no longer.", "<queue>", [("queue", str)]),
    "disable_events": _info("control", "Send no events of tasks."),
    "election": _info("control", "Elect one worker; only of Celery's."),
    "enable_events": _info("control", "Send events of tasks."),
    "heartbeat": _info("control", "Send a heartbeat now."),
    "pool_grow": _info("control", "Run so many more tasks at a time.", "[N=1]", [("n", int)]),
    "pool_restart": _info("control", "Replace the processes of the pool."),
    "pool_shrink": _info("control", "Run so many fewer tasks at a time.", "[N=1]", [("n", int)]),
    "rate_limit": _info("control", "Limit how many executions may begin.", "<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>",
                        [("task_name", str), ("rate_limit", str)]),
    "revoke": _info("control", "Drop tasks wherever they wait, and when they come.", _IDS, variadic="task_id"),
    "revoke_by_stamped_headers": _info("control", "The same by stamps.", "[key1=value1 [key2=value2 [... [keyN=valueN]]]]", variadic="headers"),
    "shutdown": _info("control", "Stop; what runs may finish."),
    "terminate": _info("control", "Drop tasks, and end those that run.", f"<signal> {_IDS}", [("signal", str)], "task_id"),
    "time_limit": _info("control", "Change the time limits of a task.", "<task_name> <soft_secs> [hard_secs]",
                        [("task_name", str), ("soft", _seconds), ("hard", _seconds)]),
}
# fmt: on
"""Celery's, which are built in."""


def of_kind(kind: Kind) -> dict[str, CommandInfo]:
    """The commands of a kind by name, with those that this process has registered."""
    own = {name: info for name, info in Panel.meta.items() if info.visible}
    return {name: info for name, info in sorted({**COMMANDS, **own}.items()) if info.type == kind}


def arguments(name: str, info: CommandInfo, words: Sequence[str]) -> dict[str, Any]:
    """Words of a command line as arguments.

    Raises:
        ValueError: one too many, or one of the wrong type.
    """
    found: dict[str, Any] = {}
    positional = list(info.args or ())
    for (argument, read), word in zip(positional, words, strict=False):
        try:
            found[argument] = read(word)
        except ValueError as exc:
            raise ValueError(f"`{word}` is no {argument} of `{name}`: {exc}") from exc
    rest = list(words[len(positional) :])
    if info.variadic:
        found[info.variadic] = rest
    elif rest:
        usage = f"{name} {info.signature or ''}".strip()
        raise ValueError(f"`{rest[0]}` is one argument too many, expected `{usage}`")
    return found
