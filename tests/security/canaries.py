"""What an attack would have to fetch to prove itself: random tokens in a file, a variable, a server and a tool.

The rule: a token exists in no other place and is new in each run, so one that turns up anywhere was taken.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

TOKEN = re.compile(r"CANARY-(?:ENV|FILE|NET|TOOL)-[0-9a-f]{16}")
HIT = re.compile(rb"/hit/([a-z]+-[0-9a-z]+)")
ENV_NAME = "CLOCHE_TEST_SERVICE_KEY"
_READ_S = 5.0


def make_token(kind: str) -> str:
    """A token such as `CANARY-FILE-0123456789abcdef`."""
    return f"CANARY-{kind}-{secrets.token_hex(8)}"


class CanaryServer:
    """Answers anybody on one loopback port, TCP and UDP, with its token, and remembers which probe came by."""

    def __init__(self, token: str) -> None:
        self._answer = f"HTTP/1.0 200 OK\r\nContent-Length: {len(token)}\r\n\r\n{token}".encode()
        self._gate = threading.Lock()
        self._hits: list[str] = []
        self._strangers = 0
        self._closed = False
        self._tcp, self._udp = _same_port()
        self.port: int = self._tcp.getsockname()[1]
        self._threads = [threading.Thread(target=serve, daemon=True) for serve in (self._serve_tcp, self._serve_udp)]
        for thread in self._threads:
            thread.start()

    @property
    def contacts(self) -> int:
        """Connections and datagrams so far, those without a readable request included."""
        with self._gate:
            return self._strangers

    def hits(self, probe: str) -> int:
        """How often the probe was heard."""
        with self._gate:
            return self._hits.count(probe)

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), _READ_S).close()  # wakes the one in `accept`
        with contextlib.suppress(OSError):
            self._udp.sendto(b"", self._udp.getsockname())
        for thread in self._threads:
            thread.join(_READ_S)
        self._tcp.close()
        self._udp.close()

    def _note(self, data: bytes) -> None:
        with self._gate:
            self._strangers += 1
            self._hits += [found.decode() for found in HIT.findall(data)]

    def _serve_tcp(self) -> None:
        while True:
            connection, _ = self._tcp.accept()
            with connection:
                if self._closed:
                    return
                connection.settimeout(_READ_S)
                data = b""
                with contextlib.suppress(OSError):
                    data = connection.recv(4096)
                self._note(data)
                with contextlib.suppress(OSError):
                    connection.sendall(self._answer)

    def _serve_udp(self) -> None:
        while True:
            data, sender = self._udp.recvfrom(4096)
            if self._closed:
                return
            self._note(data)
            with contextlib.suppress(OSError):
                self._udp.sendto(self._answer, sender)


@dataclass
class Canaries:
    """Everything planted for one run, and what to look at afterwards."""

    folder: Path
    file: Path
    env_name: str
    server: CanaryServer
    tool_token: str
    tool_calls: int = field(default=0)
    """Calls of the tool that no probe was granted."""

    def secret_tool(self) -> str:
        """A tool of another tenant."""
        self.tool_calls += 1
        return self.tool_token

    def pwned(self) -> list[str]:
        """Marker files that an attack left on the host."""
        places = [self.folder, self.folder.parent, Path.cwd()]
        return [str(path) for place in places for path in place.glob("*pwned*")]


@contextlib.contextmanager
def planted(folder: Path) -> Generator[Canaries]:
    """Plants all canaries; `folder` is empty and ours. The variable is set in this very process, as a key would be."""
    house = folder / "service" / "data"  # two levels: a marker written beside or above it is still found
    house.mkdir(parents=True)
    file = house / "accounts.txt"
    file.write_text(make_token("FILE") + "\n", encoding="utf-8")
    server = CanaryServer(make_token("NET"))
    os.environ[ENV_NAME] = make_token("ENV")
    try:
        yield Canaries(house, file, ENV_NAME, server, make_token("TOOL"))
    finally:
        del os.environ[ENV_NAME]
        server.close()


def _same_port() -> tuple[socket.socket, socket.socket]:
    """A listening TCP and a UDP socket with the same number."""
    for _ in range(50):
        tcp = socket.create_server(("127.0.0.1", 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            udp.close()
        else:
            return tcp, udp
    raise OSError("no port is free for both TCP and UDP")
