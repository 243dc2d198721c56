"""The software bill of materials of an image: CycloneDX, from what is installed in it and from the lock it was built from."""

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from images.engine import Image
from images.roles import normal

INVENTORY = Path(__file__).with_name("inventory.py")


def make_sbom(image: Image, inventory: Mapping[str, Any], lock: str) -> str:
    """The document. The same image always gives the same one."""
    bom = Bom(components=[*_system(inventory), *_python(inventory["python"], hashes_of(lock))], serial_number=uuid.uuid5(uuid.NAMESPACE_URL, image.identity))
    bom.metadata.timestamp = datetime.fromisoformat(_microseconds(image.created))
    name, _, version = image.name.rpartition(":")
    properties = [Property(name="image:id", value=image.identity), *(Property(name=f"image:label:{key}", value=value) for key, value in image.labels.items())]
    bom.metadata.component = Component(name=name, version=version, type=ComponentType.CONTAINER, properties=properties, bom_ref="image")
    bom.register_dependency(bom.metadata.component, bom.components)
    document: str = JsonV1Dot6(bom).output_as_string(indent=2)
    return document + "\n"


def hashes_of(lock: str) -> dict[str, list[str]]:
    """By name, the hashes that a lock allows."""
    found = re.findall(r"^([^#\s]+)==.*\n((?: +--hash=.*\n)*)", lock, flags=re.MULTILINE)
    return {normal(name): re.findall(r"sha256:(\w+)", lines) for name, lines in found}


def _python(distributions: list[dict[str, str]], hashes: Mapping[str, list[str]]) -> Iterator[Component]:
    for found in distributions:
        allowed = hashes.get(normal(found["name"]), [])
        url = PackageURL("pypi", name=normal(found["name"]), version=found["version"])
        yield Component(
            name=found["name"],
            version=found["version"],
            purl=url,
            bom_ref=str(url),
            licenses=[LicenseFactory().make_from_string(found["licence"])] if found["licence"] else [],
            # With several files to choose from, nobody knows afterwards which one was installed.
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=allowed[0])] if len(allowed) == 1 else [],
        )


def _system(inventory: Mapping[str, Any]) -> Iterator[Component]:
    system = inventory["system"]
    yield Component(name=system["ID"], version=system.get("VERSION_ID"), type=ComponentType.OPERATING_SYSTEM, bom_ref="system")
    yield Component(name="python", version=inventory["interpreter"], type=ComponentType.PLATFORM, bom_ref="interpreter")
    for package in inventory["debian"]:
        qualifiers = {"arch": package["architecture"], "distro": f"{system['ID']}-{system.get('VERSION_ID', '')}"}
        url = PackageURL("deb", namespace=system["ID"], name=package["name"], version=package["version"], qualifiers=qualifiers)
        yield Component(name=package["name"], version=package["version"], purl=url, bom_ref=str(url))


def _microseconds(moment: str) -> str:
    """A time without the nanoseconds that Python cannot read."""
    return re.sub(r"(\.\d{6})\d+", r"\1", moment)


def read_inventory(output: str) -> Mapping[str, Any]:
    """What `inventory.py` printed."""
    found: Mapping[str, Any] = json.loads(output)
    return found
