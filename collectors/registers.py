"""Registers into values: one gather and one view per type, whatever the number of points.

The decoder is compiled for a list of reads; `decode` takes the answers in the same order (None for one that failed).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from collectors.planner import Read, plan_reads
from collectors.template import Template, TemplatePoint, TemplateTest
from park.errors import InputError
from park.quality import Quality

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int8]
Bools = npt.NDArray[np.bool_]

_DTYPES = {"u16": ">u2", "i16": ">i2", "u32": ">u4", "i32": ">i4", "u64": ">u8", "i64": ">i8", "f32": ">f4", "f64": ">f8"}


@dataclass(frozen=True)
class Values:
    """Columns over the decoder's points: value in the template's unit (NaN: none), quality code, whether it was read."""

    value: Floats
    quality: Codes
    present: Bools
    flawless: bool = False  # all present and good: nobody need look at the other columns


_USABLE_BELOW, _BAD, _UNCERTAIN, _MISSING = (int(q) for q in (Quality.STOPPED, Quality.BAD, Quality.UNCERTAIN, Quality.MISSING))
_LARGEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True)
class _Class:
    """Points of one type: where their bytes lie in the joined answers, and where their values go."""

    type: str
    place: npt.NDArray[np.intp]
    gather: npt.NDArray[np.intp]
    patterns: tuple[tuple[int, npt.NDArray[np.bool_]], ...]  # raw pattern, mask over this class
    nan_means_missing: Bools
    bits: tuple[tuple[int, int, int], ...]  # index in the class, shift, mask
    dtype: np.dtype[np.float64] | None  # None: decimals; of floats and integers the type on the wire
    plain: bool  # neither patterns nor bits nor decimals: a view is all


class Decoder:
    """Decodes the answers of `reads` into the values of `points`; points outside every read are never present."""

    def __init__(self, template: Template, points: Sequence[TemplatePoint], reads: Sequence[Read],
                 parameters: Mapping[str, float]) -> None:
        self.points = list(points)
        self._lengths = [r.count * 2 for r in reads]
        starts = np.concatenate([[0], np.cumsum(self._lengths)])
        n = len(self.points)
        self._read_of = np.full(n, -1, dtype=np.intp)
        by_class: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
        for r, read in enumerate(reads):
            for i in read.points:
                p = self.points[i]
                self._read_of[i] = r
                word = p.word_order or template.defaults.word_order
                byte = p.byte_order or template.defaults.byte_order
                by_class.setdefault((p.type, word, byte), []).append((i, int(starts[r]) + 2 * (p.address - read.address)))
        self._classes = [self._compile(template, key, members) for key, members in by_class.items()]
        scale = np.array([p.scale for p in self.points], dtype=np.float64)
        with np.errstate(divide="ignore"):
            inverse = np.round(1.0 / scale)
        # 2301 / 10 is 230.1 exactly, 2301 * 0.1 is not
        self._divisor = np.where(np.isclose(scale * inverse, 1.0, rtol=1e-12, atol=0), inverse, 1.0)
        self._factor = np.where(self._divisor != 1.0, 1.0, scale)
        self._ratio = np.array([np.prod([parameters[m] for m in p.multiply_by]) for p in self.points], dtype=np.float64)
        self._offset = np.array([p.offset for p in self.points], dtype=np.float64)
        self._low = np.array([p.valid[0] if p.valid else -_LARGEST for p in self.points])
        self._high = np.array([p.valid[1] if p.valid else _LARGEST for p in self.points])
        self._scaled = bool((self._factor != 1).any() or (self._divisor != 1).any())
        self._moved = bool((self._offset != 0).any() or (self._ratio != 1).any())
        self._all_present, self._all_good = self._read_of >= 0, np.zeros(n, dtype=np.int8)
        self._alone = (len(self._classes) == 1 and self._classes[0].plain
                       and np.array_equal(self._classes[0].place, np.arange(n)))

    def _compile(self, template: Template, key: tuple[str, str, str], members: list[tuple[int, int]]) -> _Class:
        type_, word, byte = key
        place = np.array([i for i, _ in members], dtype=np.intp)
        first = np.array([at for _, at in members], dtype=np.intp)
        order = byte_order_of(self.points[members[0][0]].words, word, byte)
        patterns: dict[int, Bools] = {}
        nan_missing = np.zeros(len(members), dtype=np.bool_)
        bits = []
        for k, (i, _) in enumerate(members):
            p = self.points[i]
            for pattern in template.not_available_of(p):
                if isinstance(pattern, str):
                    nan_missing[k] = True
                else:
                    mask = patterns.setdefault(pattern & ((1 << 16 * p.words) - 1), np.zeros(len(members), dtype=np.bool_))
                    mask[k] = True
            if p.bits is not None:
                bits.append((k, p.bits[0], (1 << (p.bits[1] - p.bits[0] + 1)) - 1))
        dtype = np.dtype(_DTYPES[type_]) if type_ in _DTYPES else None
        plain = dtype is not None and not (patterns or bits or nan_missing.any())
        gather = first[:, None] + order[None, :]
        return _Class(type_, place, gather, tuple(patterns.items()), nan_missing, tuple(bits), dtype, plain)

    def decode(self, answers: Sequence[bytes | None]) -> Values:
        """Values of all points; an answer of None, or of the wrong length, makes its points absent."""
        whole = [a is not None and len(a) == n for a, n in zip(answers, self._lengths, strict=True)]
        complete = False not in whole
        joined = b"".join(a if ok and a is not None else bytes(n)
                          for a, n, ok in zip(answers, self._lengths, whole, strict=True))
        buffer = np.frombuffer(joined, dtype=np.uint8)
        present = self._all_present if complete else np.array([*whole, False])[self._read_of]
        with np.errstate(invalid="ignore", over="ignore"):
            if self._alone:
                value, quality = _plain(self._classes[0], buffer), self._all_good
            else:
                value, quality = np.full(len(self.points), np.nan), self._all_good.copy()
                for c in self._classes:
                    _decode_class(c, buffer, value, quality)
            if self._scaled:
                value = value * self._factor / self._divisor
            if self._moved:
                value = (value + self._offset) * self._ratio
            good = ((value >= self._low) & (value <= self._high)).all()  # not so for what is no number
        if good and (self._alone or not quality.any()):
            return Values(value, self._all_good, present, flawless=complete and bool(present.all()))
        return self._judged(value, quality.copy(), present)

    def _judged(self, value: Floats, quality: Codes, present: Bools) -> Values:
        with np.errstate(invalid="ignore"):
            outside = (value < self._low) | (value > self._high)
        quality[(quality < _USABLE_BELOW) & ~np.isfinite(value)] = _BAD
        quality[outside & (quality == 0)] = _UNCERTAIN
        value[quality >= _USABLE_BELOW] = np.nan
        return Values(value, quality, present)


def _plain(c: _Class, buffer: npt.NDArray[np.uint8]) -> Floats:
    assert c.dtype is not None
    return buffer[c.gather].view(c.dtype).ravel().astype(np.float64)


def _decode_class(c: _Class, buffer: npt.NDArray[np.uint8], raw: Floats, quality: Codes) -> None:
    if c.plain:
        raw[c.place] = _plain(c, buffer)
        return
    data = np.ascontiguousarray(buffer[c.gather])
    values = _bcd(data) if c.dtype is None else data.view(c.dtype).ravel().astype(np.float64)
    missing = c.nan_means_missing & np.isnan(values) if c.type in ("f32", "f64") else np.zeros(len(values), dtype=np.bool_)
    bits = _pattern_bits(data)
    for pattern, mask in c.patterns:
        missing |= mask & (bits == pattern)
    for k, shift, mask_bits in c.bits:
        values[k] = float((int(bits[k]) >> shift) & mask_bits)
    raw[c.place] = values
    quality[c.place] = np.where(missing, _MISSING, 0)


def byte_order_of(words: int, word_order: str, byte_order: str) -> npt.NDArray[np.intp]:
    """For each byte of the value, most significant first, its place among the bytes as sent."""
    order = np.arange(words * 2, dtype=np.intp).reshape(words, 2)
    if word_order == "little":
        order = order[::-1]
    if byte_order == "little":
        order = order[:, ::-1]
    return order.ravel()


def _bcd(data: npt.NDArray[np.uint8]) -> Floats:
    """Binary-coded decimals, most significant digit first; NaN where a digit is above 9."""
    digits = np.stack([data >> 4, data & 15], axis=2).reshape(len(data), -1)
    weights = 10.0 ** np.arange(digits.shape[1] - 1, -1, -1)
    return np.where((digits <= 9).all(axis=1), digits @ weights, np.nan)


def _pattern_bits(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Each row's bytes, most significant first, as one whole number."""
    whole = np.zeros((len(data), 8), dtype=np.uint8)
    whole[:, 8 - data.shape[1]:] = data
    return whole.view(">u8").ravel().astype(np.uint64)


