"""The Kubernetes API, through the official client: plain dicts in and out, and one kind of error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...errors import SchedulerError, UsageError, shorten
from . import kubeconfig

Object = dict[str, Any]

CONNECT_SECONDS, READ_SECONDS = 10, 60
#: Objects in one answer, some 10 MB: a namespace of thousands is a few requests.
PAGE = 2000
#: Kind → its name in the methods of CoreV1Api.
_CORE = {"ConfigMap": "config_map", "Pod": "pod", "Event": "event"}
#: Kind → group, version and plural.
CUSTOM = {
    "PyTorchJob": ("kubeflow.org", "v1", "pytorchjobs"),
    "TrainJob": ("trainer.kubeflow.org", "v1alpha1", "trainjobs"),
    "Workload": ("kueue.x-k8s.io", "v1beta1", "workloads"),
}


class Refused(Exception):  # noqa: N818 - an answer, not a fault of ours
    """The API server's answer was no. `causes`: [{field, message}] of a 422."""

    def __init__(self, code: int, reason: str, message: str, causes: list[dict[str, str]]) -> None:
        self.code, self.reason, self.causes = code, reason, causes
        self.message = message.strip() or f"HTTP {code}"
        super().__init__(self.message)


class UnreachableError(SchedulerError):
    """No answer: nobody knows whether what was asked for was done."""


class Api:
    """One namespace of one cluster."""

    def __init__(self, context: str | None = None, namespace: str | None = None) -> None:
        """context: of the kubeconfig, else its current one; without a kubeconfig the pod's own cluster.

        Raises UsageError where neither is there.
        """
        try:
            from kubernetes import client
        except ImportError as error:
            raise UsageError(f"{error}\n    remedy: pip install 'alignlaunch[k8s]'") from error

        self.context, own, connection = kubeconfig.connect(context)
        self.namespace = namespace or own
        self._core, self._custom = client.CoreV1Api(connection), client.CustomObjectsApi(connection)

    def read(self, kind: str, name: str) -> Object | None:
        """The object; None if there is none."""
        try:
            return self._call("read", kind, name=name)
        except Refused as refused:
            if refused.code == 404 and refused.reason == "NotFound" and name in refused.message:
                return None
            raise

    def find(self, kind: str, **selectors: Any) -> list[Object]:
        """All objects of a kind that the selectors (label_selector, field_selector) choose, page by page."""
        found: list[Object] = []
        token: dict[str, Any] = {}
        while True:
            page = self._call("list", kind, limit=PAGE, **selectors, **token)
            found += page["items"]
            if not page["metadata"].get("continue"):
                return found
            token = {"_continue": page["metadata"]["continue"]}

    def create(self, manifest: Object, *, dry_run: bool = False) -> Object:
        """Store the object, or only have the server look at it. An unknown field is refused."""
        options = {"dry_run": "All"} if dry_run else {}
        return self._call("create", manifest["kind"], body=manifest, field_validation="Strict", **options)

    def patch(self, kind: str, name: str, change: Object) -> Object:
        """Merge `change` into the object."""
        return self._call("patch", kind, name=name, body=change)

    def delete(self, kind: str, name: str) -> None:
        """Delete the object once all that it owns is gone. One that is not there is fine.

        Foreground, so that its name is not free before its pods are: a new job of that name would wait for them.
        """
        try:
            self._call("delete", kind, name=name, propagation_policy="Foreground")
        except Refused as refused:
            if refused.code != 404:
                raise

    def changes(self, kind: str, seconds: int, **selectors: Any) -> Iterator[Object]:
        """The objects as they change, for so many seconds at most; those that are there already come first."""
        response = self._ask("list", kind, watch=True, timeout_seconds=seconds, **selectors)
        for line in self._lines(response, whole=False):
            event = self._parsed(line)
            if event["type"] == "ERROR":
                return  # such as 410, too old a version: whoever wants more asks anew
            yield event["object"]

    def log(self, pod: str, container: str, **options: Any) -> Iterator[str]:
        """Lines of a container's log, each behind its time (RFC 3339, nanoseconds).

        options: follow, previous, since_seconds, tail_lines.
        """
        response = self._ask("read", "Pod", log=True, name=pod, container=container, timestamps=True, **options)
        return self._lines(response, whole=not options.get("follow"))

    def _call(self, verb: str, kind: str, **arguments: Any) -> Object:
        response = self._ask(verb, kind, **arguments)
        with _transport(self.context):
            return self._parsed(response.data)

    def _parsed(self, text: str | bytes) -> Object:
        """An object of the API; a proxy may have put a page of its own in its place."""
        try:
            answer: Object = json.loads(text)
        except ValueError as error:
            raise UnreachableError(
                f"the API server of context {self.context}: its answer is no JSON: {shorten(text)}\n"
                "    remedy: a proxy answers in its place; log in to it, and look at the server's address in kubeconfig"
            ) from error
        return answer

    def _ask(self, verb: str, kind: str, *, log: bool = False, **arguments: Any) -> Any:
        """The open response to one request. Raises Refused, UnreachableError."""
        if kind in CUSTOM:
            group, version, plural = CUSTOM[kind]
            arguments |= {"group": group, "version": version, "plural": plural}
            method = getattr(self._custom, f"{'get' if verb == 'read' else verb}_namespaced_custom_object")
        else:
            method = getattr(self._core, f"{verb}_namespaced_{_CORE[kind]}{'_log' if log else ''}")
        streams = arguments.get("watch") or arguments.get("follow")
        timeout = (CONNECT_SECONDS, arguments.get("timeout_seconds", 3600) + 5 if streams else READ_SECONDS)
        with _transport(self.context):
            response = method(namespace=self.namespace, _preload_content=False, _request_timeout=timeout, **arguments)
            if not 200 <= response.status < 300:
                raise _refused(response.status, response.data)
        return response

    def _lines(self, response: Any, *, whole: bool) -> Iterator[str]:
        """Whole lines as they come. A stream that breaks off ends; of an answer that is due whole UnreachableError."""
        from urllib3.exceptions import HTTPError

        rest = b""
        try:
            for chunk in response.stream(decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line.decode("utf-8", errors="replace") for line in lines)
        except (HTTPError, OSError) as error:
            if whole:
                raise _unreachable(self.context, error) from error
            return  # the next request will tell whether the server is away
        finally:
            response.close()
        if rest:
            yield rest.decode("utf-8", errors="replace")


@contextmanager
def _transport(context: str) -> Iterator[None]:
    """Refused for an answer that is an error, UnreachableError for none."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        if not error.status:
            raise _unreachable(context, error.reason) from error
        raise _refused(error.status, error.body) from error
    except (HTTPError, OSError) as error:
        raise _unreachable(context, error) from error


def _unreachable(context: str, why: object) -> UnreachableError:
    words = str(why).strip().splitlines()[-1]
    return UnreachableError(
        f"the API server of context {context} does not answer: {words}\n"
        f"    remedy: try `kubectl --context {context} get --raw /readyz`; VPN, login, kubeconfig are the usual causes"
    )


def _refused(code: int, body: Any) -> Refused:
    """From a Status object, or from whatever a proxy in between has put in its place."""
    text = body.decode("utf-8", errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        status = json.loads(text)
        details = status.get("details") or {}
        return Refused(code, status.get("reason") or "", status["message"], details.get("causes") or [])
    except (ValueError, KeyError, AttributeError, TypeError):
        return Refused(code, "", text.strip()[:500], [])
