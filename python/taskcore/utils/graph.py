"""Graphs of what depends on what, and their form for Graphviz.

The text that `to_dot` writes is Celery's, shapes and colours included, so pictures of workflows
look as they did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, ItemsView, Iterable, Iterator, Mapping
from typing import Any, TextIO

_SCHEME = {"shape": "box", "arrowhead": "vee", "style": "filled", "fontname": "HelveticaNeue"}
_EDGE = {"color": "darkseagreen4", "arrowcolor": "black", "arrowsize": 0.7}
_NODE = {"fillcolor": "palegreen3", "color": "palegreen4"}
_LEAF = {"fillcolor": "palegreen1", "color": "palegreen2"}
_GRAPH = {"bgcolor": "mintcream"}
_ARROWS = {"graph": "--", "digraph": "->"}


class CycleError(Exception):
    """A graph that is to be sorted has a cycle."""


class GraphFormatter:
    """How a graph is written: shapes, colours, labels."""

    scheme: Mapping[str, Any] = _SCHEME
    edge_scheme: Mapping[str, Any] = _EDGE
    node_scheme: Mapping[str, Any] = _NODE
    term_scheme: Mapping[str, Any] = _LEAF
    graph_scheme: Mapping[str, Any] = _GRAPH

    def __init__(
        self,
        root: Any = None,
        type: str | None = None,
        id: str | None = None,
        indent: int = 0,
        inw: str = "    ",
        **scheme: Any,
    ) -> None:
        """
        Args:
            root: what the graph is of.
            type: `digraph` (default) or `graph`.
            id: name of the graph.
            indent: how far it is set in, in steps of `inw`.
            scheme: attributes of every node and edge.
        """
        self.id = id or "dependencies"
        self.root = root
        self.type = type or "digraph"
        self.direction = _ARROWS[self.type]
        self.outer = inw * indent
        self.inner = self.outer + inw
        self.scheme = {**self.scheme, **scheme}
        self.graph_scheme = {**self.graph_scheme, "root": self.label(root)}

    def label(self, obj: Any) -> Any:
        """What stands for an object; to be overridden."""
        return obj

    def attrs(self, own: Mapping[str, Any] | None, scheme: Mapping[str, Any]) -> str:
        """Attributes as they are written."""
        merged = {**self.scheme, **scheme, **(own or {})}
        return ", ".join(f'{name}="{value}"' for name, value in merged.items())

    def head(self, **attrs: Any) -> str:
        """The lines in front."""
        written = self.attrs(attrs, self.graph_scheme)
        return f"{self.outer}{self.type} {self.id} {{\n{self.inner}graph [{written}]"

    def tail(self) -> str:
        """The line behind."""
        return f"{self.outer}}}"

    def node(self, obj: Any, **attrs: Any) -> str:
        """An object on which others depend."""
        return self.draw_node(obj, self.node_scheme, attrs)

    def terminal_node(self, obj: Any, **attrs: Any) -> str:
        """An object on which nothing depends."""
        return self.draw_node(obj, self.term_scheme, attrs)

    def edge(self, a: Any, b: Any, **attrs: Any) -> str:
        """A dependency."""
        return self.draw_edge(a, b, self.edge_scheme, attrs)

    def draw_node(
        self, obj: Any, scheme: Mapping[str, Any], attrs: Mapping[str, Any] | None = None
    ) -> str:
        """The line of an object."""
        return f'{self.inner}"{self.label(obj)}" [{self.attrs(attrs, scheme)}]'

    def draw_edge(
        self, a: Any, b: Any, scheme: Mapping[str, Any], attrs: Mapping[str, Any] | None = None
    ) -> str:
        """The line of a dependency."""
        line = f'"{self.label(a)}" {self.direction} "{self.label(b)}"'
        return f"{self.inner}{line} [{self.attrs(attrs, scheme)}]"


class DependencyGraph:
    """Objects, and what each of them leads to."""

    def __init__(
        self,
        it: Iterable[tuple[Hashable, Iterable[Hashable]]] | None = None,
        formatter: GraphFormatter | None = None,
    ) -> None:
        """
        Args:
            it: objects, each with those that it leads to.
        """
        self.formatter = formatter or GraphFormatter()
        self.adjacent: dict[Any, list[Any]] = {}
        if it is not None:
            self.update(it)

    def add_arc(self, obj: Hashable) -> None:
        """Adds an object."""
        self.adjacent.setdefault(obj, [])

    def add_edge(self, a: Hashable, b: Hashable) -> None:
        """Says that `a`, which was added, leads to `b`."""
        self.adjacent[a].append(b)

    def connect(self, graph: DependencyGraph) -> None:
        """Adds all of another graph."""
        self.adjacent.update(graph.adjacent)

    def update(self, it: Iterable[tuple[Hashable, Iterable[Hashable]]]) -> None:
        """Adds objects, each with those that it leads to."""
        added = list(it)
        for obj, _ in added:
            self.add_arc(obj)
        for obj, leads_to in added:
            for other in leads_to:
                self.add_edge(obj, other)

    def edges(self) -> Iterator[Any]:
        """The objects that lead to others."""
        return (obj for obj, leads_to in self.items() if leads_to)

    def items(self) -> ItemsView[Any, list[Any]]:
        """The objects, each with those that it leads to."""
        return self.adjacent.items()

    iteritems = items

    def valency_of(self, obj: Hashable) -> int:
        """How many edges are on the ways from an object."""
        leads_to = self.adjacent.get(obj, [])
        return len(leads_to) + sum(self.valency_of(other) for other in leads_to)

    def topsort(self) -> list[Any]:
        """The objects, each behind those that it leads to.

        Raises:
            CycleError: there is no such order.
        """
        entering = Counter(other for leads_to in self.adjacent.values() for other in leads_to)
        free = [obj for obj in self.adjacent if not entering[obj]]
        done = []
        while free:
            obj = free.pop()
            done.append(obj)
            for other in self.adjacent.get(obj, ()):
                entering[other] -= 1
                if not entering[other]:
                    free.append(other)
        if len(done) < len(self.adjacent):
            raise CycleError("the graph has a cycle: its objects have no order")
        return done[::-1]

    def to_dot(self, fh: TextIO, formatter: GraphFormatter | None = None) -> None:
        """Writes the graph for Graphviz."""
        draw = formatter or self.formatter
        seen: set[Any] = set()

        def once(line: Any, obj: Any) -> None:
            if draw.label(obj) not in seen:
                seen.add(draw.label(obj))
                print(line(obj), file=fh)

        print(draw.head(), file=fh)
        for obj, leads_to in self.items():
            if not leads_to:
                once(draw.terminal_node, obj)
            for other in leads_to:
                once(draw.node, obj)
                print(draw.edge(obj, other), file=fh)
        print(draw.tail(), file=fh)

    def format(self, obj: Any) -> Any:
        """What stands for an object."""
        return self.formatter.label(obj)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.adjacent)

    def __getitem__(self, obj: Hashable) -> list[Any]:
        return self.adjacent[obj]

    def __len__(self) -> int:
        return len(self.adjacent)

    def __contains__(self, obj: object) -> bool:
        return obj in self.adjacent

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} objects>"
