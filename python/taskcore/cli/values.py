"""How the command line reads times and JSON, and how it shows what came back."""

import datetime as dt
import json
from typing import Any

import click


class Json(click.ParamType):  # type: ignore[type-arg]
    """A JSON document of one kind."""

    name = "json"

    def __init__(self, kind: type, words: str) -> None:
        self.kind = kind
        self.words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, self.kind):
            return value
        try:
            read = json.loads(value)
        except ValueError as error:
            self.fail(f"`{value}` is not JSON ({error}); expected {self.words}", param, ctx)
        if not isinstance(read, self.kind):
            self.fail(f"`{value}` is not {self.words}", param, ctx)
        return read


class Names(click.ParamType):  # type: ignore[type-arg]
    """Names with commas between them, at least one."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, list):
            return value
        found = list(dict.fromkeys(filter(None, map(str.strip, value.split(",")))))
        if not found:
            self.fail(
                f"`{value}` names nothing; expected names with commas between them", param, ctx
            )
        return found


class Text(click.ParamType):  # type: ignore[type-arg]
    """Text that is not empty."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value.strip():
            self.fail("it is empty; expected text", param, ctx)
        return value


class When(click.ParamType):  # type: ignore[type-arg]
    """A point in time in ISO 8601; without a zone it is local time."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, dt.datetime):
            return value
        try:
            read = dt.datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"`{value}` is not a time; expected ISO 8601, as in `2026-01-31T18:30`", param, ctx
            )
        return read.astimezone() if read.tzinfo is None else read


class SecondsOrWhen(When):
    """Seconds from now, or a point in time."""

    name = "seconds or time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return float(value)
        except (TypeError, ValueError):
            return super().convert(value, param, ctx)


def printable(text: str, most: int = 80) -> str:
    """Text from outside for a terminal: on one line, without control characters, not longer than
    `most`."""
    shown = text if text.isprintable() else repr(text)[1:-1]
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


def table(columns: list[str], rows: list[list[Any]]) -> str:
    """Rows under their headings; the first column to the left, numbers to the right."""
    cells = [columns, *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[n]) for row in cells) for n in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )
