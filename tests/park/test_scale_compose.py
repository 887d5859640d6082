"""The overlay for a province: valid, its commands exist, and with the services below it nothing is left half replaced."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

ROOT = Path(__file__).parents[2]


class Reset(str):
    """Marks a value that the overlay takes away."""


class Loader(yaml.SafeLoader):
    """YAML with the two tags of Compose's merge: !reset takes a value away, !override puts one in its place whole."""


def _override(loader: Loader, node: yaml.Node) -> Any:
    return loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else \
        loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]


Loader.add_constructor("!reset", lambda *_: Reset("reset"))
Loader.add_constructor("!override", _override)
BELOW: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
OVERLAY: dict[str, Any] = yaml.load((ROOT / "docker-compose.scale.yml").read_text(encoding="utf-8"), Loader)


def merged() -> dict[str, Any]:
    """Services as Compose sees them with both files; lists of the overlay here stand whole, mappings are joined."""
    services: dict[str, Any] = {name: dict(s) for name, s in BELOW["services"].items()}
    for name, above in OVERLAY["services"].items():
        service = services.setdefault(name, {})
        for key, value in above.items():
            if isinstance(value, Reset):
                service.pop(key, None)
            elif key in ("environment", "depends_on") and key in service:
                service[key] = {**service[key], **value}
            elif key == "volumes" and name == "database":
                service[key] = service[key] + value
            else:
                service[key] = value
    return services


SERVICES = merged()
COMMANDS = {name: s["command"] for name, s in SERVICES.items()
            if s["image"].startswith("park-telemetry") and name != "setup"}


def test_both_files_together_are_valid_against_the_compose_schema() -> None:
    schema = json.loads((ROOT / "build" / "compose-spec.json").read_text(encoding="utf-8"))
    whole = {"services": SERVICES, "volumes": BELOW["volumes"] | OVERLAY["volumes"]}
    jsonschema.validate(whole, schema, cls=jsonschema.Draft201909Validator)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_member_runs_a_command_of_park_with_options_that_it_has(name: str) -> None:
    from park.cli import app
    group: Any = typer.main.get_command(app)
    verb, *words = COMMANDS[name]
    known = {option for p in group.commands[verb].params for option in p.opts}
    assert {w for w in words if w.startswith("--")} <= known


def test_setup_distributes_over_the_workers_that_there_are() -> None:
    from park.cli import app
    group: Any = typer.main.get_command(app)
    (command,) = OVERLAY["services"]["setup"]["command"]
    words = command.split("&&")[0].split()
    known = {option for p in group.commands["migrate"].params for option in p.opts}
    assert {w for w in words if w.startswith("--")} <= known and "--citus" in words
    workers = {words[i + 1] for i, w in enumerate(words) if w == "--worker"}
    assert workers == {n for n in SERVICES if n.startswith("database-worker")} == \
        {n for n in OVERLAY["services"]["setup"]["depends_on"] if n.startswith("database-worker")}


def test_members_of_the_group_have_sessions_of_their_own_and_the_parts_make_the_whole() -> None:
    ingests = [c for c in COMMANDS.values() if c[0] == "ingest"]
    assert len({c[c.index("--client-id") + 1] for c in ingests}) == len(ingests) > 1
    assert {c[c.index("--group") + 1] for c in ingests} == {"park"}
    parts = [c[c.index("--part") + 1] for c in COMMANDS.values() if c[0] == "alert"]
    assert sorted(parts) == [f"{k}/{len(parts)}" for k in range(1, len(parts) + 1)]


def test_members_of_the_group_keep_readings_as_long_and_archive_to_one_place() -> None:
    """One of them does the upkeep, whichever comes first: the other must not do it in its own way."""
    def kept(service: dict[str, Any]) -> tuple[Any, ...]:
        environment = service["environment"]
        return environment["PARK_KEEP_READINGS_DAYS"], environment["PARK_ARCHIVE_DIR"], service["volumes"]
    first, *others = [SERVICES[name] for name, command in COMMANDS.items() if command[0] == "ingest"]
    assert others and all(kept(other) == kept(first) for other in others)
    assert any(first["environment"]["PARK_ARCHIVE_DIR"].startswith(mount.split(":")[1]) for mount in first["volumes"])


def test_no_service_of_timescaledb_or_mosquitto_is_left() -> None:
    assert not {n for n, s in SERVICES.items() if re.search("timescale|mosquitto", json.dumps(s))} - {"grafana"}


def test_volumes_are_declared_images_pinned_and_secrets_come_from_the_environment() -> None:
    declared = BELOW["volumes"] | OVERLAY["volumes"]
    example = (ROOT / "deploy" / ".env.example").read_text()
    for variable in set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.scale.yml").read_text())):
        assert f"{variable}=" in example
    for name, service in OVERLAY["services"].items():
        for mount in service.get("volumes", []):
            assert mount.split(":")[0] in declared, name
        if "image" in service and not service["image"].startswith("park-telemetry"):
            assert re.search(r":[\w.-]*\d", service["image"]), name
        for key, value in service.get("environment", {}).items():
            assert not re.search("PASSWORD|SECRET|COOKIE", key) or str(value).startswith("${"), name
