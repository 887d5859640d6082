"""Bills with their lines, and the energy and carbon account with the rows behind it."""

from __future__ import annotations

import httpx
import pytest

from api.bills import name_of
from tests.api.conftest import Connection, Service


@pytest.fixture
def billed(mini: Connection) -> Connection:
    """Two bills of October: the park's own gate and e1."""
    for customer, total in ((None, 5000.0), ("e1", 1000.0)):
        about = {"customer": customer, "total": total}
        mini.execute(
            """INSERT INTO bill (base_id, enterprise_id, month, total, energy_kwh, estimated_kwh, n_expected, n_known,
            power_factor,
                complete, notes) SELECT b.base_id, e.enterprise_id, '2026-10-01', %(total)s, 900, 0, 2976, 2900, 0.86, false,
                '{a slot}'
            FROM base b LEFT JOIN enterprise e ON e.code = %(customer)s""",
            about,
        )
        mini.execute(
            """INSERT INTO bill_line (base_id, enterprise_id, month, line, item, quantity, unit, price, factor, amount,
                in_power_factor_base, tariff_id, source, verified)
            SELECT b.base_id, e.enterprise_id, '2026-10-01', n, item, %(total)s / 2, 'kWh', 1, 1, %(total)s / 2, true, 1, 's',
            false
            FROM base b LEFT JOIN enterprise e ON e.code = %(customer)s,
                 (VALUES (2, 'power_factor'), (1, 'energy.critical')) AS l (n, item)""",
            about,
        )
    return mini


def test_a_bill_has_its_lines_in_both_languages(service: Service, billed: Connection) -> None:
    with service.client("operator") as operator:
        body = operator.get("/bills?base=mini&period=2026&lang=zh").json()
        assert [(b["customer"], b["month"], b["total"], len(b["lines"])) for b in body["bills"]] == [
            ("base", "2026-10", 5000.0, 2),
            ("e1", "2026-10", 1000.0, 2),
        ]
        first = body["bills"][1]
        assert first["coverage"] == pytest.approx(2900 / 2976) and first["name"] == "永固轧钢"
        assert [(x["name"], x["name_en"], x["amount"]) for x in first["lines"]] == [
            ("尖峰电量电费", "energy, critical peak", 500.0),
            ("功率因数调整电费", "power-factor adjustment", 500.0),
        ]
        one = operator.get("/bills?base=mini&period=2026-10&customer=e1&lang=en").json()["bills"]
        assert [(b["customer"], b["name"]) for b in one] == [("e1", "Yonggu Re-rolling")]
        billed.execute("""INSERT INTO bill_missing (base_id, enterprise_id, month, cause, detail)
            SELECT 1, enterprise_id, DATE '2026-09-01', 'no_readings',
                   '{"points": [{"point": "e1.main.kwh", "first": null, "last": null}]}'::jsonb
            FROM enterprise WHERE code = 'e1'
            UNION ALL SELECT 1, NULL, DATE '2026-09-01', 'tariff_unreadable',
                '{"tariff_id": 1, "from": "2020-01-01", "to": null,
                "reason": "no price"}'""")
        none = operator.get("/bills?base=mini&period=2026-09&lang=en").json()
        gate, first = none["missing"]
        assert none["bills"] == [] and (gate["customer"], gate["cause"], gate["points"]) == ("base", "tariff_unreadable", [])
        assert gate["tariff"] == {"tariff_id": 1, "from": "2020-01-01", "to": None, "reason": "no price"} and gate["remedy"]
        assert (first["name"], first["points"][0]["point"], first["tariff"]) == ("Yonggu Re-rolling", "e1.main.kwh", None)
    with service.client("enterprise", enterprise="e2") as other:
        assert other.get("/bills?base=mini&period=2026-09").json()["missing"] == []


def test_an_enterprise_gets_its_own_bills_only(service: Service, billed: Connection) -> None:
    for code, seen in (("e1", ["e1"]), ("e2", [])):
        with service.client("enterprise", enterprise=code) as client:
            assert [b["customer"] for b in client.get("/bills?base=mini&period=2026-10").json()["bills"]] == seen


