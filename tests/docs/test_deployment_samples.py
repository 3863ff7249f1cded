"""Samples for deployment are what the programs that read them accept, and name only what the server has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.cli import make_parser
from server.settings import Settings

SAMPLES = Path(__file__).parents[2] / "docs" / "how-to" / "samples"
VARIABLES = {item.metadata["env"] for item in fields(Settings)}
KUBERNETES_VERSION = "1.33"


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((SAMPLES / "kubernetes.yaml").read_text()))


def program(name: str) -> str:
    """Return the path of a program of this machine; skips without it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_kubernetes_manifests_are_of_their_schemas() -> None:
    checker = pytest.importorskip("kubernetes_validate", reason="make test-manifests installs it")
    for manifest in manifests():
        checker.validate(manifest, KUBERNETES_VERSION, strict=True)


def test_containers_run_commands_with_settings_that_exist() -> None:
    for manifest in manifests():
        for container in manifest["spec"].get("template", {}).get("spec", {}).get("containers", []):
            make_parser().parse_args(container["args"])
            assert {item["name"] for item in container.get("env", [])} <= VARIABLES
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("readinessProbe", "livenessProbe"):
                if probe in container:
                    assert container[probe]["httpGet"]["port"] in ports


def test_pods_stop_and_select_as_meant() -> None:
    by_kind = {item["kind"]: item["spec"] for item in manifests()}
    pod = by_kind["Deployment"]["template"]
    env = pod["spec"]["containers"][0]["env"]
    seconds = [float(item["value"]) for item in env if "DRAIN" in item["name"]]
    assert sum(seconds) < pod["spec"]["terminationGracePeriodSeconds"]
    labels = pod["metadata"]["labels"]
    assert by_kind["Service"]["selector"] == labels
    assert by_kind["PodDisruptionBudget"]["selector"]["matchLabels"] == labels
    assert by_kind["PodDisruptionBudget"]["minAvailable"] < by_kind["Deployment"]["replicas"]


def test_the_unit_of_systemd_starts_a_command_and_leaves_it_time_to_drain() -> None:
    unit = (SAMPLES / "llm-observatory.service").read_text()
    (command,) = re.findall(r"^ExecStart=\S+/llm-observatory (.*)$", unit, re.MULTILINE)
    make_parser().parse_args(command.split())
    (patience,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(patience) > Settings().drain_timeout


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    unit = (SAMPLES / "llm-observatory.service").read_text()
    (tmp_path / "llm-observatory.service").write_text(
        unit.replace("/opt/llm-observatory/bin/llm-observatory", "/bin/true").replace("User=observatory", "User=daemon")
    )
    told = subprocess.run(
        [analyze, "verify", tmp_path / "llm-observatory.service"], capture_output=True, text=True, check=False
    )
    assert "llm-observatory.service:" not in told.stderr, told.stderr


def test_haproxy_accepts_its_sample() -> None:
    told = subprocess.run(
        [program("haproxy"), "-c", "-f", SAMPLES / "haproxy.cfg"], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr + told.stdout


def test_nginx_accepts_its_sample(tmp_path: Path) -> None:
    nginx = program("nginx")
    main = tmp_path / "nginx.conf"
    main.write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}}\nhttp {{ access_log off; include {SAMPLES}/nginx.conf; }}\n"
    )
    told = subprocess.run([nginx, "-t", "-p", tmp_path, "-c", main], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr


def test_caddy_accepts_its_sample(tmp_path: Path) -> None:
    caddy = program("caddy")
    told = subprocess.run(
        [caddy, "validate", "--adapter", "caddyfile", "--config", SAMPLES / "Caddyfile"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)},
    )
    assert told.returncode == 0, told.stderr + told.stdout
    assert "input is not formatted" not in told.stderr


def test_traefik_sends_to_a_service_that_is_asked_whether_it_is_ready() -> None:
    dynamic = yaml.safe_load((SAMPLES / "traefik.yaml").read_text())["http"]
    (router,) = dynamic["routers"].values()
    balancer = dynamic["services"][router["service"]]["loadBalancer"]
    assert balancer["healthCheck"]["path"] == "/ready"
    assert balancer["responseForwarding"]["flushInterval"]
    assert all(set(server) == {"url"} for server in balancer["servers"])
