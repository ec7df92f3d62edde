"""Serve toolchain archives on this machine in the layout of kernel.org's server; the server can be made to misbehave."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import re
import tarfile
import threading
from pathlib import Path

import pytest

from tests.support.census import ENDLESS

#: What a small compiler says of itself; it has nothing else to say.
SCRIPT = '#!/bin/sh\ncase "$1" in --version) echo "{triplet}-gcc (GCC) {version}";; *) echo {triplet};; esac\n'


class Mirror:
    """Serves a directory; ``asked`` holds the paths that were got, ``faults`` what goes wrong by file name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[str] = []
        self.faults: dict[str, str] = {}
        self.hung = threading.Event()  # somebody waits for a server that says nothing
        self._over = threading.Event()
        mirror = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __init__(self, *args):
                super().__init__(*args, directory=str(mirror.root))

            def log_message(self, *args):
                pass

            def do_GET(self):
                mirror.asked.append(self.path)
                name = self.path.rstrip("/").rsplit("/", 1)[-1]
                fault = mirror.faults.get(name, "")
                if fault == "hang":
                    mirror.hung.set()
                    mirror._over.wait(ENDLESS)
                    self.close_connection = True
                elif fault == "gone":
                    self.send_error(404, "Not Found")
                elif fault in ("cut", "cut once", "cut and hang"):
                    self._part(Path(mirror.root, self.path.lstrip("/")), fault)
                elif fault.startswith("to "):
                    self.send_response(302)
                    self.send_header("Location", fault[3:])
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    super().do_GET()

            def _part(self, path, fault):
                """Send half of what is wanted and hang up, but for a ``cut once`` the second time."""
                data = path.read_bytes()
                match = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
                begin = int(match.group(1)) if match else 0
                self.send_response(206 if match else 200)
                self.send_header("ETag", '"one"')
                self.send_header("Content-Length", str(len(data) - begin))
                if match:
                    self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
                self.end_headers()
                end = (
                    len(data) if fault == "cut once" and match else (begin + len(data)) // 2 if not match else begin
                )
                self.wfile.write(data[begin:end])
                self.wfile.flush()
                if fault == "cut and hang":
                    mirror.hung.set()
                    mirror._over.wait(ENDLESS)
                self.close_connection = True

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/files"

    def close(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def directory(self, version: str, host: str) -> Path:
        path = self.root / "files/bin" / host / version
        path.mkdir(parents=True, exist_ok=True)
        return path

    def add(
        self,
        triplet: str = "arm-linux-gnueabi",
        version: str = "13.2.0",
        host: str = os.uname().machine,
        *,
        files: dict[str, str] | None = None,
        members: list[tarfile.TarInfo] | None = None,
        listed: bool = True,
        padding: int = 0,
    ) -> str:
        """Put an archive there, and its checksum into the list; give its name.

        ``files``: name in bin → text of a script, by default a gcc; ``members``: go in besides, as they are.
        """
        name = f"{host}-gcc-{version}-nolibc-{triplet}.tar.xz"
        top = f"gcc-{version}-nolibc/{triplet}"
        path = self.directory(version, host) / name
        with tarfile.open(path, "w:xz", preset=0) as archive:
            for file, text in (
                files or {f"{triplet}-gcc": SCRIPT.format(triplet=triplet, version=version)}
            ).items():
                info = tarfile.TarInfo(f"{top}/bin/{file}")
                info.mode, info.size = 0o755, len(text.encode())
                archive.addfile(info, io.BytesIO(text.encode()))
            info = tarfile.TarInfo(f"{top}/bin/{triplet}-cc")
            info.type, info.linkname = tarfile.SYMTYPE, f"{triplet}-gcc"
            archive.addfile(info)
            if padding:
                info = tarfile.TarInfo(f"{top}/lib/noise")
                info.size = padding
                archive.addfile(info, io.BytesIO(os.urandom(padding)))
            for member in members or []:
                archive.addfile(member)
        if listed:
            with (path.parent / "sha256sums.asc").open("a") as sums:
                sums.write(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n")
        return name

    def gets(self, name: str) -> int:
        """How often a file was asked for."""
        return sum(path.endswith("/" + name) for path in self.asked)


@pytest.fixture
def mirror(tmp_path):
    """A server with no archives yet."""
    one = Mirror(tmp_path / "mirror")
    one.root.mkdir()
    yield one
    one.close()
