"""The fewest reads for a set of points, within what a device bears."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from collectors.template import Template, TemplatePoint


@dataclass(frozen=True)
class Read:
    """One request: `count` registers from `address` with `function`, and which points it serves (their indices)."""

    function: int
    address: int
    count: int
    points: tuple[int, ...]


def plan_reads(template: Template, points: Sequence[TemplatePoint], indices: Sequence[int] | None = None, *,
               max_gap: int | None = None, max_registers: int | None = None) -> list[Read]:
    """Reads that cover `points[i]` for i in `indices` (all by default), in order of function and address.

    Points sorted by address are joined while the gap and the length stay within the limits; with intervals of a bounded
    length this greedy walk is the fewest possible.
    """
    gap = template.limits.max_gap if max_gap is None else max_gap
    longest = template.limits.max_registers if max_registers is None else max_registers
    chosen = range(len(points)) if indices is None else indices
    ordered = sorted(chosen, key=lambda i: (template.function_of(points[i]), points[i].address, points[i].words))
    reads: list[Read] = []
    for i in ordered:
        p = points[i]
        function, end = template.function_of(p), p.address + p.words
        last = reads[-1] if reads else None
        if last is not None and last.function == function and p.address - (last.address + last.count) <= gap:
            count = max(end, last.address + last.count) - last.address
            if count <= longest:
                reads[-1] = Read(function, last.address, count, (*last.points, i))
                continue
        reads.append(Read(function, p.address, p.words, (i,)))
    return reads


def split_read(template: Template, points: Sequence[TemplatePoint], read: Read) -> list[Read]:
    """Smaller reads for one that a device refused: first without the holes, then in halves; [] for a single point."""
    if len(read.points) <= 1:
        return []
    without_holes = plan_reads(template, points, read.points, max_gap=0)
    if len(without_holes) > 1:
        return without_holes
    middle = len(read.points) // 2
    return (plan_reads(template, points, read.points[:middle], max_gap=0)
            + plan_reads(template, points, read.points[middle:], max_gap=0))
