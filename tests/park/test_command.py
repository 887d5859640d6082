"""The command as a stranger starts it: as a module, in a poor locale, with wrong variables, where nothing may be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from park.errors import InputError
from park.settings import load_settings

ROOT = Path(__file__).parents[2]
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("PARK_", "LC_", "LANG", "PYTHON"))}


def _park(*args: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "park", *args], cwd=ROOT, env=CLEAN | {"PYTHONPATH": str(ROOT)} | env,
                          capture_output=True, encoding="ascii", timeout=60, check=False)


def test_the_module_answers_in_a_locale_without_chinese() -> None:
    said = _park("--help", env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert (said.returncode, said.stderr) == (0, "") and "\\u5de5" in said.stdout and "catalogue" in said.stdout
    assert _park("--version", env={}).stdout.startswith("park-telemetry 0.")


@pytest.mark.parametrize(("variable", "value", "expected"), [
    ("PARK_DATABASE_URL", "nonsense", "expected postgresql://"),
    ("PARK_MQTT_URL", "http://user:secret@broker", "expected mqtt://"),
    ("PARK_PORT", "99999", "65535"),
    ("PARK_LOG_LEVEL", "loud", "INFO"),
])
def test_a_setting_without_sense_is_named_with_what_was_expected(variable: str, value: str, expected: str) -> None:
    said = _park("doctor", env={variable: value})
    assert said.returncode == 1 and said.stderr.startswith(f"park: {variable}: ") and expected in said.stderr
    assert "secret" not in said.stderr and said.stderr.count("\n") == 1


@pytest.mark.parametrize(("variable", "value"), [
    ("database_url", "postgresql://park:secret%ret@db/park"), ("database_url", "postgresql://park:sec@secret@db/park"),
    ("database_url", "postgresql://park:secret/ret@db/park"), ("database_url", "host=db password=my secret"),
    ("mqtt_url", "mqtt://park:secret/ret@broker:1883"), ("mqtt_url", "mqtt://park:1/secret@broker:1883"),
    ("mqtt_url", "mqtt://park:secret#@broker"), ("mqtt_url", "mqtt://park:p@secret@broker:port")])
def test_a_password_that_breaks_its_address_is_not_told(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"PARK_{variable.upper()}", value)
    with pytest.raises(InputError, match=r"%25") as told:
        load_settings()
    assert "sec" not in str(told.value) and "ret" not in str(told.value)


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from park.settings import Settings
    monkeypatch.setenv("PARK_DATABASE_URL", "")
    monkeypatch.setenv("PARK_PORT", "")
    assert (Settings().database_url, Settings().port) == ("postgresql:///park", 8000)


def test_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("a file, not a folder")
    said = _park("grafana", "build", "-o", str(tmp_path / "there" / "boards"), env={})
    assert said.returncode == 1 and said.stderr.startswith("park: ") and "there" in said.stderr
    assert said.stderr.count("\n") == 1
