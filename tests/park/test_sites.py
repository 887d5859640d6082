"""Several bases in one `park up`: what is one catalogue and what are several, and the place that each base keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from park.errors import CatalogueError, InputError
from park.sites import keep_places, placed, read_sites


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for code in ("north", "south"):
        (tmp_path / code).mkdir()
        (tmp_path / code / "base.yaml").write_text(f"base: {{code: {code}, name: X}}\n")
    (tmp_path / "more.yaml").write_text("enterprises: [{code: e1, name: One}]\n")
    return tmp_path


def test_files_are_one_catalogue_unless_several_have_a_base(folder: Path) -> None:
    [one], _ = read_sites([folder / "north", folder / "more.yaml"])
    assert one.code == "north" and [e.code for e in one.catalogue.enterprises] == ["e1"]
    assert [site.code for site in read_sites([folder / "south", folder / "north"])[0]] == ["south", "north"]
    with pytest.raises(InputError, match="has no `base:`"):
        read_sites([folder / "south", folder / "north", folder / "more.yaml"])
    with pytest.raises(InputError, match="two of the catalogues are of base north"):
        read_sites([folder / "north", folder / "north" / "base.yaml"])


def test_mistakes_of_one_of_several_are_told_and_those_of_a_single_one_are_raised(folder: Path) -> None:
    (folder / "south" / "points.yaml").write_text("points: [{quantity: nonsense}]\n")
    sites, wrong = read_sites([folder / "north", folder / "south"])
    assert [site.code for site in sites] == ["north"] and any("points.yaml:1" in line for line in wrong)
    with pytest.raises(CatalogueError):
        read_sites([folder / "south"])


def test_a_base_keeps_its_collector_s_name_in_whatever_order_it_is_named_later(folder: Path) -> None:
    sites, _ = read_sites([folder / "north"])
    keep_places(placed(sites, folder), folder)
    later, _ = read_sites([folder / "south", folder / "north"])
    for _ in range(2):
        found = {(s.code, s.source, s.place) for s in placed(later, folder)}
        assert found == {("north", "collector", 0), ("south", "south", 1)}
        keep_places(placed(later, folder), folder)
