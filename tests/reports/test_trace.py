"""Printed figures name their way back in the words of `GET /trace`."""

from __future__ import annotations

import pytest

from reports.trace import trace_of


@pytest.mark.parametrize(
    ("figure", "name"),
    [
        ("energy/2026/electricity/amount", "north/2026/base/electricity/energy"),
        ("energy/2026/natural_gas/co2_kg", "north/2026/base/natural_gas/co2"),
        ("energy/2026-03/electricity_kwh", "north/2026-03/base/electricity/energy"),
        ("energy/2026/enterprise/e1/electricity_kwh", "north/2026/enterprise=e1/electricity/energy"),
        ("water/2026/base/water", "north/2026/base/water/energy"),
        ("water/2026/e1/reclaimed_water", "north/2026/enterprise=e1/reclaimed_water/energy"),
        ("emission/2026/e1.stack/so2/mass", "north/2026/outlet=e1.stack/so2/mass"),
        ("energy/2026/total/tce_equivalent", ""),
        ("energy/2026/electricity/generation", ""),
        ("account/2026/electricity/tce_equivalent_assessed", "north/2026/base/electricity/tce_equivalent_assessed"),
        ("account/2026/diesel/co2_market", "north/2026/base/diesel/co2_market"),
        ("account/2026/none/market", ""),
        ("targets/2026/co2_t/actual", "north/2026/indicator/co2_t"),
        ("targets/2026/co2_t/planned", ""),
    ],
)
def test_a_figure_of_one_carrier_or_outlet_has_a_trace_name(figure: str, name: str) -> None:
    assert trace_of("north", figure) == name
