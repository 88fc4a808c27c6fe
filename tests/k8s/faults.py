"""Faults of the API server itself, which no real cluster can be asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiohttp import web

from . import status


@dataclass
class _Fault:
    code: int  # 0: the connection is cut without an answer
    method: str
    path: re.Pattern[str]
    times: int
    message: str


class Faults:
    """What the server does instead of answering."""

    def __init__(self) -> None:
        self._faults: list[_Fault] = []

    def fail(self, code: int, *, method: str = "", path: str = "", times: int = 1_000_000, message: str = "") -> None:
        """Answer requests whose method is `method` and whose path holds a match of `path` with this HTTP code."""
        self._faults.append(_Fault(code, method, re.compile(path), times, message))

    def clear(self) -> None:
        self._faults.clear()

    def check(self, http: web.BaseRequest) -> None:
        """ApiError when a fault is due for this request."""
        for fault in self._faults:
            if fault.times and fault.method in ("", http.method) and fault.path.search(http.path_qs):
                fault.times -= 1
                if not fault.code and http.transport is not None:
                    http.transport.abort()
                message = fault.message or "the server is currently unable to handle the request"
                raise status.unavailable(fault.code or 503, message)
