"""All figures, one after the other, each in a process of its own: `python benches/figures [--runs
N] [NAME ...]`."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ALL = ("publish", "latency", "idle", "events", "embedded", "scheduled", "eta", "beat")


def main() -> int:
    """Runs those named, else all; fails when one could not be taken."""
    named = [word for word in sys.argv[1:] if word in ALL]
    options = [word for word in sys.argv[1:] if word not in ALL]
    failed = 0
    for name in named or ALL:
        failed |= subprocess.run(
            [sys.executable, str(HERE / f"{name}.py"), *options], check=False
        ).returncode
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
