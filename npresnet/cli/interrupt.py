"""Ctrl-C ends a command within a second, with one line and exit status 130.

Python acts on a signal between two of its own instructions. While a kernel is compiled, or runs, there may be none for many
seconds; and where compiled code calls Python, what that raises is lost. So a thread waits for the signal as well, and ends
what does not end by itself.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import Any

from ..files.safe_write import remove_unfinished
from ..kernels.cache import remove_temporary

__all__ = ["STATUS", "can_go_on", "watch"]

STATUS = 130
"""What shells report of a process that Ctrl-C has ended: 128 and the signal's number."""

_GRACE = 1.0  # seconds in which a command can end by itself and clear up; a second Ctrl-C cuts them short

_told = threading.Lock()  # taken by whoever has told the user

_advice = ""  # what the user is told besides


def watch() -> None:
    """From now on, Ctrl-C ends this process. Nothing changes where its caller has it ignored."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    read, write = socket.socketpair()
    write.setblocking(False)
    signal.signal(signal.SIGINT, _interrupted)
    signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(read, write), name="npresnet-interrupt", daemon=True).start()


def can_go_on(command: str) -> None:
    """From now on, SIGTERM ends this process as Ctrl-C does, with its own exit status, and the user is told which command goes on
    with the work. Nothing changes where Ctrl-C is not watched."""
    global _advice
    if signal.getsignal(signal.SIGINT) is _interrupted:
        _advice = f"npresnet: to go on with it: {command}\n"
        signal.signal(signal.SIGTERM, _interrupted)


def _interrupted(number: int, *_: Any) -> None:
    """In the main thread, as soon as it can: end the command as an error would, so that it clears up after itself."""
    if _tell():
        raise SystemExit(128 + number)


def _wait(read: socket.socket, write: socket.socket) -> None:
    """In a thread of its own. ``write``, where the signal's number arrives, is kept open by being here."""
    while (number := read.recv(1)[0]) not in (signal.SIGINT, signal.SIGTERM):
        pass
    read.settimeout(_GRACE)
    with suppress(TimeoutError):
        read.recv(1)
    _tell()
    remove_unfinished()
    remove_temporary()
    if os.isatty(2):
        os.write(2, b"\x1b[?25h")  # the cursor, which a progress bar has hidden
    os._exit(128 + number)


def _tell() -> bool:
    """Tell the user, unless that was done. Whether it was done now."""
    if not _told.acquire(blocking=False):
        return False
    sys.unraisablehook = lambda _: None  # compiled code that called Python would print what it loses
    start = "\r\x1b[K" if os.isatty(2) else ""  # over a progress bar, if there is one
    with suppress(OSError):
        os.write(2, f"{start}npresnet: interrupted\n{_advice}".encode(errors="backslashreplace"))
    return True
