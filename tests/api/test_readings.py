"""GET /readings: samples and rollups in three forms, page by page."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

import httpx
import pyarrow.ipc
import pytest

from tests.api.conftest import Connection, Service, store_readings

DAY = "start=2026-11-20T00:00:00Z&end=2026-11-21T00:00:00Z"


def at(minute: float) -> str:
    return (datetime(2026, 11, 20, tzinfo=UTC) + timedelta(minutes=minute)).isoformat()


@pytest.fixture
def samples(mini: Connection) -> list[tuple[str, float | None, int]]:
    """Ten samples of one point (one without a value, one NaN, one manual), two of another."""
    rows: list[tuple[str, float | None, int]] = [(at(i), float(i), 0) for i in range(10)]
    rows[3], rows[5], rows[7] = (at(3), None, 13), (at(5), float("nan"), 17), (at(7), 7.0, 1)
    store_readings(mini, "e1.main.kw", rows)
    store_readings(mini, "e1.furnace.kw", [(at(1.5), -1.5, 0), (at(2), 2.0, 4)])
    return rows


def test_samples_come_in_order_with_their_quality_and_no_value_is_null(operator: httpx.Client, samples: object) -> None:
    body = operator.get(f"/readings?point=e1.main.kw&{DAY}").json()
    (series,) = body["series"]
    assert (series["point"], series["unit"], series["quantity"], body["columns"]) == (
        "e1.main.kw", "kW", "active_power", ["at", "value", "quality"])
    assert series["rows"][0] == ["2026-11-20T00:00:00Z", 0.0, "good"]
    assert series["rows"][3] == ["2026-11-20T00:03:00Z", None, "fault"]
    assert series["rows"][5] == ["2026-11-20T00:05:00Z", None, "bad"] and series["rows"][7][2] == "manual"
    assert len(series["rows"]) == 10 and body["next"] is None


def test_several_points_come_in_the_order_asked(operator: httpx.Client, samples: object) -> None:
    body = operator.get(f"/readings?point=e1.furnace.kw&point=e2.cod&point=e1.main.kw&{DAY}").json()
    assert [(s["point"], len(s["rows"])) for s in body["series"]] == [("e1.furnace.kw", 2), ("e2.cod", 0), ("e1.main.kw", 10)]


def test_pages_together_are_the_whole_and_no_sample_comes_twice(operator: httpx.Client, samples: object) -> None:
    for form in ("json", "csv", "arrow"):
        for limit in (1, 3, 5, 12):
            seen = every_page(operator, form, limit)
            assert len(seen) == 12 == len(set(seen))
            assert [p for p, _ in seen] == ["e1.main.kw"] * 10 + ["e1.furnace.kw"] * 2


def every_page(operator: httpx.Client, form: str, limit: int) -> list[tuple[str, str]]:
    seen: list[tuple[str, str]] = []
    cursor = ""
    for _ in range(20):
        answer = operator.get(f"/readings?point=e1.main.kw&point=e1.furnace.kw&{DAY}&limit={limit}&format={form}{cursor}")
        assert answer.status_code == 200, answer.text
        page, following = rows_of(answer, form)
        assert len(page) <= limit
        seen += page
        if following is None:
            break
        cursor = f"&cursor={following}"
    return seen


def rows_of(answer: httpx.Response, form: str) -> tuple[list[tuple[str, str]], str | None]:
    if form == "json":
        body = answer.json()
        return [(s["point"], r[0]) for s in body["series"] for r in s["rows"]], body["next"]
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(answer.text)))
    else:
        rows = pyarrow.ipc.open_stream(answer.content).read_all().to_pylist()
    return [(r["point"], str(r["at"])) for r in rows], answer.headers.get("x-next-cursor")


def test_csv_and_arrow_say_the_same_as_json(operator: httpx.Client, samples: object) -> None:
    url = f"/readings?point=e1.main.kw&point=e1.furnace.kw&{DAY}"
    told = [(s["point"], *row) for s in operator.get(url).json()["series"] for row in s["rows"]]
    text = operator.get(url, headers={"Accept": "text/csv"})
    assert text.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(text.text)))
    assert [(r["point"], r["at"], float(r["value"]) if r["value"] else None, r["quality"]) for r in rows] == told
    arrow = operator.get(url, headers={"Accept": "application/vnd.apache.arrow.stream"})
    table = pyarrow.ipc.open_stream(arrow.content).read_all()
    assert [(r["point"], f"{r['at']:%Y-%m-%dT%H:%M:%SZ}", r["value"], r["quality"]) for r in table.to_pylist()] == told
    assert table["value"].null_count == 2


def test_instants_keep_their_milliseconds_in_csv(operator: httpx.Client, mini: Connection) -> None:
    store_readings(mini, "e1.main.kw", [("2026-11-20T00:00:00.250Z", 1.0, 0)])
    assert "2026-11-20T00:00:00.250Z,1,good" in operator.get(f"/readings?point=e1.main.kw&{DAY}&format=csv").text
    (row,) = operator.get(f"/readings?point=e1.main.kw&{DAY}").json()["series"][0]["rows"]
    assert row[0].startswith("2026-11-20T00:00:00.25")


@pytest.mark.parametrize("form", ["csv", "arrow"])
def test_a_page_without_rows_still_has_its_columns(operator: httpx.Client, form: str) -> None:
    for resolution, columns in (("raw", ["point", "at", "value", "quality"]), ("1h", ["point", "at", "n", "n_good", "min"])):
        answer = operator.get(f"/readings?point=e2.cod&{DAY}&format={form}&resolution={resolution}")
        assert answer.status_code == 200
        names = (answer.text.strip().replace('"', "").split(",") if form == "csv"
                 else pyarrow.ipc.open_stream(answer.content).read_all().column_names)
        assert names[:len(columns)] == columns


@pytest.mark.parametrize("form", ["json", "arrow"])
def test_the_mean_of_a_bucket_leaves_unusable_readings_out(operator: httpx.Client, mini: Connection, samples: object,
                                                          form: str) -> None:
    # usable: 0 1 2 4 6 7 8 9; n counts the two without a value, n_good what is good or manual
    mini.execute("INSERT INTO reading_1h (bucket, min, max, sum, first, last, point_id, n, n_good, n_usable, base_id) "
                 "SELECT '2026-11-20T00:00Z', 0, 9, 37, 0, 9, point_id, 10, 7, 8, base_id FROM point WHERE code = 'e1.main.kw'")
    answer = operator.get(f"/readings?point=e1.main.kw&{DAY}&resolution=1h&format={form}")
    if form == "json":
        body = answer.json()
        row = dict(zip(body["columns"], body["series"][0]["rows"][0], strict=True))
    else:
        (row,) = pyarrow.ipc.open_stream(answer.content).read_all().to_pylist()
    assert (row["n"], row["n_good"], row["min"], row["max"]) == (10, 7, 0.0, 9.0)
    assert row["mean"] == pytest.approx(37 / 8) and row["increment"] is None


def test_a_month_is_the_base_s_own_also_after_a_short_one(operator: httpx.Client, mini: Connection) -> None:
    # local February 2026 is [Jan 31 16:00Z, Feb 28 16:00Z): its last reading is not of March
    store_readings(mini, "e1.main.kw", [("2026-01-31T16:00:00Z", 1.0, 0), ("2026-02-28T15:59:00Z", 3.0, 0),
                                        ("2026-02-28T15:58:00Z", None, 13), ("2026-02-28T16:00:00Z", 100.0, 0)])
    mini.execute("INSERT INTO reading_1mo (bucket, sum, n, n_good, n_usable, point_id, base_id) "
                 "SELECT '2026-01-31T16:00Z', 4, 3, 2, 2, point_id, base_id FROM point WHERE code = 'e1.main.kw'")
    body = operator.get("/readings?point=e1.main.kw&start=2026-01-01T00:00:00Z&end=2026-12-01T00:00:00Z&resolution=1mo").json()
    assert body["series"][0]["rows"][0][body["columns"].index("mean")] == 2.0


def test_minutes_are_there_also_where_a_quarter_holds_a_single_reading(operator: httpx.Client, mini: Connection) -> None:
    store_readings(mini, "e1.main.kw", [("2026-11-20T00:00:30Z", 5.0, 0)])
    mini.execute("INSERT INTO reading_15m (bucket, min, max, sum, first, last, point_id, n, n_good, n_usable, alone, base_id) "
                 "SELECT '2026-11-20T00:00Z', 5, 5, 5, 5, 5, point_id, 1, 1, 1, true, base_id "
                 "FROM point WHERE code = 'e1.main.kw'")
    rows = operator.get(f"/readings?point=e1.main.kw&{DAY}&resolution=1m").json()["series"][0]["rows"]
    assert [row[0] for row in rows] == ["2026-11-20T00:00:00Z"]


WRONG = (
    ("point=nothing", 404, "nothing"), ("", 422, "point"), ("point=e1.main.kw&start=2026-11-20T00:00:00", 422, "offset"),
    ("point=e1.main.kw&start=yesterday", 422, "start"), ("point=e1.main.kw&resolution=2h", 422, "resolution"),
    ("point=e1.main.kw&start=2026-11-21T00:00:00Z&end=2026-11-20T00:00:00Z", 422, "before"),
    ("point=e1.main.kw&limit=0", 422, "limit"), ("point=e1.main.kw&cursor=abc", 422, "cursor"),
    ("point=e1.main.kw&cursor=WzksIjIwMjYtMTEtMjBUMDA6MDA6MDBaIl0", 422, "cursor"),
    ("point=%00", 422, ""), ("point=e1.main.kw&end=0001-01-01T00:00:00Z", 422, ""),
    ("point=e1.main.kw&end=9999-12-31T23:59:59-23:59", 422, ""))


def test_what_cannot_be_read_is_a_problem_that_says_why(operator: httpx.Client) -> None:
    for query, status, says in WRONG:
        answer = operator.get(f"/readings?{query}", headers={"Accept-Language": "en"})
        assert answer.status_code == status, (query, answer.text)
        assert answer.headers["content-type"] == "application/problem+json" and says in answer.json()["detail"]


def test_an_offset_whose_plus_was_not_encoded_is_understood(operator: httpx.Client, samples: object) -> None:
    body = operator.get("/readings?point=e1.main.kw&start=2026-11-20T08:00:00+08:00&end=2026-11-20T08:05:00%2B08:00").json()
    assert (body["start"], body["end"]) == ("2026-11-20T00:00:00Z", "2026-11-20T00:05:00Z")
    assert len(body["series"][0]["rows"]) == 5


def test_a_code_that_two_bases_share_needs_the_base(service: Service, other: Connection) -> None:
    other.execute("UPDATE point SET code = 'park.kwh' WHERE code = 'gate.kwh'")
    with service.client("contractor", "mini", "other") as client:
        assert client.get("/readings?point=park.kwh").status_code == 422
        assert client.get("/readings?point=park.kwh&base=other").json()["series"][0]["base"] == "other"
        assert client.get("/readings?point=park.kwh&point=x1.main.kw&base=other").status_code == 200
        assert client.get("/readings?point=e1.main.kw&point=x1.main.kw").status_code == 422
