"""The catalogue: every mistake at once with its line, applying twice changes nothing, what is exported reads back."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from typer.testing import CliRunner

from park.catalogue import carriers, check_files, read_catalogue
from park.catalogue_store import apply, export, plan
from park.cli import app
from park.errors import CatalogueError, InputError, NotFound
from park.tariff_terms import mistakes_of

MINI = Path(__file__).parent.parent / "data" / "mini.yaml"
Db = psycopg.Connection[Any]


def _changed(tmp_path: Path, *replacements: tuple[str, str]) -> Path:
    text = MINI.read_text(encoding="utf-8")
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new, 1)
    file = tmp_path / "park.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(("old", "new", "says"), [
    ("unit: kWh, kind: counter, belongs_to: park", "unit: kW, kind: counter, belongs_to: park", "cannot turn kW"),
    ("belongs_to: e1.stack, low", "belongs_to: e1.stak, low", "there is no 'e1.stak' in units"),
    ("quantity: so2, unit: mg/m3, belongs_to", "quantity: so3, unit: mg/m3, belongs_to", "unknown quantity 'so3'"),
    ("rollover: 1000000}", "rollover: -1}", "greater than 0"),
    ("rollover: 1000000}", "rolover: 1000000}", "unknown field; known here: code, name, quantity"),
    ("template: eastron.sdm630, ", "", "a modbus device needs template"),
    ("code: e1.furnace.kw,", "code: e1.main.kw,", "stands twice"),
    ("parent: e1.site, role: production", "parent: e1.furnace, role: production", "its own ancestor"),
    ("high: 35, unit: mg/m3, statistic: hour", "unit: mg/m3, statistic: hour", "expected `high`, `low` or both"),
    ("installed: \"2025-01-01T00:00:00+08:00\"", "installed: 2025-01-01T00:00:00", "with an offset"),
    ("from: 2020-01-01, source: 测试, terms: {flat: 0.65}", "from: 2020-01-01, to: 2019-01-01, source: x, terms: {}",
     "expected `to` after `from`"),
    ("key: active_power}", "key: active_energy_import}", "already feeds points"),
    ("carrier: electricity, unit: CNY/kWh", "carrier: electicity, unit: CNY/kWh", "did you mean electricity?"),
    ("unit: CNY/kWh", "unit: RMB/kWh", "expected CNY/ and a unit of measure such as CNY/kWh, got 'RMB/kWh'"),
    ("terms: {flat: 0.65}", "terms: {flt: 0.65}", "expected `flat: PRICE`, `prices:` with `hours:`, or `table:`"),
    ("{flat: 0.65}", "{prices: {peak: 1}, hours: [{period: valley, from: '00:00', to: '08:00'}]}", "no price for 'valley'"),
    ("{flat: 0.65}", "{prices: {flat: 1}, hours: [{period: flat, from: 17:00, to: '19:00'}]}", "in quotation marks"),
    ("terms: {flat: 0.65}", "terms: {table: {2026-03-01: [1, 2]}}", "24, 48 or 96 prices"),
])
def test_a_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    file = _changed(tmp_path, (old, new))
    before = MINI.read_text(encoding="utf-8").split(old)[0]
    place = f"{file}:{before.count(chr(10)) + 1}:"
    mistakes = check_files([file])
    assert any(m.startswith(place) and says in m for m in mistakes), (place, mistakes)


def test_broken_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("base: {code: a, name: A}\npoints:\n  - {code: x, quantity: [}\n")
    assert check_files([file])[0].startswith(f"{file}:3: not YAML")
    file.write_text("base:\n  code: a\n  name: A\n  since: 2025-13-01\n")
    assert check_files([file])[0] == f"{file}:4: 2025-13-01: not YAML: month must be in 1..12"
    file.write_bytes("base:\n  code: a\n  name: 园区\n".encode("gb18030"))
    assert check_files([file]) == [f"{file}:3: is not UTF-8 (perhaps GB18030): save it as UTF-8"]


def test_a_key_that_stands_twice_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "double.yaml"
    file.write_text("base:\n  code: a\n  name: A\n  name: B\n")
    assert check_files([file]) == [f"{file}:4: the key 'name' stands twice"]


def test_aliases_that_grow_without_bound_are_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "bomb.yaml"
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
    for text in ("\n".join(["l0: &l0 [x, x]", *levels]), "base: &a {code: b, name: *a}\n"):
        file.write_text(text)
        assert "aliases" in check_files([file])[0]


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    file = _changed(tmp_path, ("rollover: 1000000}", "rollover: -1}"), ("role: outlet,", "role: chimney,"))
    with pytest.raises(CatalogueError) as caught:
        read_catalogue([file])
    assert len(caught.value.mistakes) == 2


def test_two_files_add_up_and_two_bases_do_not(tmp_path: Path) -> None:
    more = tmp_path / "more.yaml"
    more.write_text("points: [{code: e9, quantity: temperature, unit: degC, belongs_to: park}]\n")
    assert len(read_catalogue([MINI, more]).points) == len(read_catalogue([MINI]).points) + 1
    assert "a second base" in check_files([MINI, MINI])[0]


def test_a_folder_stands_for_its_yaml_files(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("enterprises: [{code: e1, name: One}]")
    (tmp_path / "a.yml").write_text("base: {code: north, name: North}")
    (tmp_path / "notes.txt").write_text("no catalogue")
    catalogue = read_catalogue([tmp_path])
    assert catalogue.base is not None and [e.code for e in catalogue.enterprises] == ["e1"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty folder"):
        read_catalogue([tmp_path / "empty"])


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    assert "cannot be read" in check_files([tmp_path / "none.yaml"])[0]


def test_applying_twice_changes_nothing(db: Db) -> None:
    catalogue = read_catalogue([MINI])
    assert plan(db, catalogue) == plan(db, catalogue) != []
    assert len(apply(db, catalogue)) > 0
    assert apply(db, catalogue) == []


def test_what_is_exported_reads_back_to_the_same_rows(mini: Db, tmp_path: Path) -> None:
    file = tmp_path / "out.yaml"
    file.write_text(yaml.safe_dump(export(mini, "mini"), allow_unicode=True, sort_keys=False), encoding="utf-8")
    assert plan(mini, read_catalogue([file])) == []


def test_a_changed_limit_supersedes_and_keeps_the_former(mini: Db, tmp_path: Path) -> None:
    file = _changed(tmp_path, ("high: 35, unit: mg/m3, statistic", "high: 30, unit: mg/m3, statistic"))
    assert [str(c) for c in apply(mini, read_catalogue([file]))] == [
        "~ limits e1.stack so2 hour permit 2020-01-01  high: 35.0 -> 30.0"]
    rows = mini.execute("""SELECT high, superseded_at IS NULL FROM limit_value WHERE quantity = 'so2'
        ORDER BY limit_id""").fetchall()
    assert rows == [(35.0, False), (30.0, True)]


def test_prune_retires_and_applying_again_brings_back(mini: Db, tmp_path: Path) -> None:
    line = "  - {code: e1.product, quantity: production, unit: t, kind: counter, belongs_to: e1.furnace}\n"
    less = read_catalogue([_changed(tmp_path, (line, ""))])
    assert apply(mini, less) == []
    assert [str(c) for c in apply(mini, less, prune=True)] == ["- points e1.product"]
    assert [c.action for c in apply(mini, read_catalogue([MINI]))] == ["change"]
    assert mini.execute("SELECT removed_at FROM point WHERE code = 'e1.product'").fetchone() == (None,)


def test_the_flow_of_a_retired_meter_ends_with_it_and_comes_back_with_it(mini: Db, tmp_path: Path) -> None:
    whole = export(mini, "mini")
    less = copy.deepcopy(whole)
    less["points"] = [p for p in less["points"] if p["code"] != "e2.main.kwh"]
    less["flows"][0]["children"].remove("e2.main.kwh")
    file = tmp_path / "less.yaml"
    file.write_text(yaml.safe_dump(less, allow_unicode=True), encoding="utf-8")
    assert [c.section for c in apply(mini, read_catalogue([file]), prune=True)] == ["points", "flows"]
    assert apply(mini, read_catalogue([file]), prune=True) == []
    assert mini.execute("""SELECT f.valid_to - (now() AT TIME ZONE 'Asia/Shanghai')::date FROM flow f
        JOIN point p ON p.point_id = f.child_id WHERE p.code = 'e2.main.kwh'""").fetchall() == [(1,)]
    assert export(mini, "mini") == less                       # names no point that it does not have
    apply(mini, read_catalogue([MINI]))
    assert export(mini, "mini") == whole


def test_a_catalogue_change_is_told_to_the_stages(mini: Db, tmp_path: Path) -> None:
    mini.execute("LISTEN park_catalogue")
    apply(mini, read_catalogue([_changed(tmp_path, ("high: 20000", "high: 30000"))]))
    assert [n.payload for n in mini.notifies(timeout=2, stop_after=1)] == ["mini"]


def test_an_unknown_base_names_the_known_ones(mini: Db) -> None:
    with pytest.raises(NotFound, match="known: mini"):
        export(mini, "nowhere")


def test_the_documentation_lists_every_field_of_every_section() -> None:
    from park.catalogue_rows import SECTION_MODELS
    text = (MINI.parent.parent.parent / "docs" / "catalogue.md").read_text(encoding="utf-8")
    sections = {part.split("\n", 1)[0]: part for part in text.split("\n## ")[1:]}
    for section, model in SECTION_MODELS.items():
        for name, field in model.model_fields.items():
            assert f"| `{field.alias or name}` |" in sections[section], f"docs/catalogue.md: {section}.{field.alias or name}"


def test_prices_of_every_form_that_accounting_reads_are_taken() -> None:
    day = {"period": "peak", "from": "08:00", "to": "22:00"}, {"period": "valley", "from": "22:00", "to": "08:00"}
    months = [line | {"months": some} for line in day for some in ([1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12])]
    forms: list[dict[str, Any]] = [
        {"flat": 0.65}, {"prices": {"peak": 1, "valley": 0.3}, "hours": list(day)},
        {"prices": {"peak": 1, "valley": 0.3}, "hours": months}, {"table": {}},
        {"table": {"2026-03-01": [0.1] * 24}, "hours": [day[0]]}]
    for terms in forms:
        assert list(mistakes_of(terms)) == [], terms
    assert [at for at, _ in mistakes_of({"prices": {"peak": 1, "valley": 0.3}, "hours": months[1:]})] == ["prices"]


def test_the_carriers_of_catalogues_are_those_of_the_database(mini: psycopg.Connection[Any]) -> None:
    assert {c for (c,) in mini.execute("SELECT carrier FROM carrier")} == carriers()


def test_two_entries_of_one_day_and_kind_are_two_and_stay_two(db: Db, tmp_path: Path) -> None:
    lorry = ("  - {kind: hazardous_waste, enterprise: e1, item: HW17, action: disposed, first_day: 2026-03-02, "
             "last_day: 2026-03-02, ")

    def file_of(*tonnes: float) -> Path:
        file = tmp_path / "lorries.yaml"
        entries = "\n".join(f"{lorry}value: {t}, unit: t, evidence: manifest}}" for t in tonnes)
        file.write_text(MINI.read_text(encoding="utf-8").rstrip() + "\n" + entries + "\n", encoding="utf-8")
        return file
    apply(db, read_catalogue([file_of(3, 5, 5)]))
    assert apply(db, read_catalogue([file_of(5, 3, 5)])) == []
    assert [str(c) for c in apply(db, read_catalogue([file_of(5, 4, 5)]))] == [
        "~ ledger hazardous_waste e1 HW17 disposed 2026-03-02 2026-03-02  value: 3.0 -> 4.0"]
    rows = db.execute("""SELECT value FROM ledger WHERE item = 'HW17' AND entry_id NOT IN
        (SELECT supersedes FROM ledger WHERE supersedes IS NOT NULL) ORDER BY value""").fetchall()
    assert [value for (value,) in rows] == [4.0, 5.0, 5.0]


def test_a_device_has_a_name_ratios_and_the_protocol_that_it_can_only_mean(db: Db, tmp_path: Path) -> None:
    file = tmp_path / "devices.yaml"
    file.write_text("""
