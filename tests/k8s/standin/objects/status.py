"""Refusals of the API server: each is a Status object in the shape and words of the real one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .resources import Obj, Resource


@dataclass(frozen=True)
class Cause:
    """One entry of `details.causes`: a field, what is wrong with it, in words and as a constant."""

    reason: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class ApiError(Exception):
    """A request that the server does not fulfil; `status` is the body of its answer."""

    def __init__(self, code: int, reason: str, message: str, details: Obj | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details or {}

    @property
    def status(self) -> Obj:
        body: Obj = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": str(self)}
        body["reason"] = self.reason
        if self.details:
            body["details"] = self.details
        return {**body, "code": self.code}


def success(resource: Resource, name: str, uid: str) -> Obj:
    """What a delete answers when the object is gone at once."""
    details = {"name": name, **_group(resource), "kind": resource.plural, "uid": uid}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _group(resource: Resource) -> Obj:
    return {"group": resource.group} if resource.group else {}


def _details(resource: Resource, name: str, **more: Any) -> Obj:
    return {"name": name, **_group(resource), "kind": resource.plural, **more}


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(resource: Resource, name: str, why: str, causes: list[Obj] | None = None) -> ApiError:
    more = {"causes": causes} if causes else {}
    subject = f'{resource.qualified} "{name}"' if name else resource.qualified
    return ApiError(403, "Forbidden", f"{subject} is forbidden: {why}", _details(resource, name, **more))


def denied(webhook: str, why: str) -> ApiError:
    """An admission webhook said no: a Status without details."""
    return ApiError(403, "Forbidden", f'admission webhook "{webhook}" denied the request: {why}')


def webhook_down(webhook: str, url: str) -> ApiError:
    """failurePolicy Fail: nobody answers, so nothing is admitted."""
    why = f'failed calling webhook "{webhook}": failed to call webhook: Post "{url}": '
    why += "dial tcp 10.96.0.10:443: connect: connection refused"
    return ApiError(500, "InternalError", f"Internal error occurred: {why}", {"causes": [{"message": why}]})


def not_found(resource: Resource, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{resource.qualified} "{name}" not found', _details(resource, name))


def no_such_method(method: str) -> ApiError:
    return ApiError(405, "MethodNotAllowed", f"{method} is not supported on this resource")


def already_exists(resource: Resource, name: str, *, terminating: bool) -> ApiError:
    prefix = "object is being deleted: " if terminating else ""
    message = f'{prefix}{resource.qualified} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _details(resource, name))


def conflict(resource: Resource, name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(resource, name))


def stale(resource: Resource, name: str) -> ApiError:
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(resource, name, why)


def expired(asked: int, oldest: int) -> ApiError:
    return ApiError(410, "Expired", f"too old resource version: {asked} ({oldest})")


def continue_expired() -> ApiError:
    why = "The provided continue parameter is too old to display a consistent list result. You can start a new list "
    return ApiError(410, "Expired", f"{why}without the continue parameter.")


def unsupported_media_type(given: str, accepted: list[str]) -> ApiError:
    message = "the body of the request was in an unknown format - accepted media types include: " + ", ".join(accepted)
    return ApiError(415, "UnsupportedMediaType", f"{message} (got {given})")


def invalid(resource: Resource, name: str, causes: list[Cause]) -> ApiError:
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    told = ", ".join(map(str, causes))
    listed = [{"reason": c.reason, "message": c.message, "field": c.field} for c in causes]
    details = {"name": name, **_group(resource), "kind": resource.kind, "causes": listed}
    message = f'{kind} "{name}" is invalid: {told if len(causes) == 1 else f"[{told}]"}'
    return ApiError(422, "Invalid", message, details)


def unavailable(code: int, message: str) -> ApiError:
    reasons = {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}
    return ApiError(code, reasons[code], message, {"retryAfterSeconds": 1})
