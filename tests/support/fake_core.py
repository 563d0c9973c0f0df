"""A stand-in for `taskcore._core` that keeps what is published and stored in lists and dicts.

It encodes nothing (json through the standard library) and connects to nothing; it refuses what the
real one refuses where the Python layer relies on the refusal.
"""

import json
import uuid
from typing import Any

from support.sources import names_in_core

__version__ = "0"


def invalidate_tasks() -> None:
    """There is no core that keeps anything."""


FIELDS = names_in_core("KNOWN")
"""The fields of a publish."""


class Template:
    """Keeps its arguments."""

    def __init__(self, task: str, **fields: Any) -> None:
        self.task = task
        self.fields = fields


class Publisher:
    """Keeps what was published, newest last."""

    def __init__(self, url: str, **options: Any) -> None:
        self.url = url
        self.options = options
        self.sent: list[tuple[Template, list[Any], dict[str, Any], dict[str, Any]]] = []
        self.error: Exception | None = None
        self.scheduled: dict[str, list[str]] = {}
        self.kept: list[str] = []
        self.said: list[tuple[str, dict[str, Any]]] = []

    def revoke(self, ids: list[str], expires: float, timeout: float = 5.0) -> None:
        self.kept += ids

    def broadcast(
        self, exchange: str, kind: str, routing_key: str, body: bytes, **options: Any
    ) -> None:
        self.said.append((exchange, json.loads(body)))

    def publish(self, template: Template, args: Any, kwargs: Any, fields: Any = None) -> str:
        if self.error is not None:
            raise self.error
        fields = dict(fields or {})
        unknown = fields.keys() - FIELDS
        if unknown:
            raise ValueError(f"unknown field `{unknown}`")
        found = fields.setdefault("task_id", str(uuid.uuid4()))
        self.sent.append((template, list(args), dict(kwargs), fields))
        return str(found)

    def follow(
        self, request: "Request", template: Template, args: Any, kwargs: Any, fields: Any = None
    ) -> str:
        found = self.publish(template, args, kwargs, fields)
        request.following.append(self.sent[-1])
        return found

    def publish_many(
        self, template: Any, calls: Any, fields: Any = None, check: Any = None
    ) -> list[str]:
        ids = []
        for args in calls:
            if check is not None:
                check(*args)
            ids.append(self.publish(template, args, {}, fields))
        return ids

    def publish_each(self, messages: Any) -> list[str]:
        # None is sent before the one after it was asked for.
        made, held = [], None
        for message in messages:
            if held is not None:
                made.append(self.publish(*held))
            held = message
        return made if held is None else [*made, self.publish(*held)]

    def queues(self) -> list[str]:
        return sorted(self.scheduled)

    def cancel(self, queue: str, task_id: str) -> bool:
        if task_id in self.scheduled.get(queue, []):
            self.scheduled[queue].remove(task_id)
            return True
        return False


class Results:
    """Keeps documents in a dict."""

    reply_to = "tc-fake"

    def __init__(self, url: str, **options: Any) -> None:
        self.url = url
        self.options = options
        self.documents: dict[str, dict[str, Any]] = {}
        self.groups: dict[str, Any] = {}
        self.asked: list[list[str]] = []
        self.watching: dict[int, tuple[str, Any]] = {}
        self.watched: list[tuple[str, bool]] = []
        self.unwatched: list[int] = []
        self.waited: list[tuple[str, float | None, bool]] = []
        self.joins: dict[str, int] = {}

    def get(self, ids: Any) -> list[Any]:
        self.asked.append(list(ids))
        return [self.documents.get(one) for one in ids]

    def wait(self, task_id: str, timeout: float | None = None, foreign: bool = False) -> Any:
        from taskcore.exceptions import TimeoutError

        self.waited.append((task_id, timeout, foreign))
        if task_id not in self.documents:
            raise TimeoutError(f"no result of `{task_id}`")
        return self.documents[task_id]

    def declare_join(self, group_id: str, size: int) -> None:
        self.joins[group_id] = size

    def extend_join(self, group_id: str, more: int) -> None:
        self.joins[group_id] += more

    def watch(self, task_id: str, done: Any, foreign: bool = False) -> int:
        self.watched.append((task_id, foreign))
        key = len(self.watched)
        self.watching[key] = (task_id, done)
        self.tell(task_id)
        return key

    def tell(self, task_id: str) -> None:
        """Tells whoever watches, as the core does when a task has ended."""
        document = self.documents.get(task_id, {"status": "PENDING"})
        if document["status"] in ("SUCCESS", "FAILURE", "REVOKED"):
            for key, (watched, done) in list(self.watching.items()):
                if watched == task_id:
                    del self.watching[key]
                    done(dict(document), None)

    def unwatch(self, key: int) -> None:
        self.unwatched.append(key)
        self.watching.pop(key, None)

    def save_group(self, group_id: str, structure: Any) -> None:
        # As the core writes it and reads it again.
        self.groups[group_id] = json.loads(json.dumps({"result": structure}))

    def saved_group(self, group_id: str) -> Any:
        return self.groups.get(group_id)

    def forget_group(self, group_id: str) -> None:
        self.groups.pop(group_id, None)

    def put(
        self, task_id: str, state: str, result: Any, *, traceback: Any = None, fields: Any = None
    ) -> None:
        self.documents[task_id] = {
            "status": state,
            "result": result,
            "traceback": traceback,
            "children": [],
            "date_done": None,
            **(fields or {}),
            "task_id": task_id,
        }
        self.tell(task_id)

    def forget(self, task_id: str) -> None:
        self.documents.pop(task_id, None)


