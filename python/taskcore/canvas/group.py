"""Group: tasks that run at the same time."""

from __future__ import annotations

from taskcore.canvas import stamps
from taskcore.canvas.check import check_arguments
from taskcore.canvas.compose import is_empty, kind, make_chord
from taskcore.canvas.links import listed
from taskcore.canvas.members import Members
from taskcore.canvas.run import start
from taskcore.canvas.signature import Signature, as_signature, make
from taskcore.typed import TYPE_CHECKING, Any, Iterator, Mapping
from taskcore.utils import is_mapping, uuid

if TYPE_CHECKING:
    from taskcore.canvas.run import Calls, Run


@Signature.register_type()
class group(Signature):  # noqa: N801 - Celery's name
    """`group(a, b, c)`: tasks that run at the same time; its result holds those of all.

    Called with one argument that is no signature, it takes the tasks from that; those of a
    generator are not in memory at once.
    """

    def __init__(self, *tasks: Any, app: Any = None, **options: Any) -> None:
        """
        Args:
            tasks: signatures, or one iterable of them.
            options: for all of them.
        """
        given: Any = tasks
        if len(tasks) == 1:
            given = tasks[0]
            if isinstance(given, group):
                given = given.tasks
            elif is_mapping(given):
                given = [as_signature(given, clone=True)]
        super().__init__("celery.group", (), {}, options, app=app, subtask_type="group")
        self.tasks = given

    @classmethod
    def _of(cls, d: Mapping[str, Any], app: Any) -> Signature:
        sig = super()._of(d, app)
        tasks, sig["kwargs"] = sig["kwargs"].get("tasks") or (), dict(sig["kwargs"])
        sig["kwargs"]["tasks"] = to_members(tasks, app)
        return sig

    @property
    def tasks(self) -> Any:
        """The members: a list, or a sequence that is read from its generator when it is looked at."""
        return self["kwargs"]["tasks"]

    @tasks.setter
    def tasks(self, tasks: Any) -> None:
        self["kwargs"]["tasks"] = to_members(tasks, self._app)

    @property
    def app(self) -> Any:
        """The app that it is sent through: its own, or that of its first member."""
        if self._app is not None:
            return self._app
        tasks = self.tasks
        first = tasks.first() if isinstance(tasks, Members) else next(iter(tasks), None)
        return super().app if first is None else first.app

    def clone(self, args: Any = None, kwargs: Any = None, **opts: Any) -> group:
        """A copy, with copies of its members; those of a generator are shared."""
        new = super().clone(args, kwargs, **opts)
        if not isinstance(self.tasks, Members):
            new["kwargs"]["tasks"] = [task.clone() for task in self.tasks]
        return new

    def _unrolled(self) -> Signature:
        tasks = self.tasks
        if isinstance(tasks, Members) and not tasks.is_read:
            return self
        return tasks[0] if len(tasks) == 1 else self

    def _then(self, other: Signature) -> Signature:
        if is_empty(other) and kind(other) == "group":
            return self
        chord: Signature = make_chord(self, other, self._app)
        return chord

    def set_immutable(self, immutable: bool) -> None:
        """Whether its members take arguments from what runs before."""
        for task in self.tasks:
            task.set_immutable(immutable)

    def link(self, sig: Any) -> Any:
        """Has the first member followed by it, without a value, as in Celery; what is to follow all
        members is the body of a chord."""
        return self.tasks[0].link(as_signature(sig).clone().set(immutable=True))

    def link_error(self, sig: Any) -> Any:
        """Has each member followed by it, when that fails."""
        sig = as_signature(sig)
        return tuple(task.link_error(sig.clone()) for task in self.tasks)

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> group:
        """Delays the members by a `countdown` of their own: `start` seconds for the first and `step`
        more for each next; those that would have more than `stop` have as much as the last that has
        not."""
        later = float(start)
        for task in self.tasks:
            task.set(countdown=later)
            if stop is None or later + step <= stop:
                later += step
        return self

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> None:
        """Stamps each member."""
        more = None if visitor is None else visitor.on_group_start(self, **headers) or {}
        headers = stamps.merge(headers, more, append_stamps, self["options"])
        self.stamp_links(visitor, append_stamps, **headers)
        for task in self.tasks:
            task.stamp(visitor, append_stamps, **headers)
        if visitor is not None:
            visitor.on_group_end(self, **headers)

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Signature | None = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Gives itself and its members their ids, in place; its GroupResult. Groups in it become
        members of it."""
        own = self["options"]
        own["task_id"] = own.get("task_id") or _id or uuid()
        given = {"group_id": group_id, "chord": chord, "root_id": root_id, "parent_id": parent_id}
        for key, value in ({**given, "group_index": group_index}).items():
            if value is not None and own.get(key) is None:
                own[key] = value
        given = {key: own.get(key) for key in given}
        self.tasks = [task.clone() for task in spread(self.tasks)]
        results = [task.freeze(group_index=i, **given) for i, task in enumerate(self.tasks)]
        return self.app.GroupResult(own["task_id"], results)

    _freeze = freeze

    # Calling

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Sends it, with arguments for each member."""
        return self.apply_async(args, **options)

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Sends all members, with arguments added, in few round trips; a GroupResult.

        Args:
            options: for each member; `task_id` is the id of the group.
        Raises:
            TypeError: `link` or `link_error`: what follows a group is the body of a chord.
        """
        for name in ("link", "link_error"):
            if options.get(name) is not None:
                raise TypeError(
                    f"option `{name}` of a group: link its members, or make it the header of a chord"
                )
        if self.app.conf["task_always_eager"]:
            return self.apply(args, kwargs, **options)
        return start(self, args, kwargs, options)

    def _unfold(self, run: Run, args: Any, kwargs: Any, options: dict[str, Any]) -> Calls:
        own = self.merged((), None, options)[2]
        if rest := listed(own.pop("chain", None)):
            # What follows all members follows them as the body of a chord.
            alone = self.clone()
            body = make("chain", rest[::-1], self._app)
            return (yield from make_chord(alone, body)._unfold(run, args, kwargs, own))
        group_id = own.pop("task_id", None) or uuid()
        own["group_id"] = group_id
        check_arguments(self.tasks, run.app)
        told = run.begin_group(own)
        results: list[Any] = []
        yield from unfold_members(run, spread(self.tasks, take=True), own, (args, kwargs), results)
        return run.group_result(group_id, results, told)

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Runs its members here and now, one after the other; a GroupResult."""
        own = self.merged((), None, options)[2]
        group_id = own.pop("task_id", None) or uuid()
        own["group_id"] = group_id
        results = [task.apply(args, kwargs, **own) for task in spread(self.tasks, take=True)]
        return self.app.GroupResult(group_id, results)

    def __len__(self) -> int:
        return len(self.tasks)

    def __bool__(self) -> bool:
        return bool(self.tasks)

    def __repr__(self) -> str:
        return f"group({list(self.tasks)!r})" if self.tasks else "group(<empty>)"


