"""Device templates: every shipped file passes its own tests, and a mistake is told with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from collectors.catalogue_check import check_files
from collectors.modbus_unit import ModbusUnit
from collectors.park_devices import FieldDevice, Target
from collectors.planner import plan_reads
from collectors.registers import run_test
from collectors.template import METER_BUS, MISTAKES, TEMPLATES, Template, load_template, load_templates
from park.catalogue import Device
from park.errors import CatalogueError, NotFound
from park.yaml_lines import read_model

FILES = [f for f in sorted(TEMPLATES.glob("*.yaml")) if not f.name.startswith(METER_BUS)]

GOOD = """\
template: test.meter
version: 1
vendor: Test
models: [M1]
kind: electricity_meter
source: [manual page 3]
points:
  - {key: power, quantity: active_power, address: 0, type: f32, unit: W}
"""


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_template_reads_its_own_raw_registers_as_it_says(file: Path) -> None:
    template = load_template(file.stem)
    assert template.template == file.stem
    assert template.tests, "a template without tests"
    for test in template.tests:
        assert run_test(template, test) == []


FACTS = {
    "eastron.sdm630": "high", "eastron.sdm120": "high", "abb.b23": "high", "siemens.pac2200": "high",
    "siemens.pac3200": "medium", "siemens.7kt1665": "high", "janitza.umg604": "high", "janitza.umg96rm": "high",
    "carlogavazzi.em24": "high", "carlogavazzi.em340": "high", "schneider.iem3000": "high", "schneider.pm5000": "high",
    "acrel.adl400": "medium", "acrel.adw300": "high", "acrel.dtsd1352": "high", "chint.dtsu666": "high",
    "huawei.sun2000": "high", "sungrow.sg": "high", "sungrow.sh": "high", "inepro.pro380": "medium",
    "fuxin.gas_flow": "medium", "xintai.water": "medium", "tuf.2000m": "high", "unnamed.magflow_3000": "low"}
"""Devices whose register maps were gathered from public sources, and how sure those are."""


def test_every_device_of_the_register_facts_has_a_template_with_its_confidence() -> None:
    assert {f.stem: load_template(f.stem).confidence for f in FILES} == FACTS
    assert all(load_template(f.stem).source for f in FILES)


def test_every_type_and_scale_of_a_template_is_tested_by_it() -> None:
    for template in load_templates():
        tested = {template.point(key).type for test in template.tests for key in test.expect}
        assert tested == {p.type for p in template.points}, template.template


def test_every_plan_keeps_the_limits_of_its_device() -> None:
    for template in load_templates():
        for read in plan_reads(template, template.points):
            assert read.count <= template.limits.max_registers


def test_a_template_written_by_a_user_needs_no_source_and_is_then_not_sure(tmp_path: Path) -> None:
    file = tmp_path / "meter.yaml"
    file.write_text("""
template: eastron.sdm630
version: 1
vendor: Eastron
models: [SDM630-Modbus]
kind: electricity_meter
protocol: modbus
defaults: {function: 4, word_order: big, byte_order: big}
limits: {max_registers: 80, max_gap: 8, gap_ms: 20, connect_delay_ms: 0}
parameters: {ct_ratio: {default: 1}}
points:
  - {key: voltage_l1, quantity: voltage, phase: l1, address: 0, type: f32, unit: V, valid: [0, 500], not_available: [nan]}
tests:
  - {registers: {0: [0x4366, 0x199A]}, expect: {voltage_l1: 230.1}}
