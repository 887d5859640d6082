"""The compose file is valid, every file that it mounts is there, and every service says how to tell that it is well."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

ROOT = Path(__file__).parent.parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
SCHEMA = ROOT / "build" / "compose-spec.json"
STAGES = ("collect", "ingest", "account", "alert", "serve")


def test_the_file_is_valid_against_the_compose_schema() -> None:
    assert SCHEMA.exists(), "scripts/system-packages brings the schema; `make test` runs it"
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    # by name: the schema writes its draft's address with a trailing #, which a look-up by address does not find
    jsonschema.validate(COMPOSE, schema, cls=jsonschema.Draft201909Validator)


def test_every_stage_is_a_service_and_a_command_of_park() -> None:
    from park.cli import app
    group: Any = typer.main.get_command(app)
    for stage in STAGES:
        service = SERVICES[stage]
        command = group.commands[service["command"][0]]
        known = {option for p in command.params for option in p.opts}
        given = {word for word in service["command"] if word.startswith("--")}
        assert given <= known, f"{stage}: {given - known} is no option of `park {service['command'][0]}`"


@pytest.mark.parametrize("name", SERVICES)
def test_every_mount_is_a_file_of_the_checkout_or_a_declared_volume(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        source, target = mount.split(":")[:2]
        assert target.startswith("/")
        if source.startswith("."):
            assert (ROOT / source).exists(), f"{name} mounts {source}, which is not in the checkout"
            assert mount.endswith(":ro")
        else:
            assert source in COMPOSE["volumes"]


@pytest.mark.parametrize("name", [n for n in SERVICES if n != "setup"])
def test_every_service_has_a_healthcheck_that_its_image_can_run(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    kind, *command = check["test"]
    words = shlex.split(command[0]) if kind == "CMD-SHELL" else command
    tools = {"database": "pg_isready", "broker": "mosquitto_sub", "grafana": "wget"}
    assert words[0] == tools.get(name, "python")
    if words[0] == "python":
        compile(words[2], "healthcheck", "exec")
        port = re.search(r"127\.0\.0\.1:(\d+)", words[2])
        assert port and port[1] in SERVICES[name]["command"], "the healthcheck asks a port that the command does not open"
    assert {"interval", "timeout", "retries"} <= check.keys()


def test_images_are_pinned_and_no_secret_is_written_down() -> None:
    for name, service in SERVICES.items():
        assert re.search(r":[\w.-]*\d|:latest$", service["image"]), name
        assert service["image"].endswith(":latest") == service["image"].startswith("park-telemetry")
        for key, value in service.get("environment", {}).items():
            if "PASSWORD" in key or "SECRET" in key:
                assert str(value).startswith("${"), f"{name}: {key} is written down"
    example = (ROOT / "deploy" / ".env.example").read_text()
    for variable in set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text())):
        assert f"{variable}=" in example


def test_the_image_holds_every_stage() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    for package in (*STAGES, ):
        assert package in SERVICES
    for folder in ("accounting", "alerts", "api", "collectors", "grafana", "ingest", "park", "reports", "simulators"):
        assert f"COPY {folder} {folder}" in dockerfile
    assert "--require-hashes" in dockerfile and "USER park" in dockerfile


def test_grafana_reads_what_is_provisioned() -> None:
    folder = ROOT / "grafana" / "provisioning"
    source = yaml.safe_load((folder / "datasources" / "park.yaml").read_text(encoding="utf-8"))["datasources"][0]
    assert source["user"] == "park_grafana" and source["uid"] == "park"
    assert source["secureJsonData"]["password"].startswith("$")
    mounts = dict(m.split(":")[:2][::-1] for m in SERVICES["grafana"]["volumes"])
    for provider in yaml.safe_load((folder / "dashboards" / "park.yaml").read_text(encoding="utf-8"))["providers"]:
        path = provider["options"]["path"]
        mount = next(m for m in mounts if path.startswith(m) and m != "/")
        assert list((ROOT / mounts[mount] / path.removeprefix(mount).lstrip("/")).glob("*.json"))
