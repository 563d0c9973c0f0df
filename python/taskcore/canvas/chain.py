"""Chain: tasks of which each runs when the one before it has returned, with its value."""

from __future__ import annotations

from taskcore.canvas import stamps
from taskcore.canvas.compose import added, as_chain, flatten, fold
from taskcore.canvas.links import listed
from taskcore.canvas.run import start
from taskcore.canvas.signature import Signature, as_signature
from taskcore.typed import TYPE_CHECKING, Any, Mapping
from taskcore.utils import is_mapping

if TYPE_CHECKING:
    from taskcore.canvas.run import Calls, Run


@Signature.register_type()
class chain(Signature):  # noqa: N801 - Celery's name
    """`chain(a, b, c)`, or `a | b | c`: each task with the value of the one before.

    A group in it that something follows becomes a chord; what is then left may be no chain. Called
    with one argument that is no signature, it takes the tasks from that.
    """

    def __new__(cls, *tasks: Any, **options: Any) -> Any:
        self = super().__new__(cls)
        if not tasks or options or (len(tasks) == 1 and is_mapping(tasks[0])):
            return self
        folded = fold(tasks[0] if len(tasks) == 1 else tasks)
        if isinstance(folded, Signature):
            return folded
        Signature.__init__(self, _wire(folded))
        return self

    def __init__(self, *tasks: Any, app: Any = None, **options: Any) -> None:
        """
        Args:
            tasks: signatures, or one iterable of them.
            options: for the first task; links are for the last, links for failures for all.
        """
        if not dict.__len__(self):
            given = tasks[0] if len(tasks) == 1 and not is_mapping(tasks[0]) else tasks
            Signature.__init__(self, _wire([as_signature(one) for one in given]), app=app)
            self["options"].update(options)

    @classmethod
    def _of(cls, d: Mapping[str, Any], app: Any) -> Signature:
        sig = super()._of(d, app)
        inside = sig["kwargs"]
        sig["kwargs"] = {
            **inside,
            "tasks": [as_signature(one, app) for one in inside.get("tasks") or ()],
        }
        return sig

    @property
    def tasks(self) -> list[Any]:
        """The steps."""
        return self["kwargs"]["tasks"]  # type: ignore[no-any-return]

    @tasks.setter
    def tasks(self, tasks: Any) -> None:
        self["kwargs"]["tasks"] = list(tasks)

    @property
    def app(self) -> Any:
        """The app that it is sent through: its own, or that of its first task."""
        return self._app or (self.tasks[0].app if self.tasks else super().app)

    def clone(self, args: Any = None, kwargs: Any = None, **opts: Any) -> chain:
        """A copy, with copies of its tasks."""
        new = super().clone(args, kwargs, **opts)
        new["kwargs"]["tasks"] = [task.clone() for task in self.tasks]
        return new

    def unchain_tasks(self) -> list[Any]:
        """Copies of its tasks, each with what the chain links to."""
        return self.clone().linked_tasks()

    def linked_tasks(self) -> list[Any]:
        """Its tasks, each from now on with what the chain links to."""
        tasks = list(self.tasks)
        self._link_tasks(tasks, self["options"])
        return tasks

    def _link_tasks(self, tasks: list[Any], options: Mapping[str, Any]) -> None:
        for callback in listed(options.get("link")):
            tasks[-1].link(callback)
        for errback in listed(options.get("link_error")):
            for task in tasks:
                task.link_error(errback)

    def _then(self, other: Signature) -> Signature:
        folded = added(self.unchain_tasks(), other, self._app)
        if isinstance(folded, Signature):
            return folded
        kept = {k: v for k, v in self["options"].items() if k not in ("link", "link_error")}
        new = type(self)._of(_wire(folded), self._app)
        new["options"].update(kept)
        return new

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Signature | None = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Gives its tasks their ids, in place; the result of the last one, whose parents are those
        of the others. `_id` and the group are the last task's."""
        self.tasks = flatten(self.tasks, self._app)
        member = {"group_id": group_id, "chord": chord, "group_index": group_index}
        last = _freeze_steps(self.tasks, self.id or _id, root_id, member)
        if self.tasks:
            self.id = last.id
        return last

    _freeze = freeze

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> None:
        """Stamps each of its tasks."""
        more = None if visitor is None else visitor.on_chain_start(self, **headers) or {}
        headers = stamps.merge(headers, more, append_stamps, self["options"])
        self.stamp_links(visitor, append_stamps, **headers)
        for task in self.tasks:
            task.stamp(visitor, append_stamps, **headers)
        if visitor is not None:
            visitor.on_chain_end(self, **headers)

    # Calling

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Sends it, with arguments for its first task."""
        return self.apply_async(args, kwargs)

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Sends its first task, with arguments added, and the others along with it; the result of
        the last one. None when there are no tasks.

        Args:
            options: for the first task; `task_id`, `link` and the group are the last one's.
        """
        if self.app.conf["task_always_eager"]:
            return self.apply(args, kwargs, **options)
        return start(self, args, kwargs, options)

    def _unfold(self, run: Run, args: Any, kwargs: Any, options: dict[str, Any]) -> Calls:
        steps = flatten(self.tasks, self._app)
        if not steps:
            return None
        own = self.merged((), None, options)[2]
        self._link_tasks(steps, own)
        member = {key: own.pop(key, None) for key in ("group_id", "chord", "group_index")}
        result = _freeze_steps(steps, own.pop("task_id", None), own.get("root_id"), member)
        rest = [*(own.pop("chain", None) or ()), *reversed(steps[1:])]
        first = {k: v for k, v in own.items() if k not in ("link", "link_error")}
        if not self["immutable"]:
            args = (*args, *self["args"])
        if rest:
            yield from steps[0]._unfold(run, args, kwargs, {**first, "chain": rest})
            return result
        return (yield from steps[0]._unfold(run, args, kwargs, first))

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Runs its tasks here and now, one after the other; the result of the last that ran."""
        own = self.merged((), None, options)[2]
        steps = flatten(self.tasks, self._app)
        if steps:
            self._link_tasks(steps, own)
        first = {k: v for k, v in own.items() if k not in ("link", "link_error")}
        last, given = None, (tuple(args or ()) + tuple(self["args"]), kwargs)
        for step in steps:
            result = step.apply(*given, **first)
            result.parent, last = last, result
            if getattr(result, "state", None) in _ENDING:
                break
            given = ((result.get(disable_sync_subtasks=False),), None)
        return last

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.tasks)) if self.tasks else "chain(<empty>)"


_ENDING = frozenset({"IGNORED", "REJECTED"})
"""States of a task that ran here, after which the rest of its chain does not run."""


def _wire(tasks: list[Any]) -> dict[str, Any]:
    return {
        "task": "celery.chain",
        "args": (),
        "kwargs": {"tasks": tasks},
        "options": {},
        "subtask_type": "chain",
        "immutable": False,
    }


def _freeze_steps(
    steps: list[Any], last_id: str | None, root_id: str | None, member: dict[str, Any]
) -> Any:
    """Gives each step its ids; the result of the last.

    Args:
        member: the group that the chain is a member of: by its last step.
    """
    before: Any = None
    for index, step in enumerate(steps):
        last = index == len(steps) - 1
        result = (
            step.freeze(last_id, root_id=root_id, **member)
            if last
            else step.freeze(root_id=root_id)
        )
        first = result
        while first.parent is not None:
            first = first.parent
        first.parent, before = before, result
    return before


def rest_of(chain_option: list[Any], app: Any) -> Any:
    """The rest of a chain as a message carries it, as one signature."""
    return as_chain([as_signature(one, app) for one in reversed(chain_option)], app)
