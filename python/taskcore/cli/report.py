"""`taskcore report`: what a report of an error should say of the app, its settings and the system."""

import click

from taskcore.app import bugreport
from taskcore.cli.session import Session, pass_session


@click.command()
@pass_session
def report(session: Session, /) -> None:
    """Show versions, system and settings, for a report of an error."""
    app = session.app if session.names_app else None
    if app is not None:
        app.import_modules()
    click.echo(bugreport(app))
