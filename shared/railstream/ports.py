"""Ports of this machine: whether a server could listen on one, said before anything is started."""

from __future__ import annotations

import socket

from railstream.errors import ConfigurationError


def check_port(host: str, port: int, option: str) -> None:
    """``option``: of the command line, which chooses another one. Port 0 is always free.

    Raises:
        ConfigurationError: somebody listens there, the host is not one of this machine, or the port is a reserved one.
    """
    if port == 0:
        return
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigurationError(f"host {host!r} is no address of this machine ({error.strerror})") from error
    family, kind, _, _, address = found[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise ConfigurationError(
                f"port {port} of {host} cannot be used ({error.strerror}); choose another one with {option}"
            ) from error
