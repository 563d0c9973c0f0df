"""What is counted in one source file, and how counts of many files become a table. Knows nothing
of taskcore.

The demonstration runs these functions twice, once spread over worker processes and once in a
single process, and compares what comes out. Keeping them free of the queue is what makes that
comparison a proof.
"""

import sysconfig
import tokenize
from collections.abc import Iterable
from pathlib import Path

Counts = dict[str, int]

COLUMNS = ("files", "tokens", "lines", "names", "numbers", "strings", "comments", "bytes")

_KIND = {
    tokenize.NAME: "names",
    tokenize.NUMBER: "numbers",
    tokenize.STRING: "strings",
    tokenize.COMMENT: "comments",
}


def stdlib() -> Path:
    """The folder of the running interpreter's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def source_files(root: Path) -> list[Path]:
    """Every `.py` file below `root`, relative to it and sorted, without installed packages."""
    found = (path.relative_to(root) for path in root.rglob("*.py"))
    return sorted(path for path in found if path.parts[0] not in ("site-packages", "dist-packages"))


def count_file(root: str, relative: str) -> Counts:
    """Tokenizes one file and counts what is in it.

    The standard library ships files that are broken on purpose, for its own tests: what comes
    before the error is counted, and the file adds one to `broken`.
    """
    path = Path(root, relative)
    counts = dict.fromkeys(COLUMNS, 0) | {"files": 1, "bytes": path.stat().st_size, "broken": 0}
    with path.open("rb") as source:
        try:
            for token in tokenize.tokenize(source.readline):
                counts["tokens"] += 1
                counts["lines"] = token.end[0]
                kind = _KIND.get(token.type)
                if kind is not None:
                    counts[kind] += 1
        except (SyntaxError, UnicodeDecodeError, tokenize.TokenError):
            counts["broken"] = 1
    return counts


def by_package(files: Iterable[Path], counts: Iterable[Counts]) -> dict[str, Counts]:
    """Sums the counts of all files of one top-level package or module."""
    packages: dict[str, Counts] = {}
    for path, count in zip(files, counts, strict=True):
        total = packages.setdefault(path.parts[0].removesuffix(".py"), {})
        for name, value in count.items():
            total[name] = total.get(name, 0) + value
    return packages


def table(packages: dict[str, Counts], rows: int = 10) -> str:
    """The `rows` largest packages by tokens, and the sum of all, as text."""
    largest = sorted(packages.items(), key=lambda item: (-item[1]["tokens"], item[0]))[:rows]
    everything = {column: sum(p[column] for p in packages.values()) for column in COLUMNS}
    lines = ["".join([f"{'package':<16}", *(f"{column:>12}" for column in COLUMNS)])]
    for name, count in [*largest, (f"all {len(packages)}", everything)]:
        lines.append("".join([f"{name:<16}", *(f"{count[column]:>12,}" for column in COLUMNS)]))
    return "\n".join(lines)
