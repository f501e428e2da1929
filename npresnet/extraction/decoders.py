"""The pool of decoders, and the ring of slots through which their images come: always ahead of the network, never far.

    tasks ──> decoder 0 ──┐   ┌────────┬────────┬────────┬────────┐
    tasks ──> decoder 1 ──┴─> │ window │ window │ window │ window │ ──> network
                              └────────┴────────┴────────┴────────┘
                                 slots of a file in memory that all of them share

This process does one thing at a time: it hands out tasks until every slot is spoken for, lets the network compute, and then
reads what was answered meanwhile. No thread, no lock; while the network runs, the decoders have their tasks.

A window is as many images as the network is given at a time, side by side in memory, so that they need not be copied.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import MissingExtraError, NpResNetError
from .decoder import Preparation, settings
from .inputs import Item, file_state

__all__ = ["DEADLINE", "Decoded", "DecodedWindow", "Decoders", "usual_batch"]

DEADLINE = 60.0
"""Seconds for which an image may keep everything else waiting, before its decoder is ended."""

_TICK = 0.25  # seconds; a wait that takes longer was a halt of this process, and counts as one tick
_AHEAD = 4  # windows
# bytes of tasks that a decoder may have before it: less than a pipe holds, so that nobody waits to write; and of an answer
_UNREAD, _LONGEST = 32 * 2**10, 64 * 2**10
_RING_BYTES = 256 * 2**20  # of slots, where images are large
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
    "PILLOW_BLOCKS_MAX": "8", "MALLOC_TRIM_THRESHOLD_": str(2**27), "MALLOC_MMAP_THRESHOLD_": str(2**25),
}  # fmt: skip
"""Of decoders: no threads of NumPy's; and Pillow, and glibc for NumPy's arrays, keep 128 MB of memory each, instead of asking the
system for it with each picture: that costs as much as resizing it."""

_STARTS = 5  # that may fail one after the other

Images = npt.NDArray[np.float32]


@dataclass
class Decoded:
    """What became of an item: an image, float32[h, w, c], that is there until the next window, or an error."""

    item: Item
    image: Images | None = None
    stored: tuple[int, int] = (0, 0)
    size: int = -1
    mtime: int = -1
    error: str = ""
    text: str = ""


@dataclass
class DecodedWindow:
    """Consecutive items, decoded; ``together`` is all of their images, [n, h, w, c], where none is missing and all are alike."""

    decoded: list[Decoded]
    together: Images | None

    def batches(self) -> Iterator[tuple[list[Decoded], Images]]:
        """The images of one shape, and which these are, for each of the shapes."""
        if self.together is not None:
            yield self.decoded, self.together
            return
        shapes: dict[tuple[int, ...], list[Decoded]] = {}
        for decoded in self.decoded:
            if decoded.image is not None:
                shapes.setdefault(decoded.image.shape, []).append(decoded)
        for group in shapes.values():
            yield group, np.stack([decoded.image for decoded in group if decoded.image is not None])


class Decoders:
    """Up to ``count`` processes that prepare images for a network. To be closed.

    One begins, and another one joins whenever the network has to wait: before a large network on two processors one is enough, and
    each takes half a second of a processor to start.

    batch     images in a window
    deadline  seconds, see ``DEADLINE``
    """

    def __init__(self, count: int, how: Preparation, batch: int, deadline: float = DEADLINE) -> None:
        self._count, self._how, self._deadline = count, how, deadline
        shape = how.shape
        if shape is None:  # slots that are large enough for anything take memory only where they are written
            self._slot_bytes = -(-4 * how.channels * how.most_pixels // mmap.PAGESIZE) * mmap.PAGESIZE
        else:
            self._slot_bytes = 4 * int(np.prod(shape))
        self._batch = batch
        ahead = _AHEAD if shape is None else min(_AHEAD, max(2, _RING_BYTES // (batch * self._slot_bytes)))
        self._slots = max(ahead * batch, 2 * count)
        self._slots = -(-self._slots // batch) * batch
        self._descriptor = _memory_file(self._slots * self._slot_bytes)
        self._memory = mmap.mmap(self._descriptor, self._slots * self._slot_bytes)
        self._answers: dict[int, Decoded] = {}  # by slot, of the window that is next and those after it
        self._waiting: deque[tuple[int, Item]] = deque()  # for a decoder that has room
        self._failed_starts = 0
        self._given = 0  # windows
        self._children = [self._start()]

    @property
    def pids(self) -> list[int]:
        """The processes' numbers."""
        return [child.process.pid for child in self._children]

    def close(self) -> None:
        """End the processes."""
        for child in self._children:
            child.process.kill()
        for child in self._children:
            child.close()
        self._children = []
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def windows(self, items: Iterator[Item]) -> Iterator[DecodedWindow]:
        """The items, whose files are absolute paths, in order, a window at a time; of its images none is to be kept beyond the next.

        Raises MissingExtraError where Pillow is needed and missing, NpResNetError where decoders cannot be started.
        """
        windows: deque[list[Item]] = deque()  # that are spoken for
        first = 0  # slot of the first of them
        more = True
        while True:
            while more and (len(windows) + 1) * self._batch <= self._slots:
                window = [item for _, item in zip(range(self._batch), items, strict=False)]
                more = len(window) == self._batch
                start = (first + len(windows) * self._batch) % self._slots
                windows.append(window)
                self._waiting.extend((start + place, item) for place, item in enumerate(window))
            self._hand_out()
            if not windows[0]:
                return
            window = windows.popleft()
            slots = range(first, first + len(window))
            while not all(slot in self._answers for slot in slots):
                self._wait()
            self._given += 1
            yield self._window([self._answers.pop(slot) for slot in slots], first)
            self._release(first)
            if not more and not windows:
                return
            first = (first + self._batch) % self._slots
            self._read(0)

    def _window(self, decoded: list[Decoded], first: int) -> DecodedWindow:
        shape = self._how.shape
        if shape is None or any(one.image is None for one in decoded):
            return DecodedWindow(decoded, None)
        start, count = first * self._slot_bytes, len(decoded)
        floats = np.frombuffer(self._memory, np.float32, count * self._slot_bytes // 4, start)
        return DecodedWindow(decoded, floats.reshape(count, *shape))

    def _release(self, first: int) -> None:
        """Give back the memory of a window's slots, where they are larger than what is usually written to them."""
        if self._how.shape is None and hasattr(mmap, "MADV_REMOVE"):
            self._memory.madvise(mmap.MADV_REMOVE, first * self._slot_bytes, self._batch * self._slot_bytes)

    # Tasks ------------------------------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Tasks to whoever has the fewest, as far as their pipes have room."""
        while self._waiting:
            slot, item = self._waiting[0]
            child = min(self._children, key=lambda child: len(child.tasks))
            task = {"slot": slot, "file": item.file, "offset": item.offset, "index": item.index}
            line = json.dumps(task).encode() + b"\n"
            if child.tasks and child.unread + len(line) > _UNREAD:
                break
            self._waiting.popleft()
            child.tasks.append((slot, item, len(line)))
            child.unread += len(line)
            child.unsent += line
        for child in self._children:
            if child.unsent:
                with suppress(BrokenPipeError):  # it has died: that is found where its answers end
                    child.stdin.write(child.unsent)
                    child.stdin.flush()
                child.unsent = b""

    def _wait(self) -> None:
        """Wait a moment for answers, and let another decoder join; one that keeps us waiting for too long is ended."""
        if self._given >= _AHEAD and len(self._children) < self._count and all(child.ready for child in self._children):
            self._children.append(self._start())
        before = time.monotonic()
        if self._read(_TICK):
            return
        waited = min(time.monotonic() - before, 2 * _TICK)
        for child in self._children:
            if child.tasks:
                child.waited += waited
                if child.waited > self._deadline:
                    child.late = True
                    child.process.kill()
                    child.waited = 0.0

    def _read(self, timeout: float) -> bool:
        """Take the answers that are there, or that come within some seconds; whether there were any."""
        by_descriptor = {child.stdout: child for child in self._children}
        poll = select.poll()
        for descriptor in by_descriptor:
            poll.register(descriptor, select.POLLIN)
        ready = poll.poll(timeout * 1000)
        for descriptor, _ in ready:
            child = by_descriptor[descriptor]
            data = os.read(descriptor, 2**16)
            if not data:
                self._replace(child)
                continue
            *lines, child.unfinished = (child.unfinished + data).split(b"\n")
            try:
                for line in lines:
                    self._take(child, json.loads(line.decode()))
                if len(child.unfinished) > _LONGEST:
                    raise ValueError
            except (ValueError, KeyError, TypeError, IndexError):  # it is no longer what it was: perhaps a picture's
                child.process.kill()
        if ready:
            self._hand_out()
        return bool(ready)

    def _take(self, child: _Child, answer: dict[str, Any]) -> None:
        """One answer. Raises ValueError, KeyError, TypeError or IndexError for one that makes no sense."""
        if "fatal" in answer:
            raise MissingExtraError(str(answer["fatal"]))
        child.waited = 0.0
        if "ready" in answer:
            child.ready, self._failed_starts = True, 0
            return
        slot, item, length = child.tasks[0]
        if answer["slot"] != slot:
            raise ValueError(answer)
        decoded = Decoded(item, size=int(answer["size"]), mtime=int(answer["mtime"]))
        if "error" in answer:
            decoded.error, decoded.text = str(answer["error"]), str(answer["text"])
        else:
            height, width, channels = map(int, answer["shape"])
            width_stored, height_stored = map(int, answer["stored"])
            decoded.stored = width_stored, height_stored
            count = height * width * channels
            if not 0 < 4 * count <= self._slot_bytes or self._how.shape not in (None, (height, width, channels)):
                raise ValueError(answer)
            floats = np.frombuffer(self._memory, np.float32, count, slot * self._slot_bytes)
            decoded.image = floats.reshape(height, width, channels)
        child.tasks.popleft()
        child.unread -= length
        self._answers[slot] = decoded

    # Processes --------------------------------------------------------------------------------------------------------

    def _start(self) -> _Child:
        package = Path(__file__).parents[2]
        path = [str(package), *(os.path.abspath(place) for place in sys.path if place)]
        text = settings(self._how, self._descriptor, self._slot_bytes, path)
        code = "import json, sys; sys.path[:] = json.loads(sys.argv[1])['path']\n"
        code += "from npresnet.extraction.decoder import serve; serve(sys.argv[1])"
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, text],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, **_ENVIRONMENT},
            pass_fds=(self._descriptor,),
            # Ctrl-C is for the parent, which ends them. Not a session: Linux would give each as much of the processors as all of
            # this process's threads together, which wait for each other
            process_group=0,
        )  # fmt: skip
        return _Child(process)

    def _replace(self, child: _Child) -> None:
        """A decoder has died, and with it what it was at; its other tasks another gets."""
        status = child.process.wait()
        child.close()
        if child.tasks and child.ready:
            slot, item, _ = child.tasks.popleft()
            size, mtime = file_state(item.file)
            decoded = Decoded(item, size=size, mtime=mtime)
            if child.late:
                decoded.error, decoded.text = "timeout", f"not decoded within {self._deadline:g} s"
            else:
                decoded.error, decoded.text = "crash", f"its decoder ended with {_ending(status)}"
            self._answers[slot] = decoded
        self._waiting.extendleft(reversed([(slot, item) for slot, item, _ in child.tasks]))
        self._failed_starts += 1
        if self._failed_starts > _STARTS:
            raise NpResNetError(
                f"decoders cannot be started: the last one ended with {_ending(status)}; does `{sys.executable} -c 'import npresnet'` run?"
            )
        self._children[self._children.index(child)] = self._start()