class Request:
    """A request with the fields it was made with."""

    def __init__(self, **fields: Any) -> None:
        self.fields = {
            "retries": 0,
            "parent_id": None,
            "ignore_result": None,
            "args": [],
            "kwargs": {},
            "timelimit": [None, None],
            "delivery_info": {"exchange": "", "routing_key": "q", "priority": 0},
            "queue": "q",
            "protocol": "compact",
            "serializer": "msgpack",
            **fields,
        }
        self.fields.setdefault("root_id", self.fields.get("id"))
        self.children: list[str] = []
        self.following: list[Any] = []
        """What leaves with the outcome; also in `Publisher.sent`."""
        self.ended: list[tuple[Any, dict[str, Any]]] = []
        """What ends with it, as arguments of `Results.put`."""
        self.counted: list[tuple[str, str, int | None]] = []
        """What of that is a member of a chord: task id, group, place."""

    id = property(lambda self: self.fields["id"])
    task = property(lambda self: self.fields["task"])
    retries = property(lambda self: self.fields["retries"])
    root_id = property(lambda self: self.fields["root_id"])
    parent_id = property(lambda self: self.fields["parent_id"])
    ignore_result = property(lambda self: self.fields["ignore_result"])

    @property
    def has_embed(self) -> bool:
        return any(self.fields.get(key) for key in ("callbacks", "errbacks", "chain", "chord"))

    @property
    def only_chain(self) -> Any:
        more = any(self.fields.get(key) for key in ("callbacks", "errbacks", "chord", "origin"))
        return None if more else self.fields.get("chain")

    def to_dict(self) -> dict[str, Any]:
        return dict(self.fields)

    def add_child(self, task_id: str, parent: Any = None, members: Any = None) -> None:
        self.children.append(task_id if members is None else (task_id, members))

    def end(
        self,
        task_id: str,
        state: str,
        result: Any,
        *,
        group: Any = None,
        group_index: Any = None,
        **more: Any,
    ) -> None:
        self.ended.append(((task_id, state, result), more))
        if group is not None:
            self.counted.append((task_id, group, group_index))

    def store_ended(self, results: Results) -> None:
        """As a worker does."""
        for args, more in self.ended:
            results.put(*args, **more)

    def drop_following(self) -> list[str]:
        dropped = [fields["task_id"] for _, _, _, fields in self.following]
        self.children = [one for one in self.children if one not in dropped]
        self.following.clear()
        return dropped


class Worker:
    """Ends at once."""

    made: "list[Worker]" = []  # noqa: RUF012 - emptied by the fixture of each test

    http_address: str | None = None

    def __init__(
        self, config: Any, tasks: Any, executor: Any, *, zygote: Any = None, program: Any = None
    ) -> None:
        self.config, self.tasks, self.executor = config, list(tasks), executor
        self.zygote = zygote
        self.stops: list[bool] = []
        self.started = False
        Worker.made.append(self)

    def start(self) -> bool:
        self.started = True
        return True

    def stats(self) -> dict[str, Any]:
        return {"active": 0, "connected": True}

    def wait(self) -> int:
        return 0

    def stop(self, warm: bool = True) -> None:
        self.stops.append(warm)


def dumps(value: Any, serializer: str) -> bytes:
    from taskcore.exceptions import EncodeError

    try:
        return json.dumps(value).encode()
    except (TypeError, ValueError) as exc:
        raise EncodeError(str(exc)) from exc


def loads(data: bytes, serializer: str) -> Any:
    from taskcore.exceptions import DecodeError

    try:
        return json.loads(data)
    except ValueError as exc:
        raise DecodeError(str(exc)) from exc


def soft_limit_due() -> bool:
    return True


def end_due() -> bool:
    return True
