"""The shipped catalogue: it is valid, big enough, goes into the database, and says what the simulator does."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from park.catalogue import Catalogue, read_catalogue
from park.catalogue_store import apply
from park.errors import InputError
from simulators.catalogue import catalogue_files, write_catalogue
from simulators.model import Park
from simulators.scenario import read_scenario

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC).timestamp()


def test_the_park_has_six_enterprises_of_different_industries_and_three_hundred_points(catalogue: Catalogue) -> None:
    tenants = [e for e in catalogue.enterprises if e.industry != "park_operation"]
    assert len({e.industry for e in tenants}) >= 6
    assert len(catalogue.points) >= 300


def test_every_kind_of_measurement_of_the_park_is_there(catalogue: Catalogue) -> None:
    quantities = Counter(p.quantity for p in catalogue.points)
    assert quantities.keys() >= {"active_energy", "active_power", "voltage", "current", "power_factor", "gas_volume",
                                 "steam_mass", "water_volume", "so2", "nox", "dust", "o2", "flue_gas_flow",
                                 "flue_gas_temperature", "cod",
                                 "ammonia", "ph", "wastewater_flow", "production", "irradiance", "humidity"}
    outlets = Counter(u.medium for u in catalogue.units if u.role == "outlet")
    assert outlets == {"air": 2, "water": 2}
    assert {d.protocol for d in catalogue.devices} == {"modbus", "dlt645", "mqtt", "hj212"}
    assert {d.mapping["form"] for d in catalogue.devices if d.mapping} == {"flat", "ts_values"}
    assert len({d.connection for d in catalogue.devices if d.protocol == "modbus"}) >= 3


def test_every_treatment_facility_names_what_it_treats_and_each_outlet_its_treatment(catalogue: Catalogue) -> None:
    assert all(u.treats for u in catalogue.units if u.role == "treatment")
    assert all(u.outlet_of for u in catalogue.units if u.role == "outlet")


def test_gateways_follow_the_port_that_is_asked_for(tmp_path: Path) -> None:
    moved = read_catalogue(write_catalogue(tmp_path / "park", modbus_port=17000))
    shipped = read_catalogue(catalogue_files())
    ports = [int(str(d.connection).rpartition(":")[2]) for d in moved.devices if d.protocol == "modbus"]
    assert min(ports) == 17000
    assert [p - 17000 for p in ports] == [int(str(d.connection).rpartition(":")[2]) - 15020 for d in shipped.devices
                                          if d.protocol == "modbus"]
    assert len({(d.connection, d.unit_id) for d in moved.devices if d.protocol == "modbus"}) == len(ports)


def test_a_folder_without_catalogue_files_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=str(tmp_path)):
        catalogue_files(tmp_path)


def test_it_goes_into_the_database_and_a_second_time_changes_nothing(db: psycopg.Connection[Any], catalogue: Catalogue) -> None:
    apply(db, catalogue)
    points = db.execute("SELECT count(*) FROM point").fetchone()
    ledger = db.execute("SELECT count(*) FROM ledger").fetchone()
    apply(db, catalogue)
    assert points == db.execute("SELECT count(*) FROM point").fetchone() == (len(catalogue.points),)
    assert ledger == db.execute("SELECT count(*) FROM ledger").fetchone() == (len(catalogue.ledger),)


def test_recorded_meter_swaps_are_what_the_simulated_registers_do(catalogue: Catalogue, lvyuan: Park) -> None:
    lvyuan.readings(np.array([NOW]))
    swaps = {f.target: f for f in lvyuan.faults if f.kind == "swap"}
    old = {m.point: m for m in catalogue.meters if m.removed is not None}
    new = {m.point: m for m in catalogue.meters if m.removed is None}
    assert swaps.keys() == old.keys() == new.keys() != set()
    for code, fault in swaps.items():
        at = old[code].removed
        assert at is not None and at == new[code].installed and at.timestamp() == fault.start
        shown = lvyuan.readings(np.array([fault.start - 1e-3, fault.start]))[0][:, lvyuan.column_of[code]]
        assert old[code].final_register == pytest.approx(shown[0], abs=1.0)
        assert new[code].initial_register == pytest.approx(shown[1], abs=1.0)


def test_all_points_stay_within_their_plausible_range_when_nothing_goes_wrong(calm: Park) -> None:
    t = np.arange(NOW - 360 * 86_400, NOW, 7 * 3600.0 + 11)
    value, _ = calm.readings(t)
    for i, p in enumerate(calm.points):
        if p.low is not None:
            assert value[:, i].min() >= p.low - 1e-9, p.code
        if p.high is not None:
            assert value[:, i].max() <= p.high + 1e-9, p.code


def test_a_scenario_that_does_not_exist_is_told_with_those_that_do() -> None:
    with pytest.raises(InputError, match="lvyuan"):
        read_scenario("atlantis")


def test_a_mistake_in_a_scenario_file_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("catalogue: lvyuan\nopened: 2024-12-01\nsite: {}\nactivities: {}\nsums: {}\n"
                    "rates: {a: {rated: 1, activity: sleep}}\n", encoding="utf-8")
    with pytest.raises(InputError, match="there is no activity 'sleep'"):
        read_scenario(str(path))
