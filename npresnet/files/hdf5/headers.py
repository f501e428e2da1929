"""Superblock and object headers: from the first byte of the file to the messages that describe a group or dataset.

    superblock ──> object header of the root group ──> messages: links to other headers, attributes, datatype, ...

An object header is a list of messages in one chunk or several; a continuation message says where the next one is.
Version 1 is what Keras's files have; version 2 carries signatures and checksums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...errors import WeightsError
from .checksums import lookup3
from .source import UNDEFINED, Damaged, Fields, OutsideSubset, Source

__all__ = ["SIGNATURE", "Message", "Messages", "Superblock", "messages", "superblock"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"

_MOST_CHUNKS = 1000  # of one header
_HASH_COST = 64  # bytes hashed in the time of one step


class Message:
    """Numbers of the kinds of message that Keras's files have, and a few that must be recognised to be refused."""

    NOTHING = 0x00
    DATASPACE = 0x01
    LINK_INFO = 0x02
    DATATYPE = 0x03
    OLD_FILL_VALUE = 0x04
    FILL_VALUE = 0x05
    LINK = 0x06
    EXTERNAL_FILES = 0x07
    LAYOUT = 0x08
    GROUP_INFO = 0x0A
    FILTERS = 0x0B
    ATTRIBUTE = 0x0C
    CONTINUATION = 0x10
    SYMBOL_TABLE = 0x11
    TIME = 0x12
    ATTRIBUTE_INFO = 0x15
    REFERENCE_COUNT = 0x16


_KNOWN = frozenset(value for name, value in vars(Message).items() if name.isupper())

# kinds that say nothing about names, shapes and numbers, and the versions of them that there are
_IGNORED = {
    Message.FILL_VALUE: b"\1\2\3",
    Message.GROUP_INFO: b"\0",
    Message.TIME: b"\1",
    Message.REFERENCE_COUNT: b"\0",
}

_HARMLESS = 1 | 4  # flags: the message is constant; it must not be shared


@dataclass(frozen=True)
class Messages:
    """The messages of one object, in order."""

    items: Sequence[tuple[int, bytes]]

    def all(self, kind: int) -> list[bytes]:
        """The bodies of every message of this kind."""
        return [body for k, body in self.items if k == kind]

    def one(self, kind: int) -> bytes | None:
        """The body of the only message of this kind, or None. Raises Damaged where there are more."""
        found = self.all(kind)
        if len(found) > 1:
            raise Damaged(f"an object header has {len(found)} messages of type {kind}")
        return found[0] if found else None

    def allow(self, *kinds: int) -> None:
        """Raise Damaged where there is a message of any other kind, which would say nothing here."""
        for kind, _ in self.items:
            if kind not in kinds:
                raise Damaged(f"an object header has a message of type {kind}, which does not belong there")


@dataclass(frozen=True)
class Superblock:
    """What the first bytes say: where the root group's header is, and half the width of the nodes of group trees."""

    root: int
    leaf: int = 4
    internal: int = 16


def superblock(source: Source) -> Superblock:
    """The superblock, which also limits ``source`` to the length that is noted there.

    Raises Damaged, OutsideSubset, and WeightsError where the file is shorter than it says.
    """
    data = source.get(0, 48, "the superblock")
    fields = Fields(data, "the superblock")
    fields.expect(SIGNATURE)
    version = fields.uint(1)
    if version == 0:
        versions = fields.take(4)
        _sizes(fields)
        leaf, internal, status, base, free, end = fields.unpack("<xHHIQQQ")
        _limit(source, end)
        rest = Fields(source.get(48, 48, "the superblock"), "the superblock")
        extension, _, root, cache = rest.unpack("<QQQI20x")  # the second is a name, which the root does not have
        found = Superblock(root, leaf, internal)
        if any(versions) or not leaf or not internal or free != UNDEFINED or cache > 1:
            raise OutsideSubset("an unusual superblock")
    elif version in (2, 3):
        _check(source, data, "the superblock")
        _sizes(fields)
        status, base, extension, end, root = fields.unpack("<BQQQQ")
        found = Superblock(root)
        _limit(source, end)
    else:
        raise OutsideSubset(f"version {version} of the superblock")
    if status:
        raise OutsideSubset("marks of a program that has it open, or did not close it")
    if base != 0:
        raise OutsideSubset("a base address")
    if extension != UNDEFINED:
        raise OutsideSubset("an extension of the superblock")
    return found