""")
    template = load_template(str(file))
    assert (template.source, template.confidence, run_test(template, template.tests[0])) == ([], "low", [])
    file.write_text(file.read_text() + "source: the manual, page 8\n")
    assert (load_template(str(file)).source, load_template(str(file)).confidence) == (["the manual, page 8"], "high")


def test_a_test_inside_a_template_can_fail() -> None:
    template = load_template("eastron.sdm630")
    test = template.tests[0].model_copy(update={"expect": {"voltage_l1": 999.0}})
    (complaint,) = run_test(template, test)
    assert complaint.startswith("voltage_l1: expected 999.0, got 230.1")


def _mistakes(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "meter.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(CatalogueError) as caught:
        read_model(file, Template, *MISTAKES)
    return [str(m).replace(str(tmp_path) + "/", "") for m in caught.value.mistakes]


@pytest.mark.parametrize(("old", "new", "expected"), [
    ("unit: W", "unit: Watt", "meter.yaml:8: points[0] (power).unit: unknown unit of measure 'Watt'"),
    ("quantity: active_power", "quantity: power", "meter.yaml:8: points[0] (power).quantity: unknown quantity 'power'"),
    ("type: f32", "type: f23", "meter.yaml:8: points[0] (power).type: Input should be 'u16'"),
    ("address: 0", "adress: 0", "meter.yaml:8: points[0] (power).address: Field required"),
    ("unit: W", "unit: V", "meter.yaml:8: points[0] (power): cannot turn V (voltage) into kW (power)"),
    ("version: 1", "version: one", "meter.yaml:2: version: Input should be a valid integer"),
    ("vendor: Test", "vendor: Test\nvendor: Other", "meter.yaml:4: the key 'vendor' stands twice"),
    ("points:", "points: [", "meter.yaml:8: not YAML"),
    ("unit: W", "unit: W, multiply_by: [ct_ratio]", "multiplies by 'ct_ratio', which is not in `parameters`"),
    ("unit: W", "unit: W, valid: [5, 1]", "expected valid: [low, high] with low < high"),
])
def test_a_mistake_in_a_template_is_told_with_file_and_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    mistakes = _mistakes(tmp_path, GOOD.replace(old, new))
    assert any(expected in m for m in mistakes), mistakes


def test_a_misspelt_field_is_a_mistake_and_not_lost(tmp_path: Path) -> None:
    mistakes = _mistakes(tmp_path, GOOD.replace("unit: W", "unit: W, scael: 0.1"))
    assert mistakes == ["meter.yaml:8: points[0] (power).scael: unknown field; "
                        "see docs/devices.md for the fields of a template"]


def test_an_unknown_template_is_told_with_the_known_ones() -> None:
    with pytest.raises(NotFound, match=r"no device template 'nope'; known: abb\.b23"):
        load_template("nope")


def test_a_point_whose_parameter_nobody_gave_is_a_mistake_of_the_device_and_not_a_value() -> None:
    def unit(parameters: dict[str, float]) -> ModbusUnit:
        device = Device(code="d.m", protocol="modbus", template="unnamed.magflow_3000", connection="tcp://x:1", unit_id=1,
                        parameters=parameters)
        keys = ("totalizer1_integer", "m3"), ("velocity", "m/s")
        return ModbusUnit(FieldDevice("b", "Asia/Shanghai", device, {k: Target(k, u, "gauge", 60) for k, u in keys}),
                          load_template("unnamed.magflow_3000"))
    without = unit({})
    assert [p.key for g in without.groups for p in g.points] == ["velocity"]
    assert "totalizer1_integer needs `parameters: {totalizer_m3: ...}`" in without.mistakes[0]
    assert not unit({"totalizer_m3": 0.01}).mistakes


PARK = """\
base: {code: b, name: B}
devices:
  - {code: d.m, protocol: modbus, template: eastron.sdm630, connection: "tcp://x:502", unit_id: 1}
  - {code: d.plc, protocol: mqtt, mapping: {topic: "hall/{device}/up", form: flat}}
  - {code: d.cems, protocol: hj212, mn: "010000A8900016F000169DC0", password: "${NOT_HERE}"}
  - {code: d.later, protocol: modbus, template: abb.b23, connection: "tcp://x:502", unit_id: 2}
points:
  - {code: p.kw, quantity: active_power, unit: kW, source: {device: d.m, key: active_power}}
  - {code: p.up, quantity: state, unit: state, source: {device: d.plc, key: health.online}}
"""


@pytest.mark.parametrize(("old", "new", "line", "says"), [
    ("eastron.sdm630", "eastron.sdm603", 3, "did you mean eastron.sdm630"),
    ("tcp://x:502", "x:502", 3, "expected a connection such as tcp://"),
    ("form: flat", "form: flt", 4, "mapping.form: Input should be 'flat'"),
    ("key: active_power", "key: active_powr", 8, "did you mean active_power"),
    ("active_power, unit: kW", "voltage, unit: V", 8, "cannot turn W (power) into V"),
    ("health.online", "health.mood", 9, "there is no key 'health.mood'")])
def test_a_catalogue_is_checked_for_what_its_devices_could_not_read(tmp_path: Path, old: str, new: str, line: int, says: str
                                                                    ) -> None:
    file = tmp_path / "park.yaml"
    file.write_text(PARK)
    check_files([file])
    file.write_text(PARK.replace(old, new, 1))
    with pytest.raises(CatalogueError) as caught:
        check_files([file])
    assert str(caught.value).startswith(f"{file}:{line}: ") and says in str(caught.value)
