"""The bill of materials: what is in an image, in CycloneDX."""

import json
import subprocess
import sys
from importlib.metadata import version

from cyclonedx.model.bom import Bom

from images.engine import Image
from images.sbom import INVENTORY, hashes_of, make_sbom, read_inventory

IMAGE = Image(
    name="docker.io/tuneline/base:0.1.0",
    identity="sha256:0123",
    size_bytes=1,
    num_layers=1,
    created="1980-01-01T00:00:00.123456789Z",
    labels={"org.opencontainers.image.version": "0.1.0"},
)
INVENTORY_OF_IMAGE = {
    "python": [
        {"name": "One_Package", "version": "1.0", "licence": "Apache-2.0 OR MIT"},
        {"name": "torch", "version": "2.13.0+cpu", "licence": "some licence of its own"},
        {"name": "tuneline", "version": "0.1.0", "licence": ""},
    ],
    "debian": [{"name": "libc6", "version": "2.36-9", "architecture": "amd64"}],
    "interpreter": "3.11.9",
    "system": {"ID": "debian", "VERSION_ID": "12"},
}
LOCK = f"# head\none-package==1.0 \\\n    --hash=sha256:{'a' * 64}\ntorch==2.13.0+cpu \\\n    --hash=sha256:{'b' * 64} \\\n    --hash=sha256:{'c' * 64}\n"


def test_the_document_says_what_is_in_the_image() -> None:
    text = make_sbom(IMAGE, INVENTORY_OF_IMAGE, LOCK)
    document = json.loads(text)
    components = {component["name"]: component for component in document["components"]}
    assert components["One_Package"]["purl"] == "pkg:pypi/one-package@1.0"
    assert components["One_Package"]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert components["One_Package"]["licenses"] == [{"expression": "Apache-2.0 OR MIT"}]
    assert "hashes" not in components["torch"], "one of two files, and nobody knows which"
    assert "licenses" not in components["tuneline"]
    assert components["libc6"]["purl"] == "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12"
    assert components["python"]["version"] == "3.11.9"
    subject = document["metadata"]["component"]
    assert (subject["name"], subject["version"], subject["type"]) == ("docker.io/tuneline/base", "0.1.0", "container")
    properties = {one["name"]: one["value"] for one in subject["properties"]}
    assert properties == {"image:id": "sha256:0123", "image:label:org.opencontainers.image.version": "0.1.0"}
    assert len(Bom.from_json(document).components) == len(document["components"])  # type: ignore[attr-defined]


def test_the_same_image_gives_the_same_document() -> None:
    assert make_sbom(IMAGE, INVENTORY_OF_IMAGE, LOCK) == make_sbom(IMAGE, INVENTORY_OF_IMAGE, LOCK)


def test_the_hashes_of_a_lock() -> None:
    assert hashes_of(LOCK) == {"one-package": ["a" * 64], "torch": ["b" * 64, "c" * 64]}


def test_the_inventory_tells_what_is_installed() -> None:
    done = subprocess.run([sys.executable, "-c", INVENTORY.read_text(encoding="utf-8")], capture_output=True, text=True, check=True)
    inventory = read_inventory(done.stdout)
    found = {(one["name"], one["version"]): one["licence"] for one in inventory["python"]}
    assert found["orjson", version("orjson")]
    assert "MIT" in found["pytest", version("pytest")]
    assert all(len(one["licence"]) < 300 for one in inventory["python"])
    assert inventory["interpreter"] == ".".join(map(str, sys.version_info[:3]))
    assert inventory["system"]["ID"]
