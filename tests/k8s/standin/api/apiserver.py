"""The API over HTTPS on loopback, for the official client and for kubectl."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.k8s.standin.injection import Injection
from tests.k8s.standin.node.entering import Entered
from tests.k8s.standin.node.logs import LogReader, is_running
from tests.k8s.standin.objects.resources import PODS, RESOURCES, Obj
from tests.k8s.standin.objects.status import ApiError

from . import executing
from .discovery import documents
from .listing import selected, watched
from .rbac import Authorizer, Request
from .registry import Registry
from .routes import Target, target_of
from .verbs import Answer, Call, access_review

MAX_BODY = 3 * 1024 * 1024
#: Of a pod's uid and a container's name the number of its process 1; None: it does not run.
Entrance = Callable[[str, str], int | None]
REVIEW_PATH = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class ApiServer:
    """Serves a registry in a thread of its own. `port` stays the same when the server is stopped and started again."""

    def __init__(
        self, registry: Registry, authorizer: Authorizer, logs: Path, tls: ssl.SSLContext, entrance: Entrance
    ) -> None:
        self.port = 0
        self.injections: list[Injection] = []
        self.asked: list[Request] = []  # in their order, refused ones too
        self._registry = registry
        self._authorizer = authorizer
        self._logs = logs
        self._tls = tls
        self._entrance = entrance
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="apiserver", daemon=True)
        self._runner: web.ServerRunner | None = None
        self._watches: set[asyncio.Transport] = set()

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        if not self._thread.is_alive():
            self._thread.start()
        self._in_loop(self._start())

    def stop(self) -> None:
        """Refuse connections, and cut those that are open."""
        self._in_loop(self._stop())

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def drop_watches(self) -> None:
        """Cut every watch and every followed log, as a load balancer does."""
        self._loop.call_soon_threadsafe(self._drop_watches)

    def _drop_watches(self) -> None:
        for transport in list(self._watches):
            transport.abort()

    def _in_loop(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._handle, keepalive_timeout=75), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        if self._runner is not None:
            self._drop_watches()
            await self._runner.cleanup()
            self._runner = None

    # -- requests -----------------------------------------------------------------------------------------------------

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        try:
            for injection in self.injections:
                injection.check(http)
            user = self._authorizer.user(http.headers.get("Authorization", ""))
            return self._serve_itself(http) or await self._answer(http, user, await http.content.read(-1))
        except ApiError as refusal:
            headers = {"Retry-After": "1"} if refusal.code in (429, 503) else {}
            return _json(refusal.status, refusal.code, headers)

    def _serve_itself(self, http: web.BaseRequest) -> web.Response | None:
        """Health and discovery."""
        path = http.path.rstrip("/")
        if path in ("/healthz", "/readyz", "/livez"):
            return web.Response(text="ok")
        document = documents(self._registry.served).get(path)
        return _json(document, 200) if document else None

    async def _answer(self, http: web.BaseRequest, user: str, body: bytes) -> web.StreamResponse:
        if len(body) > MAX_BODY:
            raise ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {MAX_BODY}")
        if http.path == REVIEW_PATH:
            return _shown(access_review(self._authorizer, user, body, _media_type(http)))
        target = target_of(http.path, RESOURCES)
        if target is None:
            return _not_served()
        verb = target.verb(http.method, http.query)
        question = target.question(verb)
        self.asked.append(question)
        self._authorizer.check(user, target.resource, question)  # of kinds that are not installed, too
        if target.resource not in self._registry.served:
            return _not_served()
        if verb == "watch":
            return await self._watch(http, target)
        streams = {"log": self._log, "exec": self._exec} if target.resource is PODS else {}
        if target.subresource in streams:
            return await streams[target.subresource](http, target)
        call = Call(self._registry, self._authorizer, target, http.query, (body, _media_type(http)))
        return _shown(call.answer(verb))

    # -- streams ------------------------------------------------------------------------------------------------------

    async def _watch(self, http: web.BaseRequest, target: Target) -> web.StreamResponse:
        selected(target, http.query)  # a bad selector is refused before the stream begins
        events = watched(self._registry.store, target, http.query)
        return await self._stream(
            http, "application/json", (json.dumps(event).encode() + b"\n" async for event in events)
        )

    async def _log(self, http: web.BaseRequest, target: Target) -> web.StreamResponse:
        store, pod = self._registry.store, self._registry.get(PODS, target.namespace, target.name)
        reader = LogReader(self._logs, pod, http.query)
        if not reader.follow:
            return web.Response(body=reader.read(), content_type="text/plain")

        def running() -> bool:
            now = store.get(PODS, target.namespace, target.name)
            return is_running(now, reader.container, pod["metadata"]["uid"])

        return await self._stream(http, "text/plain", reader.lines(running))

    async def _exec(self, http: web.BaseRequest, target: Target) -> web.StreamResponse:
        pod = self._registry.get(PODS, target.namespace, target.name)
        container = http.query.get("container") or pod["spec"]["containers"][0]["name"]
        pid = self._entrance(pod["metadata"]["uid"], container)
        if pid is None:
            what = f'unable to upgrade connection: container not found ("{container}")'
            raise ApiError(500, "InternalError", what)
        command = Entered(pid, http.query.getall("command"), terminal=http.query.get("tty") in ("true", "1"))
        return await executing.serve(http, command)

    async def _stream(self, http: web.BaseRequest, content_type: str, parts: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(http)
        transport = http.transport
        if transport is None:
            return response
        self._watches.add(transport)
        try:
            async for part in parts:
                await response.write(part)
            await response.write_eof()
        except (ConnectionResetError, asyncio.CancelledError):
            pass  # the client went away, or a fault hook cut the line
        finally:
            self._watches.discard(transport)
            await parts.aclose()
        return response


def _json(body: Obj, code: int, headers: Mapping[str, str] | None = None) -> web.Response:
    data = json.dumps(body, separators=(",", ":")).encode()
    return web.Response(body=data, status=code, content_type="application/json", headers=headers)


def _not_served() -> web.Response:
    return web.Response(status=404, text="404 page not found\n")


def _shown(answer: Answer) -> web.Response:
    warnings = ", ".join(f"299 - {json.dumps(warning)}" for warning in answer.warnings)
    return _json(answer.body, answer.code, {"Warning": warnings} if warnings else {})


def _media_type(http: web.BaseRequest) -> str:
    return http.content_type if "Content-Type" in http.headers else "application/json"
