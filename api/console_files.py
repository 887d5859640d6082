"""The console's static files at /: ETag, gzip, and nothing from another origin."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope


class ConsoleFiles(StaticFiles):
    """Files that a browser may keep but asks about each time, so that a new version shows at once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file with its ETag; 304 when the browser has it."""
        answer = await super().get_response(path, scope)
        answer.headers["Cache-Control"] = "no-cache"
        return answer


def mount_console(app: FastAPI, folder: Path) -> None:
    """Serve `folder` at / behind every route of the API; without the folder / answers 404."""
    if folder.is_dir():
        app.mount("/", GZipMiddleware(ConsoleFiles(directory=folder, html=True), minimum_size=1000), name="console")
