"""The catalogue of the simulated park: readable YAML in `lvyuan/`, and the ports of a run put into a copy of it.

The files are the product: an engineer reads, copies and changes them. Simulator, collectors and database read the same rows.
"""

from __future__ import annotations

import re
from pathlib import Path

from park.errors import InputError

FOLDER = Path(__file__).parent / "lvyuan"
DEFAULT_MODBUS_PORT = 15020
_CONNECTION = re.compile(r'tcp://127\.0\.0\.1:(\d+)')


def catalogue_files(named: str | Path = FOLDER) -> list[Path]:
    """The YAML files of a shipped catalogue's name or of a folder, in their order; InputError when there is none."""
    shipped = FOLDER.parent / named
    folder = shipped if shipped.is_dir() else Path(named)
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise InputError(f"expected a folder with catalogue files (*.yaml), got {folder}")
    return files


def write_catalogue(folder: Path, *, modbus_port: int = DEFAULT_MODBUS_PORT) -> list[Path]:
    """Copies of the simulated park's files in `folder`, its gateways at `modbus_port`, `modbus_port + 1` and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for source in catalogue_files():
        target = folder / source.name
        target.write_text(_CONNECTION.sub(lambda m: f"tcp://127.0.0.1:{int(m[1]) - DEFAULT_MODBUS_PORT + modbus_port}",
                                          source.read_text(encoding="utf-8")), encoding="utf-8")
        written.append(target)
    return written