class _Child:
    """A decoder: its tasks that are not yet answered, and for how long the first has kept us waiting, in seconds."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.stdin = process.stdin
        self.stdout = process.stdout.fileno()
        self.tasks: deque[tuple[int, Item, int]] = deque()
        self.unread = 0  # bytes of tasks that it may not have read yet
        self.unsent = b""  # and of those that are still to be sent
        self.unfinished = b""  # of its answers
        self.waited = 0.0
        self.ready = False
        self.late = False

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self.process.wait()


def _ending(status: int) -> str:
    """How a process has ended, in words."""
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _memory_file(size: int) -> int:
    """The descriptor of a file without a name, in memory where the system has such, of ``size`` bytes."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("npresnet", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.ftruncate(descriptor, size)
    except OSError as error:
        os.close(descriptor)
        raise NpResNetError(
            f"no memory of {size:,} bytes for images that wait ({error.strerror}); use a smaller batch or raise the limit"
        ) from error
    return descriptor


def usual_batch(shape: Sequence[int] | None) -> int:
    """Images that a network is given at a time: as many as have together the pixels of 8 of 224 x 224, 1 to 32; 1 where they differ."""
    if shape is None:
        return 1
    return max(1, min(32, 8 * 224 * 224 // (shape[0] * shape[1])))
