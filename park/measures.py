"""Units of measure with their dimensions as powers, so that an expression over figures can be checked and converted.

Units are those of `tables/quantities.yaml` and compounds of them (`kWh/t`, `tce/10^4CNY`, `kgCO2/kWh`). A symbol that is no
unit of the table is a dimension of its own (`tce`, `person`): it fits itself and nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from park.errors import InputError
from park.quantities import units

# What a dimension of the table is made of; the others stand for themselves.
COMPOUND: dict[str, dict[str, int]] = {
    "ratio": {}, "power": {"energy": 1, "time": -1}, "reactive_power": {"reactive_energy": 1, "time": -1},
    "volume_flow": {"volume": 1, "time": -1}, "volume_flow_standard": {"volume_standard": 1, "time": -1},
    "mass_flow": {"mass": 1, "time": -1}, "concentration_air": {"mass": 1, "volume_standard": -1},
    "concentration_water": {"mass": 1, "volume": -1},
}
# Factor of a dimension's first unit to the product of the first units of its parts (kWh, t, m3, s ...).
SCALE: dict[str, float] = {
    "power": 1 / 3600, "reactive_power": 1 / 3600, "mass_flow": 1 / 3600, "volume_flow": 1 / 3600,
    "volume_flow_standard": 1 / 3600, "concentration_air": 1e-9, "concentration_water": 1e-6,
}
# Units of figures beside those of points; carbon and coal equivalent are masses of something, and stay apart from plain mass.
FIGURES: dict[str, tuple[float, dict[str, int]]] = {
    "tce": (1, {"coal_equivalent": 1}), "kgce": (1e-3, {"coal_equivalent": 1}), "gce": (1e-6, {"coal_equivalent": 1}),
    "tCO2": (1, {"carbon_dioxide": 1}), "kgCO2": (1e-3, {"carbon_dioxide": 1}), "gCO2": (1e-6, {"carbon_dioxide": 1}),
    "CNY": (1, {"money": 1}), "10^4CNY": (1e4, {"money": 1}), "10^8CNY": (1e8, {"money": 1}), "元": (1, {"money": 1}),
    "万元": (1e4, {"money": 1}), "亿元": (1e8, {"money": 1}), "km2": (1, {"area": 1}), "m2": (1e-6, {"area": 1}),
    "hm2": (1e-2, {"area": 1}), "ha": (1e-2, {"area": 1}), "亩": (1 / 1500, {"area": 1}), "10k CNY": (1e4, {"money": 1}),
    "万t": (1e4, {"mass": 1}), "万吨": (1e4, {"mass": 1}), "万m3": (1e4, {"volume": 1}), "万kWh": (1e4, {"energy": 1}),
    "d": (86400, {"time": 1}), "a": (31536000, {"time": 1}), "": (1, {}),
}


@dataclass(frozen=True)
class Measure:
    """A unit: `in_first_units = value * factor + offset`; dimensions are powers by name, empty for a plain number."""

    code: str
    factor: float
    offset: float
    dimensions: dict[str, int]


@lru_cache(maxsize=1024)
def measure(code: str) -> Measure:
    """The unit with this code, simple or `a/b/c`; InputError for a text that is no unit."""
    known = units().get(code)
    if known is not None:
        dimensions = COMPOUND.get(known.dimension, {known.dimension: 1})
        return Measure(code, known.factor * SCALE.get(known.dimension, 1.0), known.offset, dimensions)
    if code in FIGURES:
        return Measure(code, FIGURES[code][0], 0.0, FIGURES[code][1])
    if "/" in code:
        above, below = code.rsplit("/", 1)
        return _quotient(code, measure(above), measure(below))
    if not re.fullmatch(r"[^\W\d][\w%]*", code):
        raise InputError(f"a unit of measure is expected, such as kWh or tce/10^4CNY, and {code!r} is none")
    return Measure(code, 1.0, 0.0, {code: 1})


def _quotient(code: str, above: Measure, below: Measure) -> Measure:
    if above.offset or below.offset:
        raise InputError(f"{code}: a unit with an offset cannot be part of a compound")
    powers = dict(above.dimensions)
    for name, power in below.dimensions.items():
        powers[name] = powers.get(name, 0) - power
    return Measure(code, above.factor / below.factor, 0.0, {n: p for n, p in powers.items() if p})