def to_members(tasks: Any, app: Any = None) -> Any:
    """The members of a group: a list of signatures; what gives them one by one is left to do so."""
    if isinstance(tasks, Members):
        return tasks
    if hasattr(tasks, "__next__"):
        return Members(tasks, app)
    return [as_signature(task, app) for task in tasks]


def spread(tasks: Any, take: bool = False) -> Iterator[Any]:
    """The members with those of inner groups in their places; an empty chain is none.

    Args:
        take: do not keep what a generator gives.
    """
    for task in tasks.take() if take and isinstance(tasks, Members) else tasks:
        if kind(task) == "group":
            yield from spread(task.tasks, take)
        elif not is_empty(task):
            yield task


def unfold_members(
    run: Run,
    members: Any,
    shared: dict[str, Any],
    arguments: tuple[Any, Any],
    results: list[Any],
) -> Calls:
    """The calls of the members of a group.

    Args:
        shared: the options of all, with the id of the group.
        results: gets one for each member; the number of the call where its task has no id yet.
    """
    args, kwargs = arguments
    for index, member in enumerate(members):
        if member["options"] or args or kwargs or not member._is_plain:
            more = {**shared, "group_index": index}
            results.append((yield from member._unfold(run, args, kwargs, more)))
        else:
            results.append(run.count)
            run.count += 1
            yield member["task"], member["args"], member["kwargs"], shared, index
