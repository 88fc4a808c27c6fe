"""The values that Kubernetes accepts in the keys of `k8s`: names, labels, images, quantities, paths."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

DnsLabel = Annotated[
    str,
    Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z", description="lower-case letters, digits and `-`"),
]
DnsName = Annotated[
    str,
    Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z", description="lower-case letters, digits, `-` and `.`"),
]
ImageName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,499}\Z",
        description="an image as a registry names it: REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST",
        examples=["registry.example.org/alignlaunch@sha256:..."],
    ),
]
ResourceName = Annotated[
    str,
    Meta(
        pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\Z",
        description="a resource as nodes offer it, VENDOR/NAME",
        examples=["nvidia.com/gpu"],
    ),
]
Quantity = (
    Annotated[int, Meta(ge=1)]
    | Annotated[
        str,
        Meta(
            pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?\Z",
            description="a quantity of Kubernetes: 8, 500m, 64Gi",
        ),
    ]
)
LabelKey = Annotated[
    str,
    Meta(
        pattern=r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z",
        description="a key of a label or annotation, [PREFIX/]NAME",
    ),
]
LabelValue = Annotated[
    str,
    Meta(
        pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?\Z",
        description="at most 63 letters, digits, `-`, `_` and `.`; begins and ends with a letter or digit",
    ),
]
AbsolutePath = Annotated[
    str, Meta(pattern=r"^/[^:]*\Z", description="an absolute path without `:`", examples=["/shared/project"])
]
SubPath = Annotated[
    str, Meta(pattern=r"^(?!/)(?!(.*/)?\.\.(/|\Z)).+\Z", description="a relative path without `..`", examples=["align"])
]
Seconds = Annotated[int, Meta(ge=0, le=2**31 - 1)]
UserId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
