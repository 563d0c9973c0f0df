"""`taskcore events`: what workers tell, as lines, as pictures for a camera, or on a screen."""

import click

from taskcore.cli.session import Session, pass_session
from taskcore.cli.values import Text
from taskcore.events.dumper import evdump
from taskcore.events.snapshot import camera_class, evcam


@click.command()
@click.option("-d", "--dump", is_flag=True, help="Write each event as a line.")
@click.option("-c", "--camera", metavar="MODULE.CLASS", type=Text(), help="Run a camera.")
@click.option(
    "-F",
    "--frequency",
    "--freq",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Between two pictures, or two looks of the screen.",
)
@click.option("-r", "--maxrate", metavar="RATE", type=Text(), help="At most so many, as 10/m.")
@pass_session
def events(
    session: Session,
    /,
    dump: bool,
    camera: str | None,
    frequency: float,
    maxrate: str | None,
) -> None:
    """Follow what workers do; `top` is another name.

    Workers tell what happens to their tasks when they were started with `-E`, or were told to by
    `taskcore control enable_events`.
    """
    app = session.app  # a monitor may come before all others
    try:
        if dump:
            evdump(app)
        elif camera is not None:
            try:
                made = camera_class(camera)
            except (ImportError, AttributeError, ValueError) as error:
                raise click.BadParameter(f"no camera `{camera}`: {error}") from error
            evcam(made, frequency, maxrate, app)
        else:
            try:
                from taskcore.events.screen import evtop
            except ModuleNotFoundError as error:
                raise click.UsageError(
                    "the screen needs the module curses, which this Python does not have: use --dump"
                ) from error
            evtop(app, frequency)
    except KeyboardInterrupt:
        raise click.exceptions.Exit(0) from None
