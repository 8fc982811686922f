"""What is in a deployment zip, for scanners of vulnerabilities and licences: CycloneDX 1.6.

It is read from the zip itself, so it lists what ships and not what was meant to. The same zip gives
the same list: no time, and a serial number made from the content.
"""

from __future__ import annotations

import hashlib
import uuid
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from chalicelib.core.version import VERSION
from infra.platforms import Platform
from infra.wheels import Digests

_NAME, _LICENCE = "market-data-collector", "Apache-2.0"
_REFERENCE = f"{_NAME}@{VERSION}"
_LICENCE_FIELDS = ("License-Expression", "License")
_LICENCE_CLASSIFIER = "License :: "
#: Chalice puts its own modules into each zip, and not what says which version they are.
_COPIED_BY_CHALICE = "chalice"


def of(archive: Path, digests: Digests, platform: Platform) -> dict[str, Any]:
    """The list as JSON. `digests`: SHA-256 of the wheel of each package, by its name."""
    shipped = {_name(each): each for each in distributions(path=[str(archive)])}
    needs = {name: _needs(each, platform) & set(shipped) for name, each in shipped.items()}
    all_needed = set().union(*needs.values())
    shipped[_COPIED_BY_CHALICE], needs[_COPIED_BY_CHALICE] = distribution("chalice"), set()
    purls = {name: f"pkg:pypi/{name}@{each.version}" for name, each in sorted(shipped.items())}
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": _REFERENCE,
                "name": _NAME,
                "version": VERSION,
                "hashes": [{"alg": "SHA-256", "content": digest}],
                "licenses": [{"expression": _LICENCE}],
                "properties": [
                    {"name": "aws:lambda:runtime", "value": platform.runtime},
                    {"name": "aws:lambda:architecture", "value": platform.architecture},
                ],
            }
        },
        "components": [
            _component(shipped[name], purl, digests.get(name)) for name, purl in purls.items()
        ],
        "dependencies": [
            # What nothing else needs, we do.
            {"ref": _REFERENCE, "dependsOn": [purls[n] for n in purls if n not in all_needed]},
            *(
                {"ref": purl, "dependsOn": sorted(purls[need] for need in needs[name])}
                for name, purl in purls.items()
            ),
        ],
    }


def _component(shipped: Distribution, purl: str, digest: str | None) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": shipped.metadata["Name"],
        "version": shipped.version,
        "purl": purl,
        "licenses": _licences(shipped),
    }
    if digest is not None:
        component["hashes"] = [{"alg": "SHA-256", "content": digest}]
    return component


def _licences(shipped: Distribution) -> list[dict[str, Any]]:
    """An SPDX expression if the package has one, else what it calls its licence."""
    metadata = shipped.metadata
    said = next((metadata[key] for key in _LICENCE_FIELDS if key in metadata), "").strip()
    try:
        return [{"expression": str(canonicalize_license_expression(said))}]
    except InvalidLicenseExpression:
        pass
    classified = [
        classifier.rpartition(" :: ")[2]
        for classifier in metadata.get_all("Classifier") or []
        if classifier.startswith(_LICENCE_CLASSIFIER)
    ]
    if said and not classified:
        # Either its name or the whole text.
        name = said.splitlines()[0]
        return [{"license": {"name": name, "text": {"content": said}}}]
    return [{"license": {"name": name}} for name in classified]


def _needs(shipped: Distribution, platform: Platform) -> set[str]:
    """The names of what a package needs on `platform`, without its extras."""
    environment = platform.markers() | {"extra": ""}
    found = [Requirement(text) for text in shipped.requires or []]
    return {
        canonicalize_name(each.name)
        for each in found
        if each.marker is None or each.marker.evaluate(dict(environment))
    }


def _name(shipped: Distribution) -> str:
    return canonicalize_name(shipped.metadata["Name"])
