"""The server's certificate, and kubeconfig files that trust it."""

from __future__ import annotations

import base64
import ssl
import subprocess
from pathlib import Path

import yaml


def make_certificate(folder: Path) -> ssl.SSLContext:
    """A self-signed certificate for 127.0.0.1, in `folder`/tls.crt with its key beside it."""
    certificate, key = folder / "tls.crt", folder / "tls.key"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    about = ["-days", "2", "-subj", "/CN=stand-in", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*new, *about, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def with_token(kubeconfig: Path, token: str) -> Path:
    """A copy beside it whose current user has this token and no other credentials."""
    settings = yaml.safe_load(kubeconfig.read_text())
    context = next(one["context"] for one in settings["contexts"] if one["name"] == settings["current-context"])
    next(one for one in settings["users"] if one["name"] == context["user"])["user"] = {"token": token}
    path = kubeconfig.with_name(f"restricted-{kubeconfig.name}")
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(settings))
    return path


def in_namespace(kubeconfig: Path, namespace: str, folder: Path) -> Path:
    """A copy in `folder` whose current context is in the namespace."""
    settings = yaml.safe_load(kubeconfig.read_text())
    context = next(one["context"] for one in settings["contexts"] if one["name"] == settings["current-context"])
    context["namespace"] = namespace
    path = folder / f"{namespace}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(settings))
    return path


def write_kubeconfig(path: Path, *, port: int, certificate: Path, token: str) -> Path:
    """One cluster, one user, one context, all named `stand-in`."""
    authority = base64.b64encode(certificate.read_bytes()).decode()
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": authority}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "stand-in", "cluster": cluster}],
        "users": [{"name": "stand-in", "user": {"token": token}}],
        "contexts": [{"name": "stand-in", "context": {"cluster": "stand-in", "user": "stand-in"}}],
        "current-context": "stand-in",
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return path
