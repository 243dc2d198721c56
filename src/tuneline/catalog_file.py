"""The catalogue with the rows of a user's file laid over the built-in ones."""

from tuneline.catalog import Catalog, load_catalog
from tuneline.storage import Storage


def read_catalog(uri: str) -> Catalog:
    """The catalogue with the file at a path or gs:// URI; the built-in one when that is empty. Raises UserError."""
    return load_catalog(Storage().read_text(uri), uri) if uri else load_catalog()
