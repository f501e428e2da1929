"""Standard output and standard error as the caller has left them: perhaps closed, on a full disk, or read by nobody."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

__all__ = ["standard_streams"]


@contextmanager
def standard_streams() -> Iterator[None]:
    """Run a command within: results that cannot be written end it with one line and exit status 1.

    A reader that has gone (``| head``) is no news to anybody: the same without the line.
    """
    _occupy_closed()
    sys.stdout = _over(sys.stdout, 1, _Results)
    sys.stderr = _over(sys.stderr, 2, _Messages)
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_results()
        sys.exit(1)
    except _Unwritten as error:
        _discard_results()
        print(
            f"npresnet: the results cannot be written to standard output ({error}); send them elsewhere",
            file=sys.stderr,
        )
        sys.exit(1)


def _occupy_closed() -> None:
    """No file may get the number of a standard stream that is closed: whatever writes to that stream, as HDF5 does where it
    fails, would write into the file. What is there instead can only be read, so that writing still fails."""
    while True:
        descriptor = os.open(os.devnull, os.O_RDONLY)
        if descriptor > 2:
            os.close(descriptor)
            return


def _over(stream: TextIO | None, descriptor: int, kind: type[io.BufferedWriter]) -> TextIO:
    """The same stream, written by way of ``kind``. A name that the terminal's encoding lacks is no reason to stop."""
    if stream is None:  # it was closed
        return io.TextIOWrapper(kind(io.FileIO(descriptor, "wb", closefd=False)))
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    raw: Any = getattr(stream.buffer, "raw", stream.buffer)  # what PYTHONUNBUFFERED leaves is raw itself
    by_line = stream.line_buffering or stream.write_through
    return io.TextIOWrapper(kind(raw), stream.encoding, "backslashreplace", line_buffering=by_line)


class _Unwritten(Exception):
    """Standard output cannot be written; the text says why."""


class _Results(io.BufferedWriter):
    """Standard output, whose failures are told from those of all other files."""

    def write(self, data: Buffer) -> int:
        with _told_apart():
            return super().write(data)

    def flush(self) -> None:
        with _told_apart():
            super().flush()


@contextmanager
def _told_apart() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _Unwritten(error.strerror or str(error)) from error


class _Messages(io.BufferedWriter):
    """Standard error. Where it cannot be written, there is nobody to be told so; the exit status stays what it is."""

    def write(self, data: Buffer) -> int:
        with suppress(OSError):
            super().write(data)
        return memoryview(data).nbytes

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def _discard_results() -> None:
    """What is left in the buffer goes nowhere: Python would try again at its end, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
