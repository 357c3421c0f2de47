"""One daemon's address, and how to talk to it: target, token, channel options, and whether anybody listens."""

from __future__ import annotations

import ipaddress
import os
import socket as sockets
from dataclasses import dataclass, field
from pathlib import Path

from agentmem_client import discovery
from agentmem_client.errors import ConfigError, DaemonNotRunning, Unauthenticated

MAX_MESSAGE_BYTES = 64 << 20

CHANNEL_OPTIONS: list[tuple[str, str | int]] = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),  # see `retries`
    # A restarted local daemon is found again within a second, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Clients of one process share no connection, hence no back-off either.
    ("grpc.use_local_subchannel_pool", 1),
    # Loopback never goes through a proxy, whatever the environment says.
    ("grpc.enable_http_proxy", 0),
]


@dataclass(frozen=True)
class Endpoint:
    """`socket` for a unix socket, else `address` (host, port) for loopback TCP."""

    socket: Path | None = None
    address: tuple[str, int] | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def target(self) -> str:
        if self.socket is not None:
            return discovery.socket_target(self.socket)
        host, port = self._host_and_port
        return f"ipv6:[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def channel_options(self) -> list[tuple[str, str | int]]:
        # Without it the socket's path becomes the :authority header, which servers may refuse.
        authority = [("grpc.default_authority", "localhost")] if self.socket is not None else []
        return [*CHANNEL_OPTIONS, *authority]

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The headers of one call. The token file is read each time, since a new daemon may have written a new one.

        DaemonNotRunning if there is no file and nobody listens; Unauthenticated if there is no readable one.
        """
        return (("authorization", f"Bearer {self.token or self._read_token()}"),)

    def is_listening(self) -> bool:
        """Whether a connection is accepted."""
        try:
            with self._connect():
                return True
        except OSError:
            return False

    def not_running(self) -> DaemonNotRunning:
        where = self.socket if self.socket is not None else "{}:{}".format(*self._host_and_port)
        return DaemonNotRunning(
            f"No agentmem daemon answers on {where}. Start it with `agentmem serve`.", metadata={"socket": str(where)}
        )

    @property
    def _host_and_port(self) -> tuple[str, int]:
        assert self.address is not None, "an endpoint has a socket or an address"
        return self.address

    def _connect(self) -> sockets.socket:
        if self.socket is None:
            return sockets.create_connection(self._host_and_port, timeout=1)
        connection = sockets.socket(sockets.AF_UNIX)
        try:
            connection.settimeout(1)
            connection.connect(str(self.socket))
        except OSError:
            connection.close()
            raise
        return connection

    def _read_token(self) -> str:
        assert self.socket is not None, "a TCP endpoint is made with its token"
        path = discovery.token_path(self.socket)
        try:
            token = path.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            if not self.is_listening():
                raise self.not_running() from None
            raise Unauthenticated(f"Cannot read the token file {path}: {type(error).__name__}.") from None
        return _checked(token)


def find(socket: str | Path | None = None, address: str | None = None, token: str | None = None) -> Endpoint:
    """The endpoint that the arguments and the environment name. Connects to nothing.

    ConfigError if both socket and address are given, the address is not loopback, or TCP has no token.
    """
    if token is not None:
        token = _checked(token)
    if address is None:
        path = discovery.default_socket_path() if socket is None else discovery.socket_path(socket)
        return Endpoint(socket=path, token=token)
    if socket is not None:
        raise ConfigError("Give a socket or an address, not both.")
    token = token or os.environ.get(discovery.TOKEN_ENV)
    if not token:
        raise ConfigError(f"An address needs the daemon's token: pass token=… or set {discovery.TOKEN_ENV}.")
    return Endpoint(address=_loopback(address), token=_checked(token))


def _loopback(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"An address has the form 127.0.0.1:PORT, not {address!r}.")
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        # The token and everything agents remember would cross the network in clear text.
        raise ConfigError(f"Only loopback addresses are allowed, not {host!r}; use an SSH tunnel for another machine.")
    return host, int(port)


def _checked(token: str) -> str:
    if not (token.isascii() and token.isprintable() and token.strip()):
        raise Unauthenticated("The token is empty or holds characters that no header can carry.")
    return token
