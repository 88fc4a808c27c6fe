"""Lists in pages, and the events of a watch."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Mapping

from tests.k8s.standin.objects import status
from tests.k8s.standin.objects.resources import Obj
from tests.k8s.standin.objects.selectors import Test, by_fields, by_labels
from tests.k8s.standin.objects.status import ApiError

from .routes import Target
from .storage import Change, Store

BOOKMARK_INTERVAL_S = 5.0


def selected(target: Target, query: Mapping[str, str]) -> Test:
    """The test of a query's selectors and of the URL's namespace."""
    labels = by_labels(query.get("labelSelector", ""))
    fields = by_fields(target.resource, query.get("fieldSelector", ""))
    if target.namespace:
        return lambda obj: obj["metadata"].get("namespace") == target.namespace and labels(obj) and fields(obj)
    return lambda obj: labels(obj) and fields(obj)


def listed(store: Store, target: Target, query: Mapping[str, str]) -> Obj:
    """A List object: one page where `limit` says so, all of whose pages show the same moment."""
    token, limit = query.get("continue", ""), int(query.get("limit") or 0)
    if token:
        start, version = _parse_token(token)
        objects = store.remembered(target.resource, version)
    else:
        test = selected(target, query)
        with store.lock:
            start, version = 0, store.version
            objects = [obj for obj in store.all(target.resource, target.namespace) if test(obj)]
    page = objects[start : start + limit] if limit else objects[start:]
    left = len(objects) - start - len(page)
    metadata: Obj = {"resourceVersion": str(version)}
    if left:
        if not token:
            store.remember(target.resource, version, objects)
        metadata["continue"] = base64.urlsafe_b64encode(json.dumps([start + len(page), version]).encode()).decode()
        if not query.get("labelSelector") and not query.get("fieldSelector"):
            metadata["remainingItemCount"] = left
    resource = target.resource
    return {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata, "items": page}


def _parse_token(token: str) -> tuple[int, int]:
    try:
        start, version = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        raise status.bad_request("continue key is not valid") from None
    return start, version


async def watched(store: Store, target: Target, query: Mapping[str, str]) -> AsyncIterator[Obj]:
    """The events of a watch until its time is up; an ERROR event where its version is too old."""
    test = selected(target, query)
    changes: asyncio.Queue[Change] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def listener(change: Change) -> None:
        if change.resource is target.resource:
            loop.call_soon_threadsafe(changes.put_nowait, change)

    try:
        with store.lock:
            asked = int(query.get("resourceVersion") or 0)
            missed = [c for c in store.changes(asked) if c.resource is target.resource] if asked else []
            present = [] if asked else [obj for obj in store.all(target.resource, target.namespace) if test(obj)]
            seen = store.version
            store.listen(listener)
    except ApiError as gone:
        yield {"type": "ERROR", "object": gone.status}
        return
    try:
        for obj in present:
            yield {"type": "ADDED", "object": obj}
        for change in missed:
            if event := _event(change, test):
                yield event
        async for event in _live(changes, test, target, query, seen):
            yield event
    finally:
        store.unlisten(listener)


async def _live(
    changes: asyncio.Queue[Change], test: Test, target: Target, query: Mapping[str, str], seen: int
) -> AsyncIterator[Obj]:
    deadline = time.monotonic() + float(query.get("timeoutSeconds") or 3600)
    bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
    while (left := deadline - time.monotonic()) > 0:
        try:
            change = await asyncio.wait_for(changes.get(), min(left, BOOKMARK_INTERVAL_S))
        except TimeoutError:
            if bookmarks:
                yield _bookmark(target, seen)
            continue
        seen = change.version
        if event := _event(change, test):
            yield event


def _bookmark(target: Target, version: int) -> Obj:
    resource, metadata = target.resource, {"resourceVersion": str(version), "creationTimestamp": None}
    return {
        "type": "BOOKMARK",
        "object": {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata},
    }


def _event(change: Change, test: Test) -> Obj | None:
    """What a watcher with this selector sees of a change: an object that no longer matches is gone."""
    matched = change.previous is not None and test(change.previous)
    matches = change.type != "DELETED" and test(change.obj)
    if matches:
        return {"type": "MODIFIED" if matched else "ADDED", "object": change.obj}
    return {"type": "DELETED", "object": change.obj} if matched else None
