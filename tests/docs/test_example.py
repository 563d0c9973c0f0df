"""The example runs on a few files, on every broker, and leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "examples" / "stdlib_stats" / "run.py"


@pytest.mark.parametrize("broker", ["embedded", "redis"])
def test_the_example_proves_itself(
    broker: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    options = ["--broker", request.getfixturevalue("redis_url")] if broker == "redis" else []
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    here = tmp_path / "here"
    here.mkdir()
    done = subprocess.run(
        [sys.executable, str(RUN), "--limit", "80", *options],
        cwd=here,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "identical: yes" in done.stdout
    assert done.stdout.count("package ") == 2
    assert "80/80 files" in done.stderr
    assert list(here.iterdir()) == []
    assert list(temporary.iterdir()) == []
    if broker == "redis":
        import redis

        with redis.Redis.from_url(options[1]) as client:
            # What marks the end of a session expires by itself; the name of the queue stays.
            assert [k for k in client.scan_iter() if client.ttl(k) < 0] == [b"{taskcore}:queues"]
