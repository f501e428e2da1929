"""How many actors a cluster has room for, with something left for the tasks that feed them."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from ..errors import MissingExtraError, UsageError

__all__ = ["actors", "imported_ray", "settled"]


def imported_ray() -> Any:
    """The package ``ray``. Raises MissingExtraError in one line."""
    # What a driver has asked of the cluster is kept for others to wait for after it was killed: for 180 seconds, if Ray is not told
    # otherwise before it is imported. A driver that lives asks each ten seconds.
    os.environ.setdefault("RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S", "30")
    try:
        import ray.data
    except ImportError as error:
        raise MissingExtraError(f'npresnet.ray: {error.name} is not installed; pip install "npresnet[ray]"') from None
    return ray


def actors(cpus: int = 1, checkpoints: bool = True) -> int:
    """How many actors of ``cpus`` processors each the cluster that this process is connected to can run.

    A pool that takes every processor waits for ever for its first batch: reading and writing are tasks, which need one. So one
    is left for these, and another one for the actor by which Ray leaves out what its checkpoints have, if there are ``checkpoints``
    (a ``ray.data.checkpoint.CheckpointConfig``; ``npresnet.ray.extract`` does without that actor). An actor is on one node.

    Raises UsageError, with the arithmetic, where there is no room for one.
    """
    ray = imported_ray()
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    return room(nodes, cpus, 2 if checkpoints else 1)


def room(nodes: list[int], cpus: int, kept: int) -> int:
    """How many actors of ``cpus`` processors fit on nodes of so many, where ``kept`` single ones are to be left somewhere."""
    if isinstance(cpus, bool) or not isinstance(cpus, int) or cpus < 1:
        raise UsageError(f"cpus: got {cpus!r}; it must be a whole number of at least 1")
    most = sum(node // cpus for node in nodes)
    left = sum(nodes) - most * cpus
    while most and left < kept:  # an actor less leaves its processors
        most, left = most - 1, left + cpus
    if not most:
        raise UsageError(
            f"actors: {sum(nodes)} processors on nodes of {', '.join(map(str, nodes)) or 'none'}; {kept} are kept for reading, writing and "
            f"checkpoints, and an actor needs {cpus} on one node: no actor has room; give it fewer processors, or add a node"
        )
    return most


def settled(looks: int = 300) -> None:
    """Wait until Ray counts no node that is lost; it notices some seconds later, and until then would plan with it.

    ``looks``: five in a second, after which the nodes that do not answer are Ray's matter; not seconds, for a machine may be halted.
    """
    ray = imported_ray()
    for _ in range(looks):
        if all(_answers(node) for node in ray.nodes() if node["Alive"]):
            return
        time.sleep(0.2)


def _answers(node: dict[str, Any]) -> bool:
    try:
        socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), timeout=5).close()
    except OSError:
        return False
    return True
