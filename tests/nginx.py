"""nginx in front of another server, for tests: a proxy that removes prefixes from paths."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.servers import HANG, free_port, listens, until

CONFIGURATION = """\
daemon off;
user {user};
pid {directory}/pid;
error_log {directory}/error.log;
worker_processes 1;
events {{ worker_connections 1000; }}
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
PROXY = "        location {path} {{ proxy_pass {url}; }}"
SOCKET = """\
        location {path} {{
            proxy_pass {url};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
        }}"""
GATEWAY = """\
        location {path} {{
            {protocol}_pass {address};
            {protocol}_param REQUEST_METHOD $request_method;
            {protocol}_param REQUEST_URI $request_uri;
            {protocol}_param PATH_INFO $document_uri;
            {protocol}_param QUERY_STRING $query_string;
            {protocol}_param SERVER_PROTOCOL $server_protocol;
            {protocol}_param SERVER_NAME $server_name;
            {protocol}_param SERVER_PORT $server_port;
        }}"""


class Nginx:
    """nginx on a free port.

    locations: where requests go, by what nginx's `location` has. A URL with a path, if only `/`,
        replaces the part of the path that matches. `uwsgi://HOST:PORT` and
        `fastcgi://HOST:PORT` are servers that speak those protocols, and `ws://HOST:PORT` is one
        for WebSockets.
    """

    def __init__(self, directory: Path, locations: Mapping[str, str]) -> None:
        port = free_port()
        self._log = directory / "error.log"
        configuration = directory / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(
                user=pwd.getpwuid(os.getuid()).pw_name,
                directory=directory,
                port=port,
                locations="\n".join(_location(path, url) for path, url in locations.items()),
            )
        )
        command = [program(), "-p", str(directory), "-e", str(self._log), "-c", str(configuration)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.address = "127.0.0.1", port
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
        return listens(port)


def _location(path: str, url: str) -> str:
    protocol, _, address = url.partition("://")
    if protocol == "http":
        return PROXY.format(path=path, url=url)
    if protocol == "ws":
        return SOCKET.format(path=path, url=f"http://{address}")
    return GATEWAY.format(path=path, protocol=protocol, address=address)


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
