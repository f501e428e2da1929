"""``.keras`` archives: zip files with ``config.json``, ``metadata.json`` and ``model.weights.h5``.

    members, each: local header, bytes ──> central directory: one entry for each member ──> end record

Only the directory says what an archive holds. Members are looked up in it by exact name, and nothing is unpacked to
disk. The weights are stored as they are, so they are read in place; a deflated member is unpacked into memory, if that
is not out of proportion to the file.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import WeightsError
from .hdf5.source import Damaged, Fields, Source
from .impostors import archive_name

__all__ = ["CONFIG", "METADATA", "SIGNATURE", "WEIGHTS", "Archive"]

SIGNATURE = b"PK\x03\x04"
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"

_STORED, _DEFLATED = 0, 8
_MOST_MEMBERS = 1000
_END_RECORD = 22  # bytes, without the comment that may follow
_PIECE = 2**20


@dataclass(frozen=True)
class _Member:
    at: int  # of the local header
    packed: int
    size: int
    method: int
    crc: int
    flags: int


class Archive:
    """An open ``.keras`` file. Raises WeightsError for another zip archive, saying what it is, and for a damaged one."""

    def __init__(self, source: Source, stream: io.RawIOBase | io.BytesIO) -> None:
        self._source, self._stream = source, stream
        self._members = self._directory()
        if CONFIG not in self._members or WEIGHTS not in self._members:
            raise WeightsError(f"this is {archive_name(self._members)}")

    def read(self, name: str, most: int) -> bytes | None:
        """The bytes of a member, or None where there is none. Raises WeightsError if they are more than ``most``."""
        member = self._members.get(name)
        return None if member is None else self._unpack(name, member, most)

    def weights(self, most: int) -> tuple[io.RawIOBase | io.BytesIO, int, int]:
        """(stream, start, bytes) of the weights; in memory, with at most ``most`` bytes, if they are deflated."""
        member = self._members[WEIGHTS]
        if member.method == _STORED:
            return self._stream, self._data(WEIGHTS, member), member.size
        unpacked = self._unpack(WEIGHTS, member, most)
        return io.BytesIO(unpacked), 0, len(unpacked)

    def _directory(self) -> Mapping[str, _Member]:
        size = self._source.size
        tail_size = min(size, _END_RECORD + 2**16)
        tail = self._source.get(size - tail_size, tail_size, "the end of the archive")
        end = tail.rfind(b"PK\x05\x06")
        if end < 0:
            raise Damaged("the zip archive has no directory, so its download or copy was cut short")
        fields = Fields(tail[end:], "the end of the archive")
        fields.take(4)
        disk, first_disk, here, count, directory_size, directory_at, comment = fields.unpack("<4H2IH")
        if count == 0xFFFF or directory_at == 2**32 - 1:
            raise WeightsError(
                "this is a zip archive of more than 4 GB, which npresnet does not read; save it as `.h5`"
            )
        end_at = size - tail_size + end
        if disk or first_disk or here != count or fields.left != comment or directory_at + directory_size != end_at:
            raise Damaged("the end of the zip archive contradicts itself")
        if count > _MOST_MEMBERS:
            raise WeightsError(f"the archive has {count} members; no `.keras` file does")
        entries = Fields(self._source.get(directory_at, directory_size, "the directory"), "the directory")
        members: dict[str, _Member] = {}
        for _ in range(count):
            entries.expect(b"PK\x01\x02")
            (
                flags, method, crc, packed, unpacked, name_size, extra, remark, at,
            ) = entries.unpack("<4xHH4x3I3H8xI")  # fmt: skip
            name = entries.take(name_size).decode("utf-8", "replace")
            entries.take(extra + remark)
            if name in members:
                raise Damaged(f"the archive has two members {name!r}")
            if name.startswith("/") or "\\" in name or ":" in name or "\0" in name or ".." in name.split("/"):
                raise WeightsError(f"the archive has a member {name!r}, whose name leads out of it; no Keras file does")
            members[name] = _Member(at, packed, unpacked, method, crc, flags)
        if entries.left:
            raise Damaged("the directory of the archive is longer than its members need")
        return members

    def _data(self, name: str, member: _Member) -> int:
        """Where the bytes of a member begin. Raises WeightsError unless its header agrees with the directory."""
        if member.flags & 1:
            raise WeightsError(f"the member {name!r} is encrypted; save the model without a password")
        if member.method not in (_STORED, _DEFLATED):
            raise WeightsError(f"the member {name!r} is packed by method {member.method}; store or deflate it instead")
        header = Fields(self._source.get(member.at, 30, f"the member {name!r}"), f"the member {name!r}")
        header.expect(b"PK\x03\x04")
        flags, method, name_size, extra = header.unpack("<2xHH16xHH")
        stored_name = self._source.get(member.at + 30, name_size, f"the member {name!r}")
        if stored_name != name.encode() or method != member.method or flags & 1:
            raise Damaged(f"the header of the member {name!r} contradicts the directory")
        if member.method == _STORED and member.packed != member.size:
            raise Damaged(f"the stored member {name!r} has two sizes")
        start = member.at + 30 + name_size + extra
        if start + member.packed > self._source.size:
            raise Damaged(f"the member {name!r} would end after the file")
        return start

    def _unpack(self, name: str, member: _Member, most: int) -> bytes:
        start = self._data(name, member)
        if member.size > most:
            raise WeightsError(
                f"the member {name!r} claims {member.size} bytes where {most} are allowed in an archive of "
                f"{self._source.size}; the file is damaged or made to exhaust memory"
            )
        unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
        result = bytearray()
        for at in range(start, start + member.packed, _PIECE):
            piece = bytearray(min(_PIECE, start + member.packed - at))
            self._source.readinto(at, memoryview(piece))
            if member.method == _STORED:
                result += piece
                continue
            try:
                result += unpacking.decompress(piece, member.size - len(result) + 1)
            except zlib.error as error:
                raise Damaged(f"the member {name!r} cannot be unpacked: {error}") from None
            if len(result) > member.size:
                break
        if len(result) != member.size or zlib.crc32(result) != member.crc:
            raise Damaged(f"the member {name!r} does not unpack to what the directory says")
        return bytes(result)
