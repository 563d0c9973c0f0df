"""Installed wheel, no server, no pytest: publishes to a database file, starts a worker through the
command line, reads the result; once for each pool that the platform has.

Run by the wheel builds of every platform.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

APP = "from taskcore import Taskcore\napp = Taskcore('smoke')\n\n@app.task\ndef add(x, y):\n    return x + y\n"


def main() -> None:
    """Raises when something is wrong."""
    for pool in ("prefork", "threads", "solo") if hasattr(os, "fork") else ("threads", "solo"):
        run(pool)
        print(f"smoke: {pool} ok on Python {sys.version.split()[0]}")


def run(pool: str) -> None:
    """One task by a worker of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chdir(folder)
        Path("smoke_app.py").write_text(APP)
        sys.path.insert(0, folder)
        sys.modules.pop("smoke_app", None)
        from smoke_app import add  # type: ignore[import-not-found]

        result = add.delay(20, 22)
        scripts = Path(sysconfig.get_path("scripts"))
        taskcore = str(scripts / ("taskcore.exe" if os.name == "nt" else "taskcore"))
        worker = subprocess.Popen([taskcore, "-A", "smoke_app", "worker", "-P", pool, "-l", "info"])
        try:
            assert result.get(timeout=60) == 42
        finally:
            worker.terminate()
            worker.wait(30)
        sys.path.remove(folder)
        os.chdir(tempfile.gettempdir())


if __name__ == "__main__":
    main()
