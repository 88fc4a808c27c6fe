"""A pod's volumes as folders of this machine."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

from tests.k8s.standin.api.storage import Store
from tests.k8s.standin.objects.resources import CONFIG_MAPS, SECRETS, Obj

from .sandbox import Mount


class MountError(Exception):
    """A volume cannot be set up yet; the message is that of the FailedMount event."""


class Volumes:
    """The volumes of one pod. `claims`: where the folders of persistent volume claims lie."""

    def __init__(self, store: Store, pod: Obj, folder: Path, claims: Path) -> None:
        self._store = store
        self._pod = pod
        self._namespace = pod["metadata"]["namespace"]
        self._folder = folder
        self._claims = claims
        self._group = pod["spec"]["securityContext"].get("fsGroup")
        self._sources: dict[str, Mount] = {}

    def set_up(self) -> None:
        """Make every volume; MountError where one cannot be made."""
        for volume in self._pod["spec"].get("volumes") or []:
            try:
                self._sources[volume["name"]] = self._source(volume)
            except MountError as why:
                message = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {why}'
                raise MountError(message) from None

    def mounts(self, container: Obj) -> Iterator[Mount]:
        """In the order of their paths, so that one may lie in another."""
        for mount in sorted(container.get("volumeMounts") or [], key=lambda one: str(one["mountPath"])):
            source = self._sources[mount["name"]]
            folder, path = source.source, mount["mountPath"]
            if folder is not None and mount.get("subPath"):
                folder = folder / mount["subPath"]
                if not folder.exists():
                    folder.mkdir(parents=True)
                    self._open_up(folder)
            yield Mount(path, folder, read_only=source.read_only or bool(mount.get("readOnly")), size=source.size)

    def _source(self, volume: Obj) -> Mount:
        name = volume["name"]
        kind = next(key for key in volume if key != "name")
        source = volume[kind]
        makers = {
            "configMap": lambda: self._files(name, self._config_map(source), source),
            "secret": lambda: self._files(name, self._secret(source), source),
            "emptyDir": lambda: self._empty(name, source or {}),
            "hostPath": lambda: self._host_path(source),
            "persistentVolumeClaim": lambda: self._claim(source),
            "projected": lambda: self._projected(name, source),
        }
        if kind not in makers:
            raise MountError(f"mount failed: exit status 32\nMounting arguments: -t {kind}")
        return makers[kind]()

    def _config_map(self, source: Obj) -> dict[str, bytes]:
        found = self._store.get(CONFIG_MAPS, self._namespace, source["name"])
        if found is None:
            if source.get("optional"):
                return {}
            raise MountError(f'configmap "{source["name"]}" not found')
        binary = {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}
        return self._picked({key: value.encode() for key, value in (found.get("data") or {}).items()} | binary, source)

    def _secret(self, source: Obj) -> dict[str, bytes]:
        name = source.get("secretName") or source.get("name")
        found = self._store.get(SECRETS, self._namespace, str(name))
        if found is None:
            if source.get("optional"):
                return {}
            raise MountError(f'secret "{name}" not found')
        data = {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}
        return self._picked(data, source)

    def _picked(self, data: dict[str, bytes], source: Obj) -> dict[str, bytes]:
        if not source.get("items"):
            return data
        missing = [item["key"] for item in source["items"] if item["key"] not in data]
        if missing and not source.get("optional"):
            raise MountError(f"references non-existent config key: {missing[0]}")
        return {item["path"]: data[item["key"]] for item in source["items"] if item["key"] in data}

    def _projected(self, name: str, source: Obj) -> Mount:
        files: dict[str, bytes] = {}
        for part in source["sources"]:
            files |= self._config_map(part["configMap"]) if "configMap" in part else {}
            files |= self._secret(part["secret"]) if "secret" in part else {}
        return self._files(name, files, source)

    def _files(self, name: str, files: dict[str, bytes], source: Obj) -> Mount:
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        for path, data in files.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            file.chmod(source.get("defaultMode", 0o644) | (0o040 if self._group else 0))
            if self._group:
                os.chown(file, 0, self._group)
        return Mount("", folder, read_only=True)

    def _empty(self, name: str, source: Obj) -> Mount:
        if source.get("medium") == "Memory":
            size = source.get("sizeLimit", "")
            return Mount("", None, size=str(size).removesuffix("i").lower())
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        self._open_up(folder)
        return Mount("", folder)

    def _host_path(self, source: Obj) -> Mount:
        path, kind = Path(source["path"]), source.get("type") or ""
        if kind == "DirectoryOrCreate":
            path.mkdir(parents=True, exist_ok=True)
        if kind == "Directory" and not path.is_dir():
            raise MountError(f"hostPath type check failed: {path} is not a directory")
        if not path.exists():
            path.mkdir(parents=True)
        return Mount("", path)

    def _claim(self, source: Obj) -> Mount:
        folder = self._claims / self._namespace / source["claimName"]
        folder.mkdir(parents=True, exist_ok=True)
        self._open_up(folder)
        return Mount("", folder, read_only=bool(source.get("readOnly")))

    def _open_up(self, folder: Path) -> None:
        """Whoever the container runs as may write: by fsGroup if there is one, as provisioners do if not."""
        if self._group:
            os.chown(folder, -1, self._group)
            folder.chmod(0o2775)
        else:
            folder.chmod(0o777)
