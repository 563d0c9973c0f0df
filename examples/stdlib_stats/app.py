"""The task queue application: one task that counts one file.

Nothing about brokers is configured here, so the embedded default serves: a database file in the
current directory.
"""

from counts import Counts, count_file
from taskcore import Taskcore

app = Taskcore("stdlib_stats")


@app.task
def count(root: str, relative: str) -> Counts:
    """Counts one file of the standard library."""
    return count_file(root, relative)
