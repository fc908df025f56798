"""A router of your own on the bench of the kernels: a Python function answers the program's requests.

experiments/probe/socket_router.h is the protocol. The tensors are those that `mobalab route` gives the kernel at the same
seed, bit for bit.
"""

import hashlib
import os
import selectors
import socket
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from mobalab.errors import MobalabError

Router = Callable[[npt.NDArray[np.float32], npt.NDArray[np.float32], int, int], npt.ArrayLike]
"""router(queries, keys, block_size, topk) -> selection

queries     float32 [rows, head_dim], read-only (of route() unit vectors): consecutive queries that end at the last key, so that query i
            stands at position len(keys) - len(queries) + i of the sequence
keys        float32 [keys, head_dim], read-only: all keys up to the last query
block_size  keys B of a block; block b is keys[b * B : (b + 1) * B]
topk        blocks k a query attends to, its own included
selection   integers [rows, at most topk - 1]: blocks that end before the query's own begins (index below position // B), each
            once, in any order; -1 stands for no block
"""

KEYS, ROUTE = 1, 2
LONGEST_NAME = 200
LONGEST_PATH = 100
"""Of a socket; the operating system's limit is a little above."""


NAMELESS = ("<lambda>", "functools.partial")


def name_of(function: Callable[..., Any]) -> str:
    """What results call it: module and name; of what has more bytes than the program takes the first ones and a hash of all,
    so that two functions that differ do not share one."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    whole = f"{getattr(function, '__module__', None) or type(function).__module__}.{name}".replace("\n", " ")
    written = whole.encode("utf-8", "replace")
    if len(written) <= LONGEST_NAME:
        return whole
    end = f" {hashlib.sha256(written).hexdigest()[:16]}{' <lambda>' if '<lambda>' in whole else ''}"
    return written[:LONGEST_NAME - len(end)].decode("utf-8", "ignore") + end


def is_nameless(name: str) -> bool:
    """Whether another function may have this name (of name_of) as well: then nothing is added or resumed by it."""
    return any(word in name for word in NAMELESS)


class RouterServer:
    """Listens on a socket and calls the router (program.Source)."""

    def __init__(self, router: Router) -> None:
        if not callable(router):
            raise MobalabError(f"router = {router!r}: must be a function of queries, keys, block_size and topk")
        self._router = router
        self._folder = tempfile.TemporaryDirectory(prefix="mobalab-")
        if len(self._folder.name) > LONGEST_PATH - len("/router"):  # a socket's path is short
            self._folder.cleanup()
            self._folder = tempfile.TemporaryDirectory(prefix="mobalab-", dir="/tmp")
        self.path = Path(self._folder.name) / "router"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(os.fspath(self.path))
        self._listener.listen()
        self._selector: Optional[selectors.BaseSelector] = None
        self._open: set[socket.socket] = set()

    def register(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        for connection in (self._listener, *self._open):
            connection.close()
        self._folder.cleanup()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        name = name_of(self._router).encode()
        connection.sendall(struct.pack("q", len(name)) + name)
        assert self._selector is not None
        self._open.add(connection)
        self._selector.register(connection, selectors.EVENT_READ, _Conversation(connection, self._router, self._hang_up).answer)

    def _hang_up(self, connection: socket.socket) -> None:
        assert self._selector is not None
        self._selector.unregister(connection)
        self._open.discard(connection)
        connection.close()


class _Conversation:
    """One key set: its keys, then queries to route against them."""

    def __init__(self, connection: socket.socket, router: Router, hang_up: Callable[[socket.socket], None]) -> None:
        self._connection, self._router, self._hang_up = connection, router, hang_up
        self._keys: npt.NDArray[np.float32] = np.empty((0, 0), np.float32)
        self._block_size = 1

    def answer(self) -> None:
        """One request, or the end of the conversation."""
        head = self._received(32)
        if head is None:
            self._hang_up(self._connection)
            return
        kind, first, second, third = struct.unpack("4q", head)
        if kind == KEYS:
            self._keys, self._block_size = self._tensor(first, second), third
        elif kind == ROUTE:
            queries = self._tensor(second, self._keys.shape[1])
            self._connection.sendall(self._routed(queries, self._keys[:first + second], third).tobytes())

    def _routed(self, queries: npt.NDArray[np.float32], keys: npt.NDArray[np.float32], topk: int) -> npt.NDArray[np.int32]:
        found = np.asarray(self._router(queries, keys, self._block_size, topk))
        rows, most = len(queries), topk - 1
        if found.ndim != 2 or len(found) != rows or found.shape[1] > most:
            raise MobalabError(f"router {name_of(self._router)}: the selection has shape {list(found.shape)}; it must be "
                               f"[{rows}, at most topk - 1 = {most}]")
        if found.size and found.dtype.kind not in "iu":
            raise MobalabError(f"router {name_of(self._router)}: the selection holds {found.dtype}; blocks are integers")
        if found.size and (found.max() > 2**31 - 1 or found.min() < -2**31):
            raise MobalabError(f"router {name_of(self._router)}: selects block {found.max()}; blocks are below 2^31")
        selection = np.full((rows, most), -1, np.int32)
        selection[:, :found.shape[1]] = found
        return selection

    def _tensor(self, rows: int, columns: int) -> npt.NDArray[np.float32]:
        tensor = np.empty((rows, columns), np.float32)
        if not self._fill(memoryview(tensor).cast("B") if tensor.size else memoryview(b"")):
            raise MobalabError("router: the program has ended in the middle of a request")
        tensor.flags.writeable = False
        return tensor

    def _received(self, size: int) -> Optional[bytearray]:
        """None where the other side has hung up."""
        data = bytearray(size)
        return data if self._fill(memoryview(data)) else None

    def _fill(self, view: memoryview) -> bool:
        """False where the other side has hung up before."""
        while len(view) > 0:
            count = self._connection.recv_into(view)
            if count == 0:
                return False
            view = view[count:]
        return True
