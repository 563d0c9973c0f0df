"""A program that runs in the background, as another user, with other rights for its files.

The command waits until the program that it leaves behind has begun, so that what is wrong is said
where the user looks, and the exit code tells.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from contextlib import suppress

from taskcore.exceptions import ImproperlyConfigured


def become(uid: str | int | None, gid: str | int | None, umask: str | int | None) -> None:
    """Makes this process one of another user.

    Args:
        uid: name or number of the user; its group and further groups come with it.
        gid: name or number of the group, instead of the user's own.
        umask: rights that files do not get, a number or octal text.
    Raises:
        ImproperlyConfigured: there is no such user or group, this process may not become one, or the
            mask is none.
    """
    if umask is not None:
        os.umask(_mask(umask))
    user = None if uid is None else _user(uid)
    group = None if gid is None else _group(gid)
    if group is None and user is not None:
        group = user.pw_gid
    try:
        # The user last: after that, nothing else may be changed.
        if group is not None and group != os.getegid():
            os.setgid(group)
        if user is not None and user.pw_uid != os.geteuid():
            os.initgroups(user.pw_name, user.pw_gid if group is None else group)
            os.setuid(user.pw_uid)
    except PermissionError as exc:
        raise ImproperlyConfigured(
            f"cannot become user `{uid}`, group `{gid}` ({exc.strerror}): only root may; leave --uid and --gid out"
        ) from exc


def detach() -> Callable[[], None]:
    """Leaves a process in the background and ends this one when that has begun, or failed.

    Returns:
        in the background: what says that it has begun; standard error is that of the command until
        then.
    """
    ready, begun = os.pipe()
    if os.fork():
        os.close(begun)
        with os.fdopen(ready, "rb") as told:
            os._exit(0 if told.read() else 1)
    os.close(ready)
    os.setsid()
    if os.fork():
        # Only what is not first in its session can never get a terminal.
        os._exit(0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)

    def say() -> None:
        os.dup2(nowhere, 2)
        os.close(nowhere)
        with suppress(BrokenPipeError):  # the command was ended, the program was not
            os.write(begun, b"1")
        os.close(begun)

    return say


def _mask(umask: str | int) -> int:
    try:
        mask = int(umask, 8) if isinstance(umask, str) else int(umask)
    except ValueError:
        mask = -1
    if not 0 <= mask <= 0o777:
        raise ImproperlyConfigured(f"umask is `{umask}`: expected three octal digits such as 022")
    return mask


def _user(uid: str | int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(uid)) if str(uid).isdigit() else pwd.getpwnam(str(uid))
    except KeyError:
        raise ImproperlyConfigured(f"uid is `{uid}`: expected a user of this machine") from None


def _group(gid: str | int) -> int:
    try:
        found = grp.getgrgid(int(gid)) if str(gid).isdigit() else grp.getgrnam(str(gid))
    except KeyError:
        raise ImproperlyConfigured(f"gid is `{gid}`: expected a group of this machine") from None
    return found.gr_gid
