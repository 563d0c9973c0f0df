"""The ways to reach a Redis: password, user, database number, Unix socket; and its refusals."""

from pathlib import Path

import pytest

from support.redis_server import RedisServer
from support.site import Site
from taskcore.exceptions import OperationalError

WAIT = 30
USER = ["worker", "on", ">w0rd", "~*", "&*", "+@all"]


@pytest.fixture
def locked(tmp_path: Path) -> RedisServer:
    folder = tmp_path / "locked"
    folder.mkdir()
    options = ["--requirepass", "s3cret", "--unixsocket", str(folder / "socket")]
    server = RedisServer(folder, *options, "--user", *USER)
    return server


def test_password_user_database_and_socket(locked: RedisServer, tmp_path: Path) -> None:
    locked.start()
    try:
        socket = locked.folder / "socket"
        urls = [
            f"redis://:s3cret@127.0.0.1:{locked.port}/3",
            f"redis://worker:w0rd@127.0.0.1:{locked.port}/4",
            f"unix://:s3cret@{socket}?db=5",
            f"redis+socket://:s3cret@{socket}?virtual_host=6",
        ]
        for number, url in enumerate(urls):
            folder = tmp_path / str(number)
            folder.mkdir()
            with Site(folder, url, url) as site:
                worker = site.worker("-c", "1")
                assert site.task("add").delay(number, 1).get(timeout=WAIT) == number + 1
                assert "s3cret" not in worker.output and "w0rd" not in worker.output
                assert worker.stop() == 0
    finally:
        locked.stop()


@pytest.mark.parametrize("who", ["", ":wrong@", "nobody:wrong@"], ids=["none", "wrong", "nobody"])
def test_a_refused_login_is_said_and_hides_the_password(locked: RedisServer, who: str) -> None:
    import sample

    locked.start()
    try:
        app = sample.make(broker_url=f"redis://{who}127.0.0.1:{locked.port}/0")
        with pytest.raises(OperationalError) as caught:
            app.tasks["sample.add"].delay(1, 2)
        assert "wrong" not in str(caught.value)
    finally:
        locked.stop()
