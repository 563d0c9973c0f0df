"""StampingVisitor: says, part by part, with which headers a workflow is stamped."""

from __future__ import annotations

from taskcore.typed import Any


class StampingVisitor:
    """Base class of what `sig.stamp(visitor)` asks. Each method but those of an end gives the
    headers to add as a dict; only `on_signature` must be defined."""

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        """A task. `headers` are those that it gets from what it is a part of."""
        raise NotImplementedError(
            f"`{type(self).__name__}` stamps no tasks: define `on_signature(self, sig, **headers)`"
        )

    def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any]:
        """A group, before its members."""
        return {}

    def on_group_end(self, group: Any, **headers: Any) -> None:
        """A group, after its members."""

    def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any]:
        """A chain, before its tasks."""
        return {}

    def on_chain_end(self, chain: Any, **headers: Any) -> None:
        """A chain, after its tasks."""

    def on_chord_header_start(self, sig: Any, **headers: Any) -> dict[str, Any]:
        """A chord, before its header; the header is a group like others."""
        return self.on_group_start(sig.header_group(), **headers)

    def on_chord_header_end(self, sig: Any, **headers: Any) -> None:
        """A chord, after its header."""
        self.on_group_end(sig.header_group(), **headers)

    def on_chord_body(self, sig: Any, **headers: Any) -> dict[str, Any]:
        """A chord, before its body."""
        return {}

    def on_callback(self, callback: Any, **headers: Any) -> dict[str, Any]:
        """What a task links to."""
        return {}

    def on_errback(self, errback: Any, **headers: Any) -> dict[str, Any]:
        """What a task links to for failures."""
        return {}
