"""The Kubernetes API through the official client: plain dicts in and out; errors are Refused and UnreachableError."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...errors import SchedulerError, UsageError, shorten
from . import kubeconfig

Object = dict[str, Any]

CONNECT_SECONDS, READ_SECONDS = 10, 60
#: Objects in one page of a list, some 10 MB: thousands of objects take a few requests.
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
    """The API server answered with an error. causes: [{field, message}] of a 422."""

    def __init__(self, code: int, reason: str, message: str, causes: list[dict[str, str]]) -> None:
        self.code, self.reason, self.causes = code, reason, causes
        self.message = message.strip() or f"HTTP {code}"
        super().__init__(self.message)


class UnreachableError(SchedulerError):
    """The API server did not answer. The request may or may not have been carried out."""


class Api:
    """One namespace of one cluster."""

    def __init__(self, context: str | None = None, namespace: str | None = None) -> None:
        """context: of the kubeconfig. Default: its current one; without a kubeconfig the cluster of the pod we run in.

        Raises UsageError if there is neither.
        """
        try:
            from kubernetes import client
        except ImportError as error:
            raise UsageError(f"{error}\n    remedy: pip install 'alignlaunch[k8s]'") from error

        self.context, default, connection = kubeconfig.connect(context)
        self.namespace = namespace or default
        self._core, self._custom = client.CoreV1Api(connection), client.CustomObjectsApi(connection)
        self._rights = client.AuthorizationV1Api(connection)

    def read(self, kind: str, name: str) -> Object | None:
        """The object; None if there is none."""
        try:
            return self._call("read", kind, name=name)
        except Refused as refused:
            if refused.code == 404 and refused.reason == "NotFound" and name in refused.message:
                return None
            raise

    def find(self, kind: str, **selectors: Any) -> list[Object]:
        """All objects of a kind that match the selectors (label_selector, field_selector). Reads them page by page."""
        found: list[Object] = []
        token: dict[str, Any] = {}
        while True:
            page = self._call("list", kind, limit=PAGE, **selectors, **token)
            found += page["items"]
            if not page["metadata"].get("continue"):
                return found
            token = {"_continue": page["metadata"]["continue"]}

    def create(self, manifest: Object, *, dry_run: bool = False) -> Object:
        """Create the object, or with dry_run have the server only validate it. It refuses unknown fields."""
        options = {"dry_run": "All"} if dry_run else {}
        return self._call("create", manifest["kind"], body=manifest, field_validation="Strict", **options)

    def patch(self, kind: str, name: str, change: Object) -> Object:
        """Merge `change` into the object."""
        return self._call("patch", kind, name=name, body=change)

    def delete(self, kind: str, name: str) -> None:
        """Delete the object after all that it owns. No error if it does not exist.

        Foreground deletion: otherwise a new job could take the name while the pods of that name still exist, and would
        wait for them.
        """
        try:
            self._call("delete", kind, name=name, propagation_policy="Foreground")
        except Refused as refused:
            if refused.code != 404:
                raise

    def changes(self, kind: str, seconds: int, **selectors: Any) -> Iterator[Object]:
        """Watch: the matching objects as they are, then each on every change, for `seconds` at most."""
        response = self._ask("list", kind, watch=True, timeout_seconds=seconds, **selectors)
        for line in self._lines(response, whole=False):
            event = self._parsed(line)
            if event["type"] == "ERROR":
                return  # such as 410 (resource version too old): the caller starts a new watch
            yield event["object"]

    def log(self, pod: str, container: str, **options: Any) -> Iterator[str]:
        """Lines of a container's log, each after its time stamp (RFC 3339, nanoseconds).

        options: follow, previous, since_seconds, tail_lines.
        """
        response = self._ask("read", "Pod", log=True, name=pod, container=container, timestamps=True, **options)
        return self._lines(response, whole=not options.get("follow"))

    def may(self, verb: str, resource: str, subresource: str) -> bool:
        """Whether the user has this right on the core API's resource in the namespace, as far as the server says."""
        about = {"namespace": self.namespace, "verb": verb, "resource": resource, "subresource": subresource}
        review: Any = {"spec": {"resourceAttributes": about}}
        with _transport(self.context):
            answer: Any = self._rights.create_self_subject_access_review(review)
        return bool(answer.status.allowed)

    def _call(self, verb: str, kind: str, **arguments: Any) -> Object:
        response = self._ask(verb, kind, **arguments)
        with _transport(self.context):
            return self._parsed(response.data)

    def _parsed(self, text: str | bytes) -> Object:
        """The object in an answer. Raises UnreachableError if it is no JSON, such as a proxy's login page."""
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
        """Lines as they arrive. If the connection breaks: with `whole` UnreachableError, else the lines just end."""
        from urllib3.exceptions import HTTPError

        rest = b""
        try:
            for chunk in response.stream(decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line.decode("utf-8", errors="replace") for line in lines)
        except (HTTPError, OSError) as error:
            if whole:
                raise _unreachable(self.context, error) from error
            return  # the caller's next request shows whether the server is reachable
        finally:
            response.close()
        if rest:
            yield rest.decode("utf-8", errors="replace")


@contextmanager
def _transport(context: str) -> Iterator[None]:
    """Turn the client's exceptions into Refused (an error answer) or UnreachableError (no answer)."""
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
    """The error from a Status object, or from the plain text or HTML of a proxy in between."""
    text = body.decode("utf-8", errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        status = json.loads(text)
        details = status.get("details") or {}
        return Refused(code, status.get("reason") or "", status["message"], details.get("causes") or [])
    except (ValueError, KeyError, AttributeError, TypeError):
        return Refused(code, "", text.strip()[:500], [])
