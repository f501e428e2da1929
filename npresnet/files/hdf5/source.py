"""The bytes of an untrusted file: the one way to reach them, and the limits that hold for all of them.

Every structure of the format is fetched with ``Source.get``, which compares offset and length with the file's size
before it does anything, and which charges what it hands out to a budget. So no number in the file can lead outside of
it, and no arrangement of numbers (cycles, a million names, one string shared by thousands) can cost more than the
budget. ``Fields`` then takes the fetched bytes apart, again without a step beyond their end.
"""

from __future__ import annotations

import io
import os
import struct

from ...errors import WeightsError

__all__ = ["MEMORY", "UNDEFINED", "Budget", "Damaged", "Fields", "OutsideSubset", "Source"]

UNDEFINED = 2**64 - 1
"""The address that HDF5 writes where there is nothing."""

MEMORY = 200 * 2**20
"""Bytes that the numbers of one file may take beyond the size of the file itself."""

_METADATA = 24 * 2**20  # bytes of structures and names of one file; the largest known detector has about 3 MB
_STEPS = 250_000  # nodes, messages, links, strings and chunks of one file; a step takes a few microseconds
_LETTERS = {2: "H", 4: "I", 8: "Q"}
_WINDOW = 8192  # structures lie close together: one system call fetches several


class Damaged(WeightsError):
    """The bytes contradict the format or each other."""

    def __init__(self, fact: str) -> None:
        super().__init__(f"the file is damaged ({fact}); download or save it again")


class OutsideSubset(Exception):
    """The file may be right, but it uses a feature of HDF5 that Keras does not: a case for h5py."""


class Budget:
    """What the reading of one weight file may cost, of however many parts it is.

    room  bytes of numbers that may still be handed out
    """

    def __init__(self, room: int) -> None:
        self._whole = room
        self.renew()

    def renew(self) -> None:
        """From now on it may cost as much once more: to read again what was within the limits before."""
        self.room, self._metadata, self._steps = self._whole, _METADATA, _STEPS

    def step(self, n: int = 1) -> None:
        """Charge ``n`` small pieces of work. Raises WeightsError."""
        self._steps -= n
        if self._steps < 0:
            raise WeightsError(f"the file holds more than {_STEPS} structures; no Keras model does: save it anew")

    def charge(self, n: int) -> None:
        """Charge ``n`` bytes of structures or text. Raises WeightsError."""
        self._metadata -= n
        if self._metadata < 0:
            raise WeightsError(
                f"the file holds more than {_METADATA >> 20} MB beside its numbers; no Keras model does: save it anew"
            )

    def reserve(self, n: int) -> None:
        """Charge ``n`` bytes of numbers, before memory is taken for them. Raises WeightsError."""
        if n > self.room:
            raise WeightsError(
                f"the numbers need {n} bytes more where {self.room} are left; the file is damaged or made to exhaust "
                "memory; if it is neither, save it without compression"
            )
        self.room -= n


class Source:
    """One file, or the part of one that is an HDF5 file: ``size`` bytes from ``start`` of an unbuffered binary stream."""

    def __init__(self, stream: io.RawIOBase | io.BytesIO, start: int, size: int, budget: Budget) -> None:
        self.size = size
        self.step, self.charge, self.reserve = budget.step, budget.charge, budget.reserve
        self._stream, self._start = stream, start
        self._window = 0, b""  # where it begins; both at once, because several threads may be reading

    def get(self, at: int, n: int, what: str) -> bytes:
        """``n`` bytes from offset ``at``, where ``what`` should be. Raises Damaged, WeightsError."""
        if at + n > self.size:
            raise Damaged(f"{what} would lie at {at} to {at + n}, in a file of {self.size} bytes")
        self.step()
        self.charge(n)
        first, window = self._window
        if not first <= at <= at + n <= first + len(window):
            fetched = bytearray(min(max(n, _WINDOW), self.size - at))
            self.readinto(at, memoryview(fetched))
            self._window = first, window = at, bytes(fetched)
        return window[at - first : at - first + n]

    def readinto(self, at: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes from offset ``at``. Raises Damaged, WeightsError."""
        if at + len(buffer) > self.size:
            raise Damaged(f"numbers would lie at {at} to {at + len(buffer)}, in a file of {self.size} bytes")
        try:
            done = 0
            while done < len(buffer):
                n = _read(self._stream, self._start + at + done, buffer[done:])
                if not n:
                    raise Damaged("it became shorter while it was being read")
                done += n
        except OSError as error:
            raise WeightsError(f"the file cannot be read ({error.strerror}); check the disk or the network") from None

    def limit(self, size: int) -> None:
        """From now on only the first ``size`` bytes count, which is what the file's own head says."""
        self.size = size


def _read(stream: io.RawIOBase | io.BytesIO, at: int, buffer: memoryview) -> int | None:
    """Read into ``buffer`` from offset ``at``, and say how many bytes; if possible without moving the file's position, which threads
    and forked processes share."""
    if isinstance(stream, io.FileIO) and hasattr(os, "preadv"):
        return os.preadv(stream.fileno(), [buffer], at)
    stream.seek(at)
    return stream.readinto(buffer)


class Fields:
    """The fields of one structure, taken from its bytes one after the other; all numbers are little-endian."""

    __slots__ = ("_at", "_data", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        self._data, self._what, self._at = data, what, 0

    @property
    def left(self) -> int:
        """Bytes not taken yet."""
        return len(self._data) - self._at

    def take(self, n: int) -> bytes:
        """The next ``n`` bytes. Raises Damaged where the structure ends before."""
        end = self._at + n
        if end > len(self._data):
            raise Damaged(f"{self._what} ends after {len(self._data)} bytes, within a field")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def uint(self, n: int) -> int:
        """The next ``n`` bytes as a number."""
        return int.from_bytes(self.take(n), "little")

    def unpack(self, layout: str) -> tuple[int, ...]:
        """Several numbers at once: ``layout`` as the struct module has it, B, H, I, Q for 1, 2, 4, 8 bytes, x for a
        byte to skip."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def numbers(self, count: int, n: int = 8) -> list[int]:
        """The next ``count`` numbers of 2, 4 or 8 bytes each."""
        return list(struct.unpack(f"<{count}{_LETTERS[n]}", self.take(count * n)))

    def expect(self, signature: bytes) -> None:
        """Skip the four letters that begin a structure. Raises Damaged where there are others."""
        found = self.take(len(signature))
        if found != signature:
            raise Damaged(f"{self._what} begins with {found!r}, not with {signature!r}")
