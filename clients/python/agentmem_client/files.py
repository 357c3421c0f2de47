"""Exported files: taking one in, whole or not at all, and sending one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from agentmem.v1 import agents_pb2

PIECE_BYTES = 1 << 20
T = TypeVar("T")


@contextmanager
def arriving(path: str | Path) -> Iterator[BinaryIO]:
    """A draft beside `path`, readable by its owner only. It takes the name once all is written, else it is gone."""
    path = Path(path)
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name[:64]}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def upload(header: agents_pb2.ImportHeader, path: Path) -> Callable[[], Iterator[agents_pb2.ImportAgentRequest]]:
    """What begins the stream of an import: the header, then the file. Raises OSError if it cannot be opened."""
    chunks = pieces(path, lambda piece: agents_pb2.ImportAgentRequest(chunk=piece))

    def stream() -> Iterator[agents_pb2.ImportAgentRequest]:
        yield agents_pb2.ImportAgentRequest(header=header)
        yield from chunks()

    return stream


def pieces(path: Path, message: Callable[[bytes], T]) -> Callable[[], Iterator[T]]:
    """What begins a stream of a file's pieces, each in a message. Raises OSError if it cannot be opened."""
    path.open("rb").close()  # here, where an error reaches the caller; gRPC reads the stream on a thread of its own

    def stream() -> Iterator[T]:
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield message(piece)

    return stream
