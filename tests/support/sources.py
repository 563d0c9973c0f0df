"""What the core's source says, where a test's copy could grow apart from it."""

import re
from pathlib import Path

_BRIDGE = Path(__file__).parents[2] / "rust" / "python" / "src"


def names_in_core(constant: str) -> frozenset[str]:
    """The names that a constant of the bridge lists."""
    pattern = re.compile(rf"const {constant}: [^=]+= \[(.*?)\];", re.DOTALL)
    found = [match for path in _BRIDGE.glob("*.rs") for match in pattern.findall(path.read_text())]
    assert len(found) == 1, f"`{constant}` is in {len(found)} files of {_BRIDGE}"
    return frozenset(re.findall(r'"(\w+)"', found[0]))