base: {code: b9, name: b}
devices:
  - {code: m1, name: {zh: 总表, en: Main meter}, template: eastron.sdm630, connection: "tcp://a:502", unit_id: 1,
     ratios: {ct_ratio: 2}}
  - {code: m2, template: dlt645.2007, connection: "tcp://a:4001"}
  - {code: h1, mn: "010000A8900016F000169DC0"}
  - {code: q1, mapping: {topic: a/b, form: flat}}
""", encoding="utf-8")
    apply(db, read_catalogue([file]))
    out = export(db, "b9")["devices"]
    assert [(d["code"], d["protocol"]) for d in out] == [("m1", "modbus"), ("m2", "dlt645"), ("h1", "hj212"), ("q1", "mqtt")]
    assert (out[0]["name"], out[0]["parameters"]) == ({"zh": "总表", "en": "Main meter"}, {"ct_ratio": 2.0})
    file.write_text(yaml.safe_dump(export(db, "b9"), allow_unicode=True), encoding="utf-8")
    assert apply(db, read_catalogue([file])) == []
    file.write_text("base: {code: b9, name: b}\ndevices:\n  - {code: z1}\n")
    assert "protocol: Field required" in check_files([file])[0]


def test_where_there_is_one_base_its_export_needs_no_name(mini: Db, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARK_DATABASE_URL", database_url)
    named, short = (CliRunner().invoke(app, ["catalogue", "export", *code]) for code in (["mini"], []))
    assert (short.exit_code, short.output) == (0, named.output) and short.output.startswith("base:")
    mini.execute("INSERT INTO base (code, name_zh, name_en, region, timezone) VALUES ('b2', 'b', 'b', '', 'Asia/Shanghai')")
    mini.commit()
    assert str(CliRunner().invoke(app, ["catalogue", "export"]).exception) == "say which base; there are b2, mini"
