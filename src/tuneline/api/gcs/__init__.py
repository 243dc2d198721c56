"""Cloud Storage's JSON API over a local folder, so that `gs://` works for every client through STORAGE_EMULATOR_HOST.

`Buckets` is the storage layer: pure file work. `create_router` puts it behind HTTP.
"""

from tuneline.api.gcs.buckets import Buckets
from tuneline.api.gcs.routes import create_router, router_of

__all__ = ["Buckets", "create_router", "router_of"]
