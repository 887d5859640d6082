"""Runs every benchmark, or those named, and prints name, our figure and the limit or goal side by side.

    python -m bench [NAME...] [--markdown]
"""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
NAMES = sorted(f.stem for f in HERE.glob("*.py") if not f.stem.startswith("_"))
Row = tuple[str, str, str]


def main() -> int:
    """Exit status 1 when a benchmark could not run at all; a figure below its goal is printed, not hidden."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME", help=f"of {', '.join(NAMES)}; none: all")
    parser.add_argument("--markdown", action="store_true", help="print tables as docs/benchmarks.md has them")
    arguments = parser.parse_args()
    console, failed = Console(), 0
    console.print(f"Python {platform.python_version()}, {platform.machine()}, {time.strftime('%Y-%m-%d')}")
    for name in arguments.names or NAMES:
        began = time.monotonic()
        try:
            rows = importlib.import_module(f"bench.{name}").run()
        except Exception as exc:  # one benchmark that fails must not hide the others; it counts in the exit status
            console.print(f"[red]{name} could not run:[/] {type(exc).__name__}: {exc}")
            failed += 1
            continue
        _show(console, f"{name} ({time.monotonic() - began:.0f} s)", rows, arguments.markdown)
    return 1 if failed else 0


def _show(console: Console, title: str, rows: list[Row], markdown: bool) -> None:
    if markdown:
        print(f"\n### {title}\n\n| measured | figure | limit or goal |\n|---|---|---|")
        for row in rows:
            print("| " + " | ".join(row) + " |")
        return
    table = Table("measured", "figure", "limit or goal", title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
