"""Registers of the simulated Modbus devices, laid out by the device templates that collectors read them with.

The templates are read as data (`collectors/templates/*.yaml`); nothing of the collectors' code is used, so that a
mistake there is not made here a second time.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from park.catalogue import Device, Point
from park.errors import InputError
from park.quantities import conversion, quantities

TEMPLATES = Path(__file__).resolve().parent.parent / "collectors" / "templates"
_INTEGERS = {"u16": 1, "i16": 1, "u32": 2, "i32": 2, "u64": 4, "i64": 4}
_FLOATS = {"f32": ">f", "f64": ">d"}
_DECIMALS = {"bcd16": 1, "bcd32": 2, "bcd48": 3, "bcd64": 4}
_TAIL = 8      # registers that answer zero behind the last known one


@dataclass(frozen=True)
class Cell:
    """A value of the template in the register bank: raw = value * factor + offset, at `address` of `function`.

    The value is in the unit of the point that takes it, or in the usual unit of its quantity where none does.
    """

    key: str
    address: int
    type: str
    function: int
    word_order: str
    byte_order: str
    factor: float
    offset: float
    column: int | None        # of the park's points; None: a value of the template that no point takes


@dataclass
class Bank:
    """Registers of one unit id: words by (function, address), and addresses that answer with an exception."""

    device: str
    unit_id: int
    max_registers: int
    cells: list[Cell]
    words: dict[tuple[int, int], int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    broken: set[tuple[int, int]] = field(default_factory=set)
    silent: bool = False

    def put(self, cell: Cell, value: float | None) -> None:
        """Write a value; None or NaN is not available: NaN in floats, an exception answer in whole numbers."""
        size = width(cell.type)
        places = [(cell.function, cell.address + i) for i in range(size)]
        if value is None or not np.isfinite(value):
            if cell.type not in _FLOATS:
                self.broken.update(places)
                return
            value = float("nan")
        self.broken.difference_update(places)
        raw = value * cell.factor + cell.offset
        for place, word in zip(places, encode(raw, cell.type, cell.word_order, cell.byte_order), strict=True):
            self.words[place] = word

    def read(self, function: int, address: int, count: int) -> list[int] | int:
        """Words of a request, or the Modbus exception code that it deserves."""
        if function not in self.ends:
            return 1
        if not 1 <= count <= min(125, self.max_registers):
            return 3
        places = [(function, address + i) for i in range(count)]
        if address + count > self.ends[function] or any(p in self.broken for p in places):
            return 2
        return [self.words.get(p, 0) for p in places]


def width(kind: str) -> int:
    """Registers that a type takes; InputError for an unknown type."""
    if kind in _INTEGERS:
        return _INTEGERS[kind]
    if kind in _FLOATS:
        return {"f32": 2, "f64": 4}[kind]
    if kind in _DECIMALS:
        return _DECIMALS[kind]
    raise InputError(f"unknown register type {kind!r}")


def encode(raw: float, kind: str, word_order: str, byte_order: str) -> Sequence[int]:
    """Registers of a raw value; whole numbers are rounded and held within their type."""
    if kind in _FLOATS:
        data = struct.pack(_FLOATS[kind], raw)
    elif kind in _DECIMALS:
        digits = 4 * _DECIMALS[kind]
        data = bytes.fromhex(f"{round(raw) % 10**digits:0{digits}d}")
    else:
        bits = 16 * _INTEGERS[kind]
        low, high = (0, 2**bits - 1) if kind[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        data = (min(max(round(raw), low), high) & (2**bits - 1)).to_bytes(bits // 8, "big")
    words = [int.from_bytes(data[i: i + 2], "big") for i in range(0, len(data), 2)]
    if byte_order == "little":
        words = [(w & 0xFF) << 8 | w >> 8 for w in words]
    return words[::-1] if word_order == "little" else words


def read_template(name: str, folder: Path = TEMPLATES) -> dict[str, Any]:
    """A template's YAML; InputError when there is none of that name."""
    path = folder / f"{name}.yaml"
    if not path.exists():
        raise InputError(f"there is no device template {name!r} in {folder}")
    template: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return template


def bank_of(device: Device, points: Mapping[str, tuple[int, Point]], folder: Path = TEMPLATES) -> Bank:
    """The bank of a Modbus device; `points`: its points by key with their column.

    Ratios stand in the registers where the template reads them.
    """
    template = read_template(str(device.template), folder)
    defaults = template.get("defaults", {})
    cells = [_cell(row, defaults, device, points.get(row["key"])) for row in template["points"]]
    unknown = set(points) - {c.key for c in cells}
    if unknown:
        raise InputError(f"{device.code}: the template {device.template} has no {', '.join(sorted(unknown))}")
    limit = int(template.get("limits", {}).get("max_registers", 125))
    bank = Bank(device.code, int(device.unit_id or 0), limit, cells)
    for name, parameter in (template.get("parameters") or {}).items():
        if "address" in parameter:
            cell = _cell({"key": name, "multiply_by": []} | parameter, defaults, device, None)
            bank.put(cell, device.parameters.get(name, parameter.get("default", 1)))
            bank.ends[cell.function] = max(bank.ends.get(cell.function, 0), cell.address + width(cell.type) + _TAIL)
    for cell in cells:
        bank.ends[cell.function] = max(bank.ends.get(cell.function, 0), cell.address + width(cell.type) + _TAIL)
    return bank


def _cell(row: Mapping[str, Any], defaults: Mapping[str, Any], device: Device, taken: tuple[int, Point] | None) -> Cell:
    scale = float(row.get("scale", 1.0))
    for ratio in row.get("multiply_by", []):
        scale *= device.parameters.get(ratio, 1.0)
    column = taken[0] if taken is not None else None
    unit = taken[1].unit if taken is not None else quantities()[row["quantity"]].unit if "quantity" in row else None
    to_unit, shift = conversion(unit, row["unit"]) if unit else (1.0, 0.0)
    pick = {k: row.get(k, defaults.get(k)) for k in ("function", "word_order", "byte_order")}
    return Cell(row["key"], int(row["address"]), row["type"], int(pick["function"] or 3), pick["word_order"] or "big",
                pick["byte_order"] or "big", to_unit / scale, shift / scale, column)
