"""The catalogue that a tuning job is checked with. It may be in a region that pipelines have for open models alone; that makes a row more."""

import hashlib
from pathlib import Path

from tuneline.api.service import Service
from tuneline.catalog import Catalog, load_catalog
from tuneline.catalog_file import read_catalog
from tuneline.storage import Storage

OPEN_MODEL_REGIONS = ("us-central1", "europe-west4", "us-west1", "us-east5", "asia-southeast1")
_ROW = '\n[[region]]\nname = "{name}"\nhosted = true\n'


def catalog_of(service: Service, location: str) -> tuple[Catalog, str]:
    """The catalogue for a job in a region, and the file that lays its rows over the built-in ones; empty when none does."""
    uri = service.settings.catalog
    catalog = read_catalog(uri)
    hosted = location in catalog.regions and catalog.regions[location].hosted
    if hosted or location not in OPEN_MODEL_REGIONS:
        return catalog, uri
    text = (Storage().read_text(uri) if uri else "") + _ROW.format(name=location)
    file = service.settings.home / "catalogs" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.toml"
    if not file.exists():
        Storage().write_text(str(file), text)
    return load_catalog(text, uri), str(Path(file).absolute())
