"""Boards are what their sources build, and each panel's SQL runs as Grafana would send it, with Grafana's rights."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from grafana import boards as b
from grafana.check import run_all
from grafana.macros import expand
from park.errors import InputError

Db = psycopg.Connection[Any]
NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)


def test_the_committed_boards_are_what_the_sources_build() -> None:
    assert b.differences() == []


def test_each_board_exists_in_both_languages_with_one_uid(tmp_path: Path) -> None:
    models = [json.loads(p.read_text(encoding="utf-8")) for p in b.build(tmp_path)]
    uids = [m["uid"] for m in models]
    assert len(uids) == len(set(uids)) == 2 * len(b.boards())
    assert all(len(uid) <= 40 for uid in uids)


@pytest.mark.parametrize("row", b.boards(), ids=lambda r: r["uid"])
def test_panels_do_not_overlap_and_stay_on_the_grid(row: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in b.board(row, "zh")["panels"]:
        g = panel["gridPos"]
        cells = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        assert not cells & taken and g["x"] + g["w"] <= b.WIDTH
        taken |= cells


def test_every_query_in_the_file_is_drawn_somewhere() -> None:
    from park.database import queries
    used = {p["query"] for row in b.boards() for p in row["panels"]} | set(b.VARIABLE_QUERY.values())
    assert set(queries(b.HERE / "panels.sql")) - used - {"alert_annotation"} == {"enterprises"}


def test_macros_expand_as_grafana_does() -> None:
    sql = expand("SELECT $__timeGroup(ts, '10m'), $__interval_ms FROM x WHERE $__timeFilter(ts) AND p IN (${point:sqlstring})"
                 " AND b = '${base}' AND t < $__timeTo()", NOW - timedelta(hours=1), NOW, 30_000,
                 {"point": ["a", "o'b"], "base": ["lv"]})
    assert sql == ("SELECT to_timestamp(floor(extract(epoch from ts)/600)*600), 30000 FROM x WHERE ts BETWEEN "
                   "'2026-11-23T02:00:00Z'::timestamptz AND '2026-11-23T03:00:00Z'::timestamptz AND p IN ('a','o''b')"
                   " AND b = 'lv' AND t < '2026-11-23T03:00:00Z'::timestamptz")


@pytest.mark.parametrize("sql", ["$__unixEpochFilter(x)", "$__timeGroup(x, 'day')", "${nothing}"])
def test_a_macro_or_variable_that_we_do_not_know_is_an_error(sql: str) -> None:
    with pytest.raises(InputError):
        expand(sql, NOW, NOW, 1, {})


@pytest.fixture
def filled(mini: Db) -> Db:
    """A day of figures in every table that boards read."""
    mini.execute((Path(__file__).parent / "filled.sql").read_bytes())
    return mini


def test_every_panel_runs_with_the_rights_of_grafana_and_shows_the_data(filled: Db) -> None:
    filled.execute("SET SESSION AUTHORIZATION park_grafana")
    outcomes = {(name, lang): outcome for name, lang, outcome in run_all(filled, datetime.now(UTC))}
    filled.execute("RESET SESSION AUTHORIZATION")
    errors = {key: str(o) for key, o in outcomes.items() if isinstance(o, psycopg.Error)}
    assert errors == {}
    empty = {name for (name, lang), rows in outcomes.items() if not rows}
    assert empty == set()


def test_grafana_cannot_read_tables_nor_write(filled: Db) -> None:
    filled.execute("SET SESSION AUTHORIZATION park_grafana")
    for statement in (b"SELECT * FROM reading", b"SELECT * FROM token", b"DELETE FROM alert", b"SELECT * FROM ledger"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            filled.execute(statement)
    filled.execute("RESET SESSION AUTHORIZATION")


def test_a_board_login_bound_to_another_base_sees_nothing_whatever_it_sets(filled: Db) -> None:
    filled.execute("INSERT INTO base (code, name_zh, name_en) VALUES ('other', 'x', 'x')")
    with filled.transaction(force_rollback=True):
        filled.execute("DELETE FROM login_base WHERE login = 'park_grafana'")
        filled.execute("INSERT INTO login_base SELECT 'park_grafana', base_id FROM base WHERE code = 'other'")
        filled.execute("SET SESSION AUTHORIZATION park_grafana")
        filled.execute("SELECT set_config('park.bases', '{1,2,3}', false)")
        for view in (b"board_point", b"board_alert", b"board_energy_1d", b"board_emission_1h"):
            assert filled.execute(b"SELECT count(*) FROM " + view).fetchone() == (0,)
        assert filled.execute("SELECT code FROM board_base").fetchall() == [("other",)]
        assert filled.execute("""SELECT count(*) FROM board_series('mini', ARRAY['e1.main.kw'], now() - interval '1 day',
            now(), 1000)""").fetchone() == (0,)


def test_a_login_for_one_base_made_as_documented_sees_that_base_only(filled: Db) -> None:
    text = (b.HERE.parent / "docs" / "grafana.md").read_text(encoding="utf-8")
    statements = text.split("```sql\n")[1].split("```")[0].replace("mypark", "mini")
    filled.execute("INSERT INTO base (code, name_zh, name_en) VALUES ('other', 'x', 'x')")
    with filled.transaction(force_rollback=True):
        filled.execute(statements.encode())
        filled.execute("SET SESSION AUTHORIZATION grafana_mini")
        filled.execute("SELECT set_config('park.bases', '{1,2,3,4}', false)")
        assert filled.execute("SELECT code FROM board_base").fetchall() == [("mini",)]
        assert filled.execute("SELECT count(*) FROM board_point").fetchone() == (20,)


def test_a_series_takes_the_rollup_that_fits_the_interval(filled: Db) -> None:
    def count(interval_ms: int) -> int:
        row = filled.execute("""SELECT count(*) FROM board_series('mini', ARRAY['e1.main.kw'],
            date_trunc('hour', now()) - interval '10 hours', now(), %s)""", (interval_ms,)).fetchone()
        assert row is not None
        return int(row[0])

    raw, quarter, hour = count(1_000), count(900_000), count(3_600_000)
    assert raw > quarter > hour > 0
