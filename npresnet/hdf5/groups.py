"""The members of a group: names and the addresses of their object headers.

Keras's files keep them the old way, in a B-tree of symbol table nodes:

    symbol table message ──> B-tree (level 1, 0) ──> nodes of up to 8 entries: (offset of the name in the heap, address)
                         └─> local heap with the names

The new way is a link message in the group's own header for each member.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import WeightsError
from .headers import Message, Messages
from .heaps import LocalHeap, checked_name
from .source import UNDEFINED, Damaged, Fields, OutsideSubset, Source

__all__ = ["is_group", "members", "tree_leaves"]

_SOFT_LINK = 2  # "cache type" of a symbol table entry that is no object


def is_group(found: Messages) -> bool:
    """Whether an object with these messages is a group."""
    return any(kind in (Message.SYMBOL_TABLE, Message.LINK_INFO, Message.LINK) for kind, _ in found.items)


def members(source: Source, found: Messages, path: str) -> dict[str, int]:
    """{name: address of the object header} of a group's members, in the file's order.

    Raises WeightsError for a link that leads elsewhere; Damaged, OutsideSubset.
    """
    table, info = found.one(Message.SYMBOL_TABLE), found.one(Message.LINK_INFO)
    if table is not None:
        links = _symbol_table(source, table, path)
    else:
        if info is not None:
            _refuse_dense(info)
        links = (_link(body, path) for body in found.all(Message.LINK))
    result: dict[str, int] = {}
    for name, at in links:
        source.step()
        if name in result:
            raise Damaged(f"{path + name!r} is there twice")
        result[name] = at
    return result


def tree_leaves(source: Source, at: int, kind: int, key_size: int, what: str) -> Iterator[tuple[bytes, int]]:
    """(key before it, address) of everything that the leaves of a version 1 B-tree point to, from left to right.

    kind, key_size  0 and 8 bytes for groups; 1 and a size that depends on the axes for chunks
    """
    seen: set[int] = set()

    def walk(at: int, level: int | None) -> Iterator[tuple[bytes, int]]:
        if at in seen:
            raise Damaged(f"the tree of {what} has a node twice")
        seen.add(at)
        head = Fields(source.get(at, 24, what), what)
        head.expect(b"TREE")
        node_kind, node_level, used = head.unpack("<BBH")
        if node_kind != kind or (level is not None and node_level != level):
            raise Damaged(f"a node of the tree of {what} is of the wrong kind or level")
        fields = Fields(source.get(at + 24, used * (key_size + 8), what), what)
        for _ in range(used):
            source.step()
            key, child = fields.take(key_size), fields.uint(8)
            if node_level:
                yield from walk(child, node_level - 1)
            else:
                yield key, child

    return walk(at, None)


def _symbol_table(source: Source, body: bytes, path: str) -> Iterator[tuple[str, int]]:
    tree_at, heap_at = Fields(body, "a symbol table message").numbers(2)
    heap = LocalHeap(source, heap_at)
    for _, at in tree_leaves(source, tree_at, 0, 8, "a group"):
        head = Fields(source.get(at, 8, "a symbol table node"), "a symbol table node")
        head.expect(b"SNOD")
        version, count = head.unpack("<BxH")
        if version != 1:
            raise OutsideSubset(f"version {version} of the symbol table node")
        fields = Fields(source.get(at + 8, 40 * count, "a symbol table node"), "a symbol table node")
        for _ in range(count):
            name_at, address, cache = fields.unpack("<QQI20x")
            name = heap.name(name_at)
            if cache == _SOFT_LINK:
                raise _refused(path + name, "a soft link")
            yield name, address


def _refuse_dense(info: bytes) -> None:
    """Raise OutsideSubset where a group keeps its links in a heap of its own, as large groups of the new kind do."""
    fields = Fields(info, "a link info message")
    _, flags = fields.unpack("<BB")
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
