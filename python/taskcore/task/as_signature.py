"""A task as a value: the part of `Task` that makes signatures."""

from __future__ import annotations

from taskcore.typed import TYPE_CHECKING, Any, Iterable, later

if TYPE_CHECKING:
    from taskcore.canvas import Signature
    from taskcore.context import Context
else:
    Signature = later("taskcore.canvas", "Signature")


class AsSignature:
    """What makes signatures of a task."""

    if TYPE_CHECKING:
        _app: Any

        @property
        def request(self) -> Context: ...

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """A signature with these arguments."""
        from taskcore.canvas import Signature

        return Signature(self, args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """The same, immutable."""
        from taskcore.canvas import Signature

        return Signature(self, args, kwargs, immutable=True)

    def signature(self, args: Any = None, kwargs: Any = None, **options: Any) -> Signature:
        """A signature with arguments and options."""
        from taskcore.canvas import Signature

        return Signature(self, args, kwargs, **options)

    subtask = signature

    def map(self, it: Iterable[Any]) -> Signature:
        """A signature of one message that calls the task with each item."""
        from taskcore.canvas import xmap

        return xmap(self.s(), it, self._app)

    def starmap(self, it: Iterable[Any]) -> Signature:
        """The same, where each item is a list of arguments."""
        from taskcore.canvas import xstarmap

        return xstarmap(self.s(), it, self._app)

    def chunks(self, it: Iterable[Any], n: int) -> Signature:
        """A signature of messages that each call the task for `n` items, lists of arguments."""
        from taskcore.canvas import chunks

        return chunks(self.s(), it, n, self._app)

    def signature_from_request(
        self,
        request: Any = None,
        args: Any = None,
        kwargs: Any = None,
        queue: str | None = None,
        **options: Any,
    ) -> Signature:
        """A signature of an execution's own message: under its id, with what follows it.

        Args:
            request: default: the running one.
            args, kwargs: other arguments; default: the same.
            queue: another queue; default: the same.
            options: over those of the message.
        """
        from taskcore.task import retry as rules

        carried = (self.request if request is None else request).as_dict()
        kept = rules.as_options(rules.carried(carried))
        if queue or carried.get("queue"):
            kept["queue"] = queue or carried["queue"]
        return self.signature(
            carried["args"] if args is None else args,
            carried["kwargs"] if kwargs is None else kwargs,
            **{**kept, **options},
        )

    subtask_from_request = signature_from_request
