"""nginx with the module nchan, which does all the sending; this program only publishes.

One worker, as every contestant has one core, or NCHAN_WORKERS of them. The publisher is on one
kept-alive connection, and a value is one POST: nchan makes it an event once, and sends all
subscribers the same buffers. It keeps one message, and a new subscriber starts with that:
`nchan_subscriber_first_message oldest`; its `newest` means the next one. A body of any size
that is asked for stays in memory. The rest is what nginx's own documentation says of many
connections: epoll, multi_accept, no access log.

nchan does not say what it does for a client that is too slow. `--busy` computes here and not in
nginx, but on the same core. Debian's packages are nginx and libnginx-mod-nchan.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import pwd
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.contest.program import BACKLOG, HOST, PATH, begin, listening, pauses
from benchmarks.feed import stamp

PUBLISH = "/publish"
START = 10.0  # seconds within which nginx must listen
# Descriptors of a worker that are no client's: its log, its listener, epoll's, nchan's own.
SPARE = 64

_CONFIGURATION = """\
load_module modules/ngx_nchan_module.so;
daemon off;
user {user};
pid {directory}/pid;
error_log {directory}/error.log;
worker_processes {workers};
worker_rlimit_nofile {descriptors};

events {{
    use epoll;
    worker_connections {connections};
    multi_accept on;
}}

http {{
    access_log off;
    tcp_nodelay on;
    # The publisher's connection is never ended.
    keepalive_timeout 1d;
    keepalive_time 1d;
    keepalive_requests 1000000000;

    client_max_body_size 2m;
    client_body_buffer_size 2m;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    nchan_shared_memory_size 256m;

    server {{
        listen {host}:{port} backlog={backlog};

        location = {publish} {{
            nchan_publisher http;
            nchan_channel_id feed;
            nchan_message_buffer_length 1;
        }}

        location = {subscribe} {{
            nchan_subscriber eventsource;
            nchan_channel_id feed;
            nchan_subscriber_first_message oldest;
        }}
    }}
}}
"""


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _configuration(directory: Path, port: int) -> str:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _CONFIGURATION.format(
        directory=directory,
        workers=os.environ.get("NCHAN_WORKERS", "1"),
        user=pwd.getpwuid(os.geteuid()).pw_name,
        descriptors=descriptors,
        connections=descriptors - SPARE,
        host=HOST,
        port=port,
        backlog=BACKLOG,
        publish=PUBLISH,
        subscribe=PATH,
    )


@contextlib.contextmanager
def _nginx() -> Iterator[int]:
    """nginx, from when it listens until this is left; gives its port.

    Raises RuntimeError with what it logged, if it does not come to listen.
    """
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        port = _free_port()
        configuration = directory / "nginx.conf"
        configuration.write_text(_configuration(directory, port))
        log = directory / "error.log"
        # The kernel ends it if this program is killed and cannot.
        nginx = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "nginx", "-e", log, "-c", configuration],
            stdin=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + START
            while not _listens(port):
                if nginx.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"nginx does not listen:\n{log.read_text()}")
                time.sleep(0.02)
            yield port
        finally:
            nginx.terminate()
            nginx.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return not probe.connect_ex((HOST, port))


def _publish(connection: http.client.HTTPConnection, value: str) -> None:
    connection.request("POST", PUBLISH, value.encode(), {"Content-Type": "text/plain"})
    response = connection.getresponse()
    answer = response.read()
    if response.status not in (http.HTTPStatus.CREATED, http.HTTPStatus.ACCEPTED):
        raise RuntimeError(f"nchan says {response.status} to a value: {answer!r}")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    options = begin()
    with _nginx() as port, contextlib.closing(http.client.HTTPConnection(HOST, port)) as publisher:
        _publish(publisher, stamp(options.size))
        listening(port)
        for pause in pauses(options.interval):
            time.sleep(pause)
            _publish(publisher, stamp(options.size))


if __name__ == "__main__":
    main()