@pytest.mark.parametrize(
    ("item", "zh", "en"),
    [
        ("energy.valley", "低谷电量电费", "energy, valley"),
        ("transformer_loss.peak", "变损电费（高峰）", "transformer loss, peak"),
        ("demand.excess", "超合约需量电费", "demand above the contract"),
        ("addition.funds", "政府性基金及附加", "government funds and surcharges"),
        ("addition.own", "own", "own"),
        ("else", "else", "else"),
    ],
)
def test_names_of_lines(item: str, zh: str, en: str) -> None:
    assert (name_of(item, "zh"), name_of(item, "en")) == (zh, en)


def test_the_energy_account_has_scopes_grades_and_the_rows_behind_it(operator: httpx.Client, mini: Connection) -> None:
    factor = mini.execute(
        "INSERT INTO factor (carrier, kind, value, unit, valid_from, source) VALUES ('electricity', 'co2_residual', "
        "0.6, 'kgCO2/kWh', '2020-01-01', 's') RETURNING factor_id"
    ).fetchone()
    setting = mini.execute(
        "INSERT INTO setting (base_id, name, value, source) SELECT base_id, 'deduct_feedstock', true, 's' FROM base "
        "RETURNING setting_id"
    ).fetchone()
    assert factor and setting
    mini.execute(
        """INSERT INTO energy_total (base_id, day, carrier, unit, amount, estimated, billed, n_expected, n_known, n_good,
        tce_calorific,
            tce_equivalent, tce_calorific_assessed, tce_equivalent_assessed, co2_kg, co2_market_kg, setting_ids,
            market_factor_ids)
        SELECT base_id, '2026-10-05', c, u, a, e, b, 96, k, k, 1, 2, 0.5, 1.5, 100, m, %s, %s
        FROM base, (VALUES ('electricity', 'kWh', 1000, 200, 0, 96, 120), ('diesel', 't', 1, 0, 1, 96, 100),
                           ('natural_gas', 'Nm3', 50, 0, 0, 60, 100), ('water', 'm3', 9, 0, 0, 96, 0)) AS v (c, u, a, e, b, k,
                           m)""",
        ([setting[0]], [factor[0]]),
    )
    body = operator.get("/energy/account?base=mini&period=2026-10-05&lang=en").json()
    by = {c["carrier"]: c for c in body["carriers"]}
    assert {c: (row["scope"], row["grade"]) for c, row in by.items()} == {
        "electricity": (2, "C"),
        "diesel": (1, "B"),
        "natural_gas": (1, "A"),
        "water": (None, "A"),
    }
    assert by["natural_gas"]["coverage"] == 0.625
    total = body["totals"][0]
    assert (total["scope1"]["co2_location_kg"], total["scope2"]["co2_location_kg"], total["scope2"]["co2_market_kg"]) == (
        200,
        100,
        120,
    )
    assert (total["tce_equivalent"], total["tce_equivalent_assessed"], total["grade"]) == (8, 6, "C")
    assert total["coverage"] == pytest.approx((1 + 1 + 0.625) / 3) and total["withheld"] is True
    assert [s["name"] for s in body["settings"]] == ["deduct_feedstock"] and [f["kind"] for f in body["factors"]] == [
        "co2_residual"
    ]
    mini.execute("UPDATE energy_total SET co2_market_kg = NULL WHERE carrier = 'electricity'")
    total = operator.get("/energy/account?base=mini&period=2026-10-05").json()["totals"][0]
    assert total["co2_market_kg"] is None and total["co2_location_kg"] == 400


def test_an_enterprise_sees_its_own_account_only(service: Service, mini: Connection) -> None:
    with service.client("enterprise", enterprise="e1") as client:
        assert client.get("/energy/account?base=mini&period=2026-10").status_code == 403
        assert client.get("/energy/account?base=mini&period=2026-10&enterprise=e1").status_code == 200
