"""What the core's source says, where a test's copy could grow apart from it."""

import re
from pathlib import Path

_FIELDS = Path(__file__).parents[2] / "rust" / "python" / "src" / "fields.rs"


def names_in_core(constant: str) -> frozenset[str]:
    """The names that a constant of the core's `fields.rs` lists."""
    found = re.search(rf"const {constant}: [^=]+= \[(.*?)\];", _FIELDS.read_text(), re.DOTALL)
    assert found is not None, f"`{constant}` is not in {_FIELDS.name}"
    return frozenset(re.findall(r'"(\w+)"', found[1]))
