"""Answers that the API server gives instead of the right ones."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiohttp import web

from .objects import status


@dataclass
class Injection:
    """Applies `times` times to requests of `method` ("" for all) whose path and query hold a match of `path`.

    `code`: 429, 500, 503 or 504; 0 cuts the connection without an answer.
    """

    code: int
    method: str = ""
    path: str = ""
    times: int = 1_000_000
    message: str = "the server is currently unable to handle the request"

    def check(self, http: web.BaseRequest) -> None:
        """ApiError when it applies to this request."""
        if not self.times or self.method not in ("", http.method) or not re.search(self.path, http.path_qs):
            return
        self.times -= 1
        if not self.code and http.transport is not None:
            http.transport.abort()
        raise status.unavailable(self.code or 503, self.message)
