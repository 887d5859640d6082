"""The planner: fewest reads within limits, splitting around refused registers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collectors.planner import Read, plan_reads, split_read
from collectors.template import Limits, Template, TemplatePoint


def _template(addresses: list[int], limits: Limits, type_: str = "f32") -> Template:
    points = [TemplatePoint(key=f"p{i}", quantity="active_power", address=a, type=type_, unit="kW")  # type: ignore[arg-type]
              for i, a in enumerate(addresses)]
    return Template(template="test.plan", version=1, vendor="t", models=["m"], kind="meter", source=["test"],
                    limits=limits, points=points)


def test_a_thousand_contiguous_floats_take_at_most_seventeen_requests() -> None:
    template = _template([2 * i for i in range(1000)], Limits(max_registers=125))
    reads = plan_reads(template, template.points)
    assert len(reads) <= 17
    assert sum(len(r.points) for r in reads) == 1000


def test_a_gap_within_the_limit_is_read_along_and_a_wider_one_is_not() -> None:
    template = _template([0, 10, 21], Limits(max_gap=8))
    assert plan_reads(template, template.points) == [Read(3, 0, 12, (0, 1)), Read(3, 21, 2, (2,))]


def test_two_points_in_one_register_share_its_read() -> None:
    template = _template([4, 4, 5], Limits(max_gap=0), "u16")
    assert plan_reads(template, template.points) == [Read(3, 4, 2, (0, 1, 2))]


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=60), st.integers(2, 125), st.integers(0, 20))
def test_every_plan_covers_every_point_once_within_the_limits(addresses: list[int], longest: int, gap: int) -> None:
    template = _template(addresses, Limits(max_registers=longest, max_gap=gap))
    reads = plan_reads(template, template.points)
    assert sorted(i for r in reads for i in r.points) == list(range(len(addresses)))
    for r in reads:
        assert r.count <= longest
        assert all(r.address <= addresses[i] and addresses[i] + 2 <= r.address + r.count for i in r.points)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=30, unique=True))
def test_splitting_comes_to_single_points_and_loses_none(addresses: list[int]) -> None:
    template = _template([2 * a for a in addresses], Limits())
    singles: list[int] = []
    waiting, steps = plan_reads(template, template.points), 0
    while waiting:
        read = waiting.pop()
        smaller = split_read(template, template.points, read)
        assert sorted(i for r in smaller for i in r.points) == (sorted(read.points) if smaller else [])
        singles += read.points if not smaller else ()
        waiting += smaller
        steps += 1
        assert steps < 200
    assert sorted(singles) == list(range(len(addresses)))


def test_a_refused_read_is_first_tried_without_its_holes() -> None:
    template = _template([0, 4], Limits())
    (read,) = plan_reads(template, template.points)
    assert split_read(template, template.points, read) == [Read(3, 0, 2, (0,)), Read(3, 4, 2, (1,))]
