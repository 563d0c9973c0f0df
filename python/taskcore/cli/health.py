"""`taskcore health` says whether one worker is ready; for the probe of a container.

Over the broker, as remote control does, or with `--http` from the worker itself, which needs neither
the app nor a program like curl. Both ask the same function of the worker, so they agree.
"""

import http.client
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import click

from taskcore.cli.remote import NOBODY, Unanswered
from taskcore.cli.session import Session, pass_session
from taskcore.cli.values import printable

NOT_READY = 1
"""Exit code: it answers, and takes no tasks."""
UNIX = "unix:"
AGAIN = 0.2
"""Seconds between two questions."""


class Silent(click.ClickException):
    """Nobody answers over HTTP."""

    exit_code = NOBODY


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        """Connects to the path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def connection(address: str, timeout: float) -> http.client.HTTPConnection:
    """To what `worker --http` was given."""
    if address.startswith(UNIX):
        return UnixConnection(address.removeprefix(UNIX).removeprefix("//"), timeout)
    host, _, port = address.removeprefix("http://").rstrip("/").rpartition(":")
    # An address that a worker listens at for everybody is none to connect to.
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host)  # noqa: S104 - compared with
    if not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f"`{address}`, expected what `worker --http` was given")
    return http.client.HTTPConnection(host.strip("[]"), int(port), timeout=timeout)


def fetch(address: str, page: str, timeout: float) -> dict[str, Any] | None:
    """What the worker says; None when it says nothing."""
    link = connection(address, timeout)
    try:
        link.request("GET", page)
        said = json.loads(link.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        link.close()
    return said if isinstance(said, dict) else None


def over_broker(app: Any, name: str, question: str, timeout: float) -> dict[str, Any] | None:
    """What the worker says to remote control; None when it says nothing."""
    inspect = app.control.inspect([name], timeout=timeout)
    replies = inspect.ping() if question == "live" else inspect.health()
    if not replies:
        return None
    said: dict[str, Any] = replies[name]
    # A worker of Celery's knows no more than that it answers.
    known = question == "ready" and "error" not in said
    return said if known else {question: True}


def ask(
    question: str, put: Callable[[], dict[str, Any] | None], patience: float
) -> dict[str, Any] | None:
    """Puts the question, again and again while the answer is not yes and there is patience left."""
    end = time.monotonic() + patience
    while True:
        said = put()
        if (said and said.get(question) is True) or time.monotonic() >= end:
            return said
        time.sleep(AGAIN)


def judge(said: dict[str, Any], name: str, question: str) -> None:
    """Shows what a worker said, and ends the program where it is not well."""
    if said.get(question) is True:
        click.echo(f"{name} is {question}")
        return
    click.echo(f"{name} is not {question}", err=True)
    for reason in said.get("reasons", ()):
        click.echo(f"  {printable(reason['check'])}: {printable(reason['message'])}", err=True)
    raise click.exceptions.Exit(NOT_READY)


@click.command()
@click.option(
    "-n",
    "--hostname",
    metavar="NAME",
    help="Name of the worker; default: the one that a worker on this machine has.",
)
@click.option(
    "-t",
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    default=5.0,
    show_default=True,
    help="Wait so long for its reply.",
)
@click.option(
    "-w",
    "--wait",
    "patience",
    metavar="SECONDS",
    type=click.FloatRange(0),
    default=0.0,
    help="Ask again for so long, until it is.",
)
@click.option(
    "--http",
    "address",
    metavar="HOST:PORT",
    help="Ask what `worker --http` serves there; needs no app.",
)
@click.option("--live", is_flag=True, help="Ask only whether it runs, not whether it takes tasks.")
@pass_session
def health(
    session: Session,
    /,
    hostname: str | None,
    timeout: float,
    patience: float,
    address: str | None,
    live: bool,
) -> None:
    """Ask one worker whether it is ready; for the probe of a container.

    Exit code 0: yes. 1: no, and the reasons are on standard error. 69: it does not answer.
    """
    question = "live" if live else "ready"
    if address is not None:
        if hostname is not None:
            raise click.UsageError("--http names the worker already: leave out --hostname")
        where = address
        said = ask(question, lambda: fetch(where, f"/{question}", timeout), patience)
        if said is None:
            raise Silent(f"no worker answers at {address}")
        return judge(said, printable(str(said.get("worker", address))), question)
    name = hostname or f"taskcore@{socket.gethostname()}"
    app = session.existing()
    said = ask(question, lambda: over_broker(app, name, question, timeout), patience)
    if said is None:
        raise Unanswered
    judge(said, name, question)
