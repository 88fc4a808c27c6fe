"""The container of a profile, from the options of pyxis and apptainer."""

from __future__ import annotations

from .found import Found, Given


def translate(found: Found, given: Given) -> None:
    """One option; `image` is the word that apptainer takes for it."""
    name = given.name.removeprefix("#SBATCH ").lstrip("-")
    if name in ("image", "container-image"):
        found.profile("container.runtime", "apptainer" if name == "image" else "pyxis", given)
        found.profile("container.image", str(given.value), given)
    elif name in ("bind", "B", "container-mounts", "mount"):
        for mount in str(given.value).split(","):
            found.add("container.mounts", mount, given, profile=True)
    elif name == "nv":
        found.drop(given, "alignlaunch passes it")
    else:
        found.refuse(given, "an option of the container's runtime that a profile does not have")
