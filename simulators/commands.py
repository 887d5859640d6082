"""Commands of the stage; heavy imports stay inside the functions, so that `park --help` answers at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

GROUPS: dict[str, str] = {}


def simulate(
    scenario: Annotated[str, typer.Argument(help="A shipped scenario, or a YAML file.")] = "lvyuan",
    modbus_port: Annotated[int, typer.Option(min=1, max=65_500, help="Port of the first Modbus gateway.")] = 15_020,
    hj212: Annotated[str, typer.Option(metavar="HOST:PORT", help="Collector of the HJ 212 loggers; empty: none.")] = "",
    mqtt: Annotated[str, typer.Option(metavar="URL", help="Broker of the MQTT devices; empty: none.",
                                      envvar="PARK_MQTT_URL")] = "",      # its password has no place in a list of processes
    control_port: Annotated[int, typer.Option(min=0, max=65_535, help="TCP port for set, offline and clear; 0: none.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another park: other weather, noise and faults.")] = 1,
    data_dir: Annotated[Path | None, typer.Option(help="Where ground_truth.json goes. [default: PARK_DATA_DIR]")] = None,
) -> None:
    """Run the devices of a simulated park on real sockets, until Ctrl-C. 运行模拟园区的设备。

    Modbus TCP meters behind gateways, MQTT devices in two JSON dialects, HJ 212-2017 loggers; faults with ground truth.
    """
    import asyncio
    import logging

    from park.settings import load_settings
    from simulators.service import Options, parse_address, run

    settings = load_settings()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    options = Options(scenario=scenario, modbus_port=modbus_port, hj212=parse_address(hj212) if hj212 else None,
                      mqtt_url=mqtt or None, control_port=control_port or None, seed=seed,
                      data_dir=data_dir or settings.data_dir)
    asyncio.run(run(options))


COMMANDS: dict[str, Callable[..., None]] = {"simulate": simulate}