def encode(template: Template, p: TemplatePoint, value: float) -> list[int]:
    """The registers that hold a value of the point; InputError when its type cannot."""
    raw = (value - p.offset) / p.scale
    if p.type not in _DTYPES or p.bits is not None:
        raise InputError(f"the point {p.key} is a {'bit field' if p.bits else p.type}: it cannot be written")
    dtype = np.dtype(_DTYPES[p.type])
    if dtype.kind != "f":
        raw = round(raw)
        limits = np.iinfo(dtype)
        if not limits.min <= raw <= limits.max:
            raise InputError(f"the point {p.key}: {value:g} {p.unit} does not fit a {p.type}")
    data = np.frombuffer(np.array([raw], dtype=dtype).tobytes(), dtype=np.uint8)
    sent = np.empty_like(data)
    word, byte = p.word_order or template.defaults.word_order, p.byte_order or template.defaults.byte_order
    sent[byte_order_of(p.words, word, byte)] = data
    return [int(w) for w in sent.view(">u2")]


def parameters_of(template: Template, given: Mapping[str, float]) -> dict[str, float]:
    """Values of the template's parameters: given ones over defaults; one with an address is 1 until it is read, and one that
    must be given and is not is no number, so that nothing multiplied by it is one."""
    return {name: given.get(name, p.start) for name, p in template.parameters.items()}


def run_test(template: Template, test: TemplateTest) -> list[str]:
    """What a template's test finds wrong; empty when all is as expected."""
    points = [template.point(key) for key in test.expect]
    reads = plan_reads(template, points, max_gap=0)
    words = {a + k: w for a, ws in test.registers.items() for k, w in enumerate(ws)}
    wrong = []
    answers = []
    for read in reads:
        span = range(read.address, read.address + read.count)
        lacking = [a for a in span if a not in words]
        if lacking:
            keys = ", ".join(points[i].key for i in read.points)
            wrong.append(f"registers {lacking} are not given, but {keys} need them")
        answers.append(b"".join(words.get(a, 0).to_bytes(2, "big") for a in span))
    if wrong:
        return wrong
    values = Decoder(template, points, reads, parameters_of(template, test.parameters)).decode(answers)
    for p, value, quality in zip(points, values.value, values.quality, strict=True):
        expected = test.expect[p.key]
        got = None if np.isnan(value) else float(value)
        if (expected is None) != (got is None) or (
                expected is not None and got is not None and abs(got - expected) > 1e-6 * max(1.0, abs(expected))):
            wrong.append(f"{p.key}: expected {expected}, got {got} ({Quality(int(quality)).name.lower()})")
    return wrong
