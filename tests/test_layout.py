"""The tree is the diagram: a stage imports `park` and itself, and every folder's import name is ours."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STAGES = ("accounting", "alerts", "api", "collectors", "grafana", "ingest", "reports", "simulators")
PACKAGES = (*STAGES, "park")
KNOWS_ALL = {Path("park/cli.py"), Path("park/demo.py"), Path("park/up.py")}


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def _modules() -> list[Path]:
    return sorted(f.relative_to(ROOT) for package in PACKAGES for f in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("module", _modules(), ids=str)
def test_a_stage_imports_park_and_never_another_stage(module: Path) -> None:
    if module in KNOWS_ALL:
        return
    allowed = {module.parts[0], "park"}
    foreign = {name for name in _imports(ROOT / module) if name in PACKAGES} - allowed
    assert not foreign, f"{module} imports {foreign}; two stages meet at an MQTT message or a table"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_import_name_of_each_folder_is_ours(package: str) -> None:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    assert Path(spec.origin).parent == ROOT / package


def test_folders_of_tests_are_no_packages() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_every_stage_has_its_folder_of_tests() -> None:
    assert [p for p in PACKAGES if not list((ROOT / "tests" / p).glob("test_*.py"))] == []


def test_the_locks_name_no_address_and_hash_everything() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / lock).read_text()
        assert "://" not in text
        pinned = [line for line in text.splitlines() if "==" in line and not line.startswith((" ", "#"))]
        assert pinned and all(line.rstrip().endswith("\\") for line in pinned), f"{lock}: a pin without hashes"


def test_every_sql_name_is_used_once() -> None:
    """Two queries of one name in a file would hide one of them."""
    for file in ROOT.glob("*/*.sql"):
        names = [line.split(":", 1)[1].strip() for line in file.read_text().splitlines() if line.startswith("-- name:")]
        assert len(names) == len(set(names)), f"{file}: a query's name stands twice"


def test_no_data_or_secret_is_committed() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert not [f for f in tracked if f.endswith((".db", ".sqlite", ".pem", ".key", "tokens.json", ".env"))]
