"""The members of a group: names and the addresses of their object headers.

Keras's files keep them the old way, in a B-tree of symbol table nodes:

    symbol table message ──> B-tree (level 1, 0) ──> nodes of up to 8 entries: (offset of the name in the heap, address)
                         └─> local heap with the names

The new way is a link message in the group's own header for each member.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TypeVar

from ...errors import WeightsError
from .headers import Message, Messages, Superblock
from .heaps import LocalHeap, checked_name
from .source import UNDEFINED, Damaged, Fields, OutsideSubset, Source

__all__ = ["is_group", "members", "tree_leaves"]

_GROUP, _SOFT_LINK = 1, 2  # kinds ("cache types") of symbol table entries beside 0, which says nothing

_WITH_GROUPS = Message.ATTRIBUTE, Message.ATTRIBUTE_INFO, Message.TIME, Message.REFERENCE_COUNT
_ENTRY = 40  # bytes of a symbol table entry

_Key = TypeVar("_Key", bytes, tuple[int, ...])


def is_group(found: Messages) -> bool:
    """Whether an object with these messages is a group."""
    return any(kind in (Message.SYMBOL_TABLE, Message.LINK_INFO) for kind, _ in found.items)


def members(source: Source, block: Superblock, found: Messages, path: str) -> dict[str, int]:
    """{name: address of the object header} of a group's members, in the file's order.

    Raises WeightsError for a link that leads elsewhere; Damaged, OutsideSubset.
    """
    table, info = found.one(Message.SYMBOL_TABLE), found.one(Message.LINK_INFO)
    if table is not None:
        found.allow(Message.SYMBOL_TABLE, *_WITH_GROUPS)
        links = _symbol_table(source, block, table, path)
    else:
        found.allow(Message.LINK_INFO, Message.LINK, Message.GROUP_INFO, *_WITH_GROUPS)
        if info is not None:
            _refuse_dense(info)
        links = (_link(body, path) for body in found.all(Message.LINK))
    result: dict[str, int] = {}
    for name, at in links:
        if name in result:
            raise Damaged(f"{path + name!r} is there twice")
        result[name] = at
    return result


def tree_leaves(
    source: Source, at: int, kind: int, key_size: int, order: Callable[[bytes], _Key], width: int, what: str
) -> Iterator[tuple[bytes, int, bytes]]:
    """(key before it, address, key after it) of all that the leaves of a version 1 B-tree point to, from left to right.

    A node has one key more than children. They ascend, and those around a child are the outermost of its own; as levels
    descend too, no node can be met twice.

    kind, key_size  0 and 8 bytes for groups; 1 and a size that depends on the axes for chunks
    order           from the bytes of a key to what the tree is sorted by
    width           children of a full node; every node takes that much space
    """

    def walk(at: int, level: int | None, outer: tuple[_Key, _Key] | None) -> Iterator[tuple[bytes, int, bytes]]:
        head = Fields(source.get(at, 24, what), what)
        head.expect(b"TREE")
        node_kind, node_level, used = head.unpack("<BBH")
        if used > width or at + 24 + width * (key_size + 8) + key_size > source.size:
            raise Damaged(f"a node of the tree of {what} is too large")
        if node_kind != kind or (level is not None and node_level != level):
            raise Damaged(f"a node of the tree of {what} is of the wrong kind or level")
        source.step(used)
        fields = Fields(source.get(at + 24, used * (key_size + 8) + key_size, what), what)
        keys, children = [fields.take(key_size)], []
        for _ in range(used):
            children.append(fields.uint(8))
            keys.append(fields.take(key_size))
        sorted_by = [order(key) for key in keys]
        if any(not one < other for one, other in itertools.pairwise(sorted_by)):
            raise Damaged(f"a node of the tree of {what} is not in order")
        if outer is not None and outer != (sorted_by[0], sorted_by[-1]):
            raise Damaged(f"a node of the tree of {what} does not fit where it is")
        for i, child in enumerate(children):
            if node_level:
                yield from walk(child, node_level - 1, (sorted_by[i], sorted_by[i + 1]))
            else:
                yield keys[i], child, keys[i + 1]

    return walk(at, None, None)


def _symbol_table(source: Source, block: Superblock, body: bytes, path: str) -> Iterator[tuple[str, int]]:
    tree_at, heap_at = Fields(body, "a symbol table message").numbers(2)
    heap = LocalHeap(source, heap_at)

    def name(key: bytes) -> bytes:
        return heap.name(int.from_bytes(key, "little"))

    for before, at, last in tree_leaves(source, tree_at, 0, 8, name, 2 * block.internal, "a group"):
        head = Fields(source.get(at, 8, "a symbol table node"), "a symbol table node")
        head.expect(b"SNOD")
        version, count = head.unpack("<BxH")
        if version != 1:
            raise OutsideSubset(f"version {version} of the symbol table node")
        if count > 2 * block.leaf or at + 8 + 2 * block.leaf * _ENTRY > source.size:
            raise Damaged("a symbol table node is too large")
        fields = Fields(source.get(at + 8, _ENTRY * count, "a symbol table node"), "a symbol table node")
        entries = [fields.unpack("<QQI20x") for _ in range(count)]
        names = [heap.name(name_at) for name_at, _, _ in entries]
        if any(not one < other for one, other in itertools.pairwise([name(before), *names])) or names[-1:] != [
            name(last)
        ]:
            raise Damaged("a symbol table node is not in order")
        for raw, (_, address, cache) in zip(names, entries, strict=True):
            if cache == _SOFT_LINK:
                raise _refused(path + checked_name(raw), "a soft link")
            if cache not in (0, _GROUP):
                raise Damaged(f"a symbol table entry is of kind {cache}")
            yield checked_name(raw), address


def _refuse_dense(info: bytes) -> None:
    """Raise OutsideSubset where a group keeps its links in a heap of its own, as large groups of the new kind do."""
    fields = Fields(info, "a link info message")
    version, flags = fields.unpack("<BB")
    if version != 0:
        raise OutsideSubset(f"version {version} of the link info message")
    fields.take(8 * (flags & 1))
    if fields.uint(8) != UNDEFINED:
        raise OutsideSubset("links in a fractal heap")


def _link(body: bytes, path: str) -> tuple[str, int]:
    fields = Fields(body, "a link message")
    version, flags = fields.unpack("<BB")
    if version != 1:
        raise OutsideSubset(f"version {version} of the link message")
    kind = fields.uint(1) if flags & 8 else 0
    fields.take(8 * (flags >> 2 & 1) + (flags >> 4 & 1))  # creation order, character set
    name = checked_name(fields.take(fields.uint(1 << (flags & 3))))
    if kind == 0:
        return name, fields.uint(8)
    raise _refused(path + name, {1: "a soft link", 64: "an external link to another file"}.get(kind, "an unknown link"))


def _refused(path: str, kind: str) -> WeightsError:
    return WeightsError(f"{path!r} is {kind}; Keras writes none, and following it is not safe: save it anew")