def _limit(source: Source, end: int) -> None:
    if end > source.size:
        raise WeightsError(
            f"the file ends after {source.size} of {end} bytes, so its download or copy was cut short; fetch it again"
        )
    source.limit(end)


def _sizes(fields: Fields) -> None:
    offsets, lengths = fields.unpack("<BB")
    if (offsets, lengths) != (8, 8):
        raise OutsideSubset(f"offsets of {offsets} and lengths of {lengths} bytes")


def _check(source: Source, data: bytes, what: str) -> None:
    """Compare the checksum at the end of ``data``."""
    source.step(len(data) // _HASH_COST)
    if lookup3(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise Damaged(f"the checksum of {what} is wrong")


def messages(source: Source, at: int) -> Messages:
    """The messages of the object header at offset ``at``. Raises Damaged, OutsideSubset, WeightsError."""
    if source.get(at, 4, "an object header") == b"OHDR":
        return Messages(list(_version2(source, at)))
    return Messages(list(_version1(source, at)))


def _checked(kind: int, flags: int, body: bytes) -> None:
    """Raise OutsideSubset for a message that this reader does not understand."""
    if kind not in _KNOWN:
        raise OutsideSubset(f"messages of type {kind}")
    if kind != Message.NOTHING and flags & ~_HARMLESS:
        raise OutsideSubset(f"messages with flags {flags}, shared ones for instance")
    if kind in _IGNORED and not (body[:1] and body[:1] in _IGNORED[kind]):
        raise OutsideSubset(f"another version of messages of type {kind}")


def _continuation(body: bytes) -> tuple[int, int]:
    at, size = Fields(body, "a continuation message").numbers(2)
    return at, size


def _add_chunk(chunks: list[tuple[int, int]], chunk: tuple[int, int]) -> None:
    if len(chunks) == _MOST_CHUNKS:
        raise Damaged("an object header continues for ever")
    chunks.append(chunk)


def _version1(source: Source, at: int) -> Iterator[tuple[int, bytes]]:
    prefix = Fields(source.get(at, 16, "an object header"), "an object header")
    version, count, size = prefix.unpack("<BxH4xI")
    if version != 1:
        raise Damaged(f"at {at} should be an object header")
    chunks = [(at + 16, size)]
    for chunk_at, chunk_size in chunks:  # which grows meanwhile
        fields = Fields(source.get(chunk_at, chunk_size, "an object header"), "an object header")
        while fields.left:
            source.step()
            kind, length, flags = fields.unpack("<HHB3x")
            body = fields.take(length)
            count -= 1
            if length % 8:
                raise Damaged(f"a message has {length} bytes, which is no multiple of 8")
            _checked(kind, flags, body)
            if kind == Message.CONTINUATION:
                _add_chunk(chunks, _continuation(body))
            elif kind != Message.NOTHING:
                yield kind, body
    if count:
        raise Damaged("an object header does not have the number of messages that it says")


def _version2(source: Source, at: int) -> Iterator[tuple[int, bytes]]:
    version, flags = source.get(at + 4, 2, "an object header")
    if version != 2:
        raise OutsideSubset(f"version {version} of the object header")
    times, thresholds, width = 16 * (flags >> 5 & 1), 4 * (flags >> 4 & 1), 1 << (flags & 3)
    start = 6 + times + thresholds + width  # of the first message
    size = Fields(source.get(at + start - width, width, "an object header"), "an object header").uint(width)
    chunks = [(at, start + size + 4)]
    for number, (chunk_at, chunk_size) in enumerate(chunks):
        data = source.get(chunk_at, chunk_size, "an object header")
        _check(source, data, "an object header")
        fields = Fields(data[:-4], "an object header")
        if number == 0:
            fields.take(start)
        else:
            fields.expect(b"OCHK")
        ordered = 2 * (flags >> 2 & 1)
        while fields.left >= 4 + ordered:  # what is left is a gap
            source.step()
            kind, length, message_flags = fields.unpack(f"<BHB{ordered}x")
            body = fields.take(length)
            _checked(kind, message_flags, body)
            if kind == Message.CONTINUATION:
                _add_chunk(chunks, _continuation(body))
            elif kind != Message.NOTHING:
                yield kind, body
