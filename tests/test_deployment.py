"""The files in deploy/, by the programs that read them."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pushdemo import Push
from pushdemo.push.exposition import exposition
from tests.nginx import program
from tests.node_packages import missing
from tests.servers import CHECKOUT, HANG, free_port, listens, until
from tests.serving import Serving

DEPLOY = CHECKOUT / "deploy"


def run(*command: str | Path, **options: str) -> str:
    """What a program says, which must not complain."""
    if shutil.which(str(command[0])) is None:
        missing(f"there is no {command[0]}")
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=HANG, check=False, **options
    )  # type: ignore[call-overload]
    said: str = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    return said


# nginx


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """nginx with deploy/nginx.conf, but for ports, paths, names and the user."""
    directory = tmp_path_factory.mktemp("deployed")
    (directory / "mine.ini").write_text(
        "[app:main]\nuse = egg:pushdemo\nfeed.clock = pushdemo.feeds:clock\n"
        "feed.clock.interval = 0.2\n[server:main]\nuse = egg:pushdemo#http\nport = 0\n"
    )
    run(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        "-subj", "/CN=live.example.org", "-addext", "subjectAltName=DNS:live.example.org",
        "-keyout", directory / "key.pem", "-out", directory / "cert.pem",
    )  # fmt: skip
    with Serving(directory, "mine.ini") as serving:
        plain, secure = free_port(), free_port()
        text = (DEPLOY / "nginx.conf").read_text()
        changes = {
            "user www-data;": f"user {pwd.getpwuid(os.getuid()).pw_name};\ndaemon off;",
            "worker_rlimit_nofile 65536;": "",
            "worker_connections 32768;": "worker_connections 512;",
            "/run/nginx.pid": f"{directory}/pid",
            "access_log off;": "access_log off;\n"
            + "".join(
                f"    {name}_temp_path {directory}/{name};\n"
                for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            ),
            "127.0.0.1:8000": f"127.0.0.1:{serving.port}",
            "listen 80;": f"listen 127.0.0.1:{plain};",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{secure} ssl http2;",
            "/etc/ssl/live.example.org.pem": f"{directory}/cert.pem",
            "/etc/ssl/live.example.org.key": f"{directory}/key.pem",
        }
        for old, new in changes.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        if not Path("/etc/nginx/mime.types").exists():
            text = text.replace("include /etc/nginx/mime.types;", "")
        (directory / "nginx.conf").write_text(text)
        command = [program(), "-p", str(directory), "-e", f"{directory}/error.log",
                   "-c", f"{directory}/nginx.conf"]  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            until(lambda: listens(secure) or process.poll() is not None, "nginx")
            assert process.poll() is None, (directory / "error.log").read_text()
            yield f"{secure} {plain} {directory / 'cert.pem'}"
        finally:
            process.terminate()
            process.wait(HANG)


def curl(proxied: str, path: str, *options: str) -> str:
    secure, _, certificate = proxied.split()
    return run(
        "curl", "-sS", "-N", "--max-time", "20", "--cacert", certificate, "--resolve",
        f"live.example.org:{secure}:127.0.0.1", *options,
        f"https://live.example.org:{secure}{path}",
    )  # fmt: skip


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_stream_by_nginx(proxied: str, version: str) -> None:
    path = "/live/server/index/clock?format=ndjson&limit=3"
    said = curl(proxied, path, version, "-w", "%{http_version}")
    *lines, used = said.splitlines()
    assert used == version.removeprefix("--http").removesuffix(".0")
    assert [json.loads(line)["feed"] for line in lines] == ["clock"] * 3


def test_the_page_by_nginx(proxied: str) -> None:
    assert "data-streams=" in curl(proxied, "/live/")
    head = curl(proxied, "/live", "-o", os.devnull, "-w", "%{http_code} %{redirect_url}")
    assert re.fullmatch(r"301 https://live\.example\.org(:\d+)?/live/", head)


@pytest.mark.parametrize("path", ["/live/status", "/live/metrics", "/live/server/index/~status"])
def test_what_is_not_for_everybody(proxied: str, path: str) -> None:
    assert curl(proxied, path, "-o", os.devnull, "-w", "%{http_code}") == "403"


def test_health_is_for_everybody(proxied: str) -> None:
    assert curl(proxied, "/live/healthz") == "ok\n"


def test_a_web_socket_by_nginx(proxied: str) -> None:
    said = curl(
        proxied, "/live/server/index/clock?limit=1", "--http1.1", "-i",
        "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13",
        "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "-o", os.devnull,
        "-w", "%{http_code}",
    )  # fmt: skip
    assert said == "101"


def test_plain_http_is_redirected(proxied: str) -> None:
    _, plain, _ = proxied.split()
    said = run(
        "curl", "-sS", "-o", os.devnull, "-w", "%{http_code} %{redirect_url}",
        "-H", "Host: live.example.org", f"http://127.0.0.1:{plain}/live/",
    )  # fmt: skip
    assert said == "301 https://live.example.org/live/"


# systemd


@pytest.mark.parametrize("name", ["pushdemo.service", "pushdemo-ini.service"])
def test_a_unit(tmp_path: Path, name: str) -> None:
    text = (DEPLOY / "systemd" / name).read_text()
    # The programs must be there for systemd to be content.
    unit = tmp_path / name
    unit.write_text(text.replace("/srv/pushdemo/venv/bin/", f"{Path(sys.executable).parent}/"))
    assert run("systemd-analyze", "verify", unit) == ""
    # 10 is the most exposed.
    run("systemd-analyze", "security", "--offline=true", "--threshold=25", unit)


def test_the_units_differ_in_what_they_start() -> None:
    one, two = (
        (DEPLOY / "systemd" / name).read_text().splitlines()
        for name in ("pushdemo.service", "pushdemo-ini.service")
    )
    different = [(a, b) for a, b in zip(one, two, strict=True) if a != b]
    assert [a.partition("=")[0] for a, _ in different[2:]] == ["Description", "ExecStart"]


# Prometheus and Grafana


def test_prometheus_reads_its_files() -> None:
    assert "SUCCESS" in run("promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    said = run("promtool", "test", "rules", DEPLOY / "prometheus" / "alerts_test.yml")
    assert "SUCCESS" in said


def metrics() -> set[str]:
    """The names there are."""
    push = Push()
    push.feed(lambda: 1, name="one")
    report = push.engine.status.report()
    push.close()
    report["broker"] = {"address": "x", "away": ""}
    text = exposition([report], "")[1].decode()
    return set(re.findall(r"^# TYPE (\S+) ", text, re.M))


def named(text: str) -> set[str]:
    """The names that are asked for."""
    return {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for name in re.findall(r"\bpushdemo_[a-z_]+", text)
    }


def test_alerts_and_dashboard_ask_for_metrics_that_there_are() -> None:
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    asked = {
        name
        for group in alerts["groups"]
        for rule in group["rules"]
        for name in named(rule["expr"])
    }
    dashboard = json.loads((DEPLOY / "grafana" / "pushdemo.json").read_text())
    shown = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in named(target["expr"])
    }
    assert len(asked) >= 5
    assert asked <= metrics()
    assert shown <= metrics()
    unused = metrics() - shown
    assert unused == {
        "pushdemo_computation_failures_total", "pushdemo_values_total", "pushdemo_streams_limit",
        "pushdemo_start_time_seconds", "pushdemo_thread_errors_total", "pushdemo_thread_alive",
    }  # fmt: skip


# Docker


def test_the_compose_file_names_files_that_there_are() -> None:
    docker = DEPLOY / "docker"
    compose = yaml.safe_load((docker / "compose.yaml").read_text())
    assert set(compose["services"]) == {
        "redis", "node1", "node2", "proxy", "prometheus", "grafana"
    }  # fmt: skip
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            assert (docker / volume.split(":")[0]).exists(), volume
        if "build" in service:
            assert (docker / service["build"]["context"]).resolve() == CHECKOUT
    for copied in re.findall(r"^COPY (examples/\S+)", (docker / "Dockerfile").read_text(), re.M):
        assert (CHECKOUT / copied).exists()
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    targets = config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert [one.partition(":")[0] for one in targets] == ["node1", "node2"]
