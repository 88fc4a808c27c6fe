"""Kubeconfigs and answers that are not what they should be: words, never a traceback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignlaunch.launchers.backends.k8s.client import Api, UnreachableError
from alignlaunch.launchers.errors import UsageError
from tests.conftest import Cli
from tests.support.hostile import as_yaml
from tests.support.manifests import KEYS

LOGIN = b"<html>\nlog in\n</html>\n"


class LoginPage(BaseHTTPRequestHandler):
    """What a proxy in front of the API server answers to whoever it does not know."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(LOGIN)))
        self.end_headers()
        self.wfile.write(LOGIN)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), LoginPage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def kubeconfig(server: str = "http://127.0.0.1:9", **keys: Any) -> dict[str, Any]:
    """One context, named prod; none is current."""
    context = {"cluster": "a", "user": "a", "namespace": "lab"}
    return {
        "clusters": [{"name": "a", "cluster": {"server": server}}],
        "users": [{"name": "a", "user": {"token": "t"}}],
        "contexts": [{"name": "prod", "context": context}],
        **keys,
    }


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a text or a map the kubeconfig of this process."""

    def write(content: Any) -> Path:
        path = tmp_path / "kubeconfig"
        path.write_bytes(content if isinstance(content, bytes) else yaml.safe_dump(content).encode())
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
        return path

    return write


@pytest.mark.parametrize(
    "content",
    [b"a: [", b"\xff\xfe\x00", b"hello", b"- a", b"", b"contexts: 3", b"contexts: [{name: prod}]", b"contexts: []"],
    ids=str,
)
def test_a_kubeconfig_that_is_none(use: Any, content: bytes) -> None:
    use(content)
    with pytest.raises(UsageError, match="no kubeconfig that can be read"):
        Api("prod")


def test_a_kubeconfig_with_half_a_context(use: Any) -> None:
    use(kubeconfig(clusters=[]))
    with pytest.raises(UsageError, match="context prod: "):
        Api("prod")


@pytest.mark.parametrize("current", [{}, {"current-context": ""}], ids=str)
def test_a_context_can_be_named_where_none_is_current(use: Any, current: dict[str, str]) -> None:
    use(kubeconfig(**current))
    assert (Api("prod").context, Api("prod").namespace, Api("prod", "mine").namespace) == ("prod", "lab", "mine")
    with pytest.raises(UsageError, match="no context is chosen\n    remedy: --context with one of prod"):
        Api()
    use(kubeconfig(**{"current-context": "prod"}))
    assert Api().namespace == "lab"


def test_a_login_page_in_place_of_an_answer(use: Any, proxy: str) -> None:
    use(kubeconfig(proxy))
    api = Api("prod")
    for ask in (lambda: api.read("Pod", "a"), lambda: api.find("Pod"), lambda: list(api.changes("Pod", 1))):
        with pytest.raises(UnreachableError, match=r"context prod: its answer is no JSON: b?'<html>"):
            ask()


def test_a_dry_run_in_a_pod_without_a_service_account(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(as_yaml({**KEYS, "model": "/out/model"}))
    pod = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "9", "KUBECONFIG": "/nowhere"}
    done = cli("k8s", "job.yaml", "--dry-run", **pod)
    assert done.returncode == 0, done.stderr
    assert "no cluster here (no kubeconfig, and no service account in this pod" in done.stderr
