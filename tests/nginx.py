"""nginx in front of another server, for tests: a proxy that removes prefixes from paths."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.servers import HANG, until

CONFIGURATION = """\
daemon off;
user {user};
pid {directory}/pid;
error_log {directory}/error.log;
worker_processes 1;
events {{ worker_connections 200; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        proxy_set_header Host $http_host;
{locations}
        location / {{ return 404; }}
    }}
}}
"""
LOCATION = "        location {path} {{ proxy_pass {url}; }}"


class Nginx:
    """nginx on a free port.

    locations: where requests go, by what nginx's `location` has. A URL with a path, if only `/`,
        replaces the part of the path that matches.
    """

    def __init__(self, directory: Path, locations: Mapping[str, str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._log = directory / "error.log"
        configuration = directory / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(
                user=pwd.getpwuid(os.getuid()).pw_name,
                directory=directory,
                port=port,
                locations="\n".join(
                    LOCATION.format(path=path, url=url) for path, url in locations.items()
                ),
            )
        )
        command = [program(), "-p", str(directory), "-e", str(self._log), "-c", str(configuration)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{port}"
        try:
            until(lambda: self._listens(port), "nginx")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Nginx:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(HANG)

    def _listens(self, port: int) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0


def program() -> str:
    """nginx's. Without it the test is skipped; in CI it fails."""
    # Debian has it where only root's PATH leads.
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        missing = "nginx is not installed (see tools/install-packages)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found
