"""The scenario file: how the simulated park behaves. Parsed once, here; the file in `scenarios/` explains each field."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from park.errors import InputError

FOLDER = Path(__file__).parent / "scenarios"


class Part(BaseModel):
    """A part of the scenario: unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Activity(Part):
    shape: str
    level: float = 0.9
    swing: float = 0.0
    weekend: float = 1.0
    holiday: float = 1.0
    hours: list[tuple[float, float]] = []
    pause_h: list[float] = []
    cycle_h: float = 6.0
    stops: dict[str, float] = {}

    @property
    def stop_every_d(self) -> int:
        return int(self.stops.get("every_d", 0))

    @property
    def stop_offset_d(self) -> int:
        return int(self.stops.get("offset_d", 0))

    @property
    def stop_from_h(self) -> float:
        return self.stops.get("from_h", 8.0)

    @property
    def stop_hours(self) -> float:
        return self.stops.get("hours", 8.0)


class Rate(Part):
    rated: float = Field(ge=0)
    activity: str
    standby: float = Field(default=0.0, ge=0, lt=1)
    noise: float = 0.035
    cooling: float = 0.0
    heating: float = 0.0
    cool_at: float = 22.0
    heat_at: float = 8.0
    trend: float = 0.0


class Sum(Part):
    of: dict[str, float]
    base: float = 0.0
    loss: float = 0.0


class Pollutant(Part):
    raw: float
    removal: float = Field(ge=0, lt=1)


class Outlet(Part):
    medium: Literal["air", "water"]
    production: str | None = None
    treatment: list[str] = []
    flow: float | str
    so2: Pollutant | None = None
    nox: Pollutant | None = None
    dust: Pollutant | None = None
    cod: Pollutant | None = None
    ammonia: Pollutant | None = None
    tp: Pollutant | None = None
    tn: Pollutant | None = None
    o2: float = 8.0
    temp: float = 90.0
    humidity: float = 8.0
    area_m2: float = 1.0
    ph: float = 7.2


class Gauge(Part):
    base: float
    per: dict[str, float] = {}
    weather: float = 0.0
    swing: float = 0.0
    jitter: float = 0.0


class Encoding(Part):
    counter: Literal["f32"] | float
    times: list[str] = []


class Scripted(Part):
    """A fault at a written time; `target` is a point, device, rate or outlet, by kind."""

    kind: str
    target: str
    at: datetime
    minutes: float = Field(gt=0)
    params: dict[str, float] = {}
    note: str = ""


class Random(Part):
    """A kind of fault that happens `per_week` times on average, to one of `targets`."""

    kind: str
    per_week: float = Field(gt=0)
    minutes: tuple[float, float]
    targets: list[str]
    params: dict[str, tuple[float, float]] = {}


class Live(Part):
    """Faults of the live run: one every `every_min` minutes, of the kinds in turn."""

    every_min: float = 12.0
    faults: list[Random] = []


class Faults(Part):
    scripted: list[Scripted] = []
    random: list[Random] = []
    live: Live = Live()


class Scenario(Part):
    catalogue: str
    opened: date
    site: dict[str, float]
    activities: dict[str, Activity]
    rates: dict[str, Rate]
    sums: dict[str, Sum]
    same_meter: dict[str, str] = {}
    outlets: dict[str, Outlet] = {}
    states: dict[str, float] = {}
    gauges: dict[str, Gauge] = {}
    encodings: dict[str, Encoding] = {}
    faults: Faults = Faults()

    @model_validator(mode="after")
    def _known(self) -> Scenario:
        for name, rate in self.rates.items():
            if rate.activity not in self.activities:
                raise ValueError(f"rates.{name}: there is no activity {rate.activity!r}")
        for name, total in self.sums.items():
            for child in total.of:
                if child not in self.rates and child not in self.sums:
                    raise ValueError(f"sums.{name}: there is no rate or sum {child!r}")
        return self


def read_scenario(name: str = "lvyuan") -> Scenario:
    """The scenario of a shipped name, or of a YAML file; InputError with the place of the first mistake."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
        raise InputError(f"there is no scenario {name!r}; known: {known}, or name a YAML file")
    try:
        raw: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        return Scenario.model_validate(raw)
    except (yaml.YAMLError, ValidationError) as exc:
        raise InputError(f"{path}: {exc}") from exc
