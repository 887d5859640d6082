"""The name by which `GET /trace?figure=` finds the way back from a printed figure to intervals, samples and factor rows."""

from __future__ import annotations

import re

_MEASURES = {
    "amount": "energy",
    "tce_calorific": "tce_calorific",
    "tce_equivalent": "tce_equivalent",
    "co2_kg": "co2",
    "cost": "cost",
}
_ENERGY = re.compile(r"^energy/(?P<period>\d{4})/(?P<carrier>[a-z_]+)/(?P<field>[a-z_0-9]+)$")
_ASSESSED = {
    "tce_calorific_assessed": "tce_calorific_assessed",
    "tce_equivalent_assessed": "tce_equivalent_assessed",
    "co2_location": "co2",
    "co2_market": "co2_market",
}
_ACCOUNT = re.compile(r"^account/(?P<period>\d{4})/(?P<carrier>[a-z_]+)/(?P<field>[a-z_0-9]+)$")
_TARGET = re.compile(r"^targets/(?P<period>\d{4})/(?P<code>[A-Za-z0-9_.]+)/actual$")
_POWER = re.compile(r"^energy/(?P<period>\d{4}-\d{2})/electricity_kwh$")
_OWNED = re.compile(r"^energy/(?P<period>\d{4})/enterprise/(?P<code>[^/]+)/electricity_kwh$")
_WATER = re.compile(r"^water/(?P<period>\d{4})/(?P<code>[^/]+)/(?P<carrier>water|reclaimed_water)$")
_MASS = re.compile(r"^emission/(?P<period>\d{4})/(?P<code>[^/]+)/(?P<quantity>[^/]+)/mass$")


def trace_of(base: str, figure: str) -> str:
    """`north/2026/base/electricity/co2` for a figure of one carrier or outlet, `north/2026/indicator/co2_t` for what a target
    is measured by; empty for another figure made of several."""
    if (m := _ENERGY.match(figure)) and m["field"] in _MEASURES and m["carrier"] not in ("total", "enterprise"):
        return f"{base}/{m['period']}/base/{m['carrier']}/{_MEASURES[m['field']]}"
    if (m := _ACCOUNT.match(figure)) and m["field"] in _ASSESSED and m["carrier"] != "none":
        return f"{base}/{m['period']}/base/{m['carrier']}/{_ASSESSED[m['field']]}"
    if (m := _TARGET.match(figure)) and m["code"] != "energy_cost":
        return f"{base}/{m['period']}/indicator/{m['code']}"
    if m := _POWER.match(figure):
        return f"{base}/{m['period']}/base/electricity/energy"
    if m := _OWNED.match(figure):
        return f"{base}/{m['period']}/enterprise={m['code']}/electricity/energy"
    if m := _WATER.match(figure):
        scope = "base" if m["code"] == "base" else f"enterprise={m['code']}"
        return f"{base}/{m['period']}/{scope}/{m['carrier']}/energy"
    if m := _MASS.match(figure):
        return f"{base}/{m['period']}/outlet={m['code']}/{m['quantity']}/mass"
    return ""
