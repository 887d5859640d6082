"""The simulated park once for every test of the stage: building its totals from the opening takes a moment."""

from __future__ import annotations

import pytest

from park.catalogue import Catalogue, read_catalogue
from simulators.catalogue import catalogue_files
from simulators.model import Park
from simulators.scenario import Scenario, read_scenario


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return read_catalogue(catalogue_files())


@pytest.fixture(scope="session")
def scenario() -> Scenario:
    return read_scenario()


@pytest.fixture(scope="session")
def quiet(scenario: Scenario) -> Scenario:
    """The scenario without anything that goes wrong."""
    return scenario.model_copy(update={"faults": type(scenario.faults)()})


@pytest.fixture(scope="session")
def lvyuan(catalogue: Catalogue, scenario: Scenario) -> Park:
    return Park(catalogue, scenario, seed=1)


@pytest.fixture(scope="session")
def calm(catalogue: Catalogue, quiet: Scenario) -> Park:
    """The park without faults."""
    return Park(catalogue, quiet, seed=1)
