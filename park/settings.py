"""Settings from the environment (`PARK_*`); every stage reads them once at its start.

No setting holds a rule of the domain: factors, limits and tariffs are dated rows in the database.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from park.broker_tls import files_of
from park.errors import InputError

ESCAPED = "in a password % is written %25, @ %40, / %2F, : %3A, # %23, ? %3F"


class Settings(BaseSettings):
    """Where the platform's neighbours are, and the sizes of its queues. Times in seconds."""

    model_config = SettingsConfigDict(env_prefix="PARK_", extra="ignore", env_ignore_empty=True)

    database_url: str = "postgresql:///park"
    """libpq URL of the database; `park demo` sets it to the embedded server's socket."""
    mqtt_url: str = "mqtt://127.0.0.1:1883"
    """mqtt://[user:password@]host:port of the broker; mqtts://…?ca=FILE&cert=FILE&key=FILE with TLS, each file where needed."""
    data_dir: Path = Path("park-data")
    """Spools, embedded database, tokens."""
    language: Literal["zh", "en"] = "zh"
    """Language of messages and documents where a request does not say: zh or en."""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    batch_rows: int = 10_000
    batch_s: float = 0.05
    """Ingest commits a batch at this many rows or after this time, whichever comes first; one that has to wait for the batch
    before it grows, to ten times as many."""
    queue_messages: int = 4_000
    """Bound on messages taken from the broker but not yet committed."""
    spool_max_mb: int = 2_048
    spool_full: Literal["oldest", "newest"] = "oldest"
    """What a full spool gives up: its oldest batches, or the new ones (data loggers then keep theirs and send again)."""
    confirm_after_s: float = 300.0
    """A collector that never hears a confirmation of commits takes the broker's word for it after this time; 0: at once."""
    late_after_s: float = 900.0
    future_after_s: float = 600.0
    """A reading this far ahead of arrival is not stored as it stands: its clock is not trusted."""
    keep_readings_days: int = 0
    """Raw readings older than this are dropped, week by week; 0 keeps them for ever. Rollups and figures always stay."""
    archive_dir: Path | None = None
    """Where a week is written as Parquet before its raw readings are dropped; without it they are gone."""
    pg_bin: Path | None = None
    """Folder of pg_dump and pg_restore for `park backup`; without it those of the embedded server, then of PATH."""
    evidence_mb: int = 5_000
    """What the documents behind manual entries of a base may take together; one document has 10 MB."""
    webhook_url: str = ""
    """Where alert transitions are posted; empty: nowhere."""
    webhook_secret: str = ""
    metrics_host: str = "127.0.0.1"
    """Where `--metrics-port` of the stages listens; 0.0.0.0 lets a Prometheus on another machine ask."""
    route_hosts: str = ""
    """Further hosts that routes made over HTTP may send to, with commas: a mail server or a robot of one's own."""
    public_url: str = ""
    """Where people reach the console, https://park.example; links in messages begin with it, and there are none without."""
    log_level: Literal["CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG"] = "INFO"

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _is_database(cls, value: str) -> str:
        if not value.startswith(("postgresql://", "postgres://")) and "=" not in value:
            raise ValueError("expected postgresql://user:password@host:port/name")
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
        try:
            parts = conninfo_to_dict(value)
        except ProgrammingError:    # its text has a part of the password
            raise ValueError(f"expected postgresql://user:password@host:port/name; {ESCAPED}") from None
        if "@" in str(parts.get("host", "")) or not re.fullmatch(r"[\d,]*", str(parts.get("port", ""))):
            raise ValueError(f"expected postgresql://user:password@host:port/name; {ESCAPED}")
        return value

    @field_validator("mqtt_url")
    @classmethod
    def _is_broker(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            port, whole = parts.port, "@" not in parts.path + parts.query + parts.fragment
        except ValueError:          # its text has a part of the password
            port, whole = None, False
        if not whole:
            raise ValueError(f"expected mqtt://user:password@host:port, or mqtts://; {ESCAPED}")
        if parts.scheme not in ("mqtt", "mqtts", "ssl", "tcp") or not parts.hostname or port == 0:
            raise ValueError("expected mqtt://user:password@host:port, or mqtts://")
        files_of(parts)
        return value


def load_settings() -> Settings:
    """The settings of this process, from its environment; InputError names the variable that has no sense."""
    try:
        return Settings()
    except ValidationError as exc:
        raise InputError("; ".join(f"PARK_{'.'.join(map(str, e['loc'])).upper()}: {e['msg'].removeprefix('Value error, ')}, "
                                   f"got {_without_password(e['input'])!r}" for e in exc.errors())) from exc


def _without_password(value: object) -> object:
    """A setting as a message may show it: an address without who logs in and by what."""
    return re.sub(r"(?s)//.*@|password.*", "...", value) if isinstance(value, str) else value
