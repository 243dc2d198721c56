"""Role -> image reference at this version. No registry host: `tuneline.templates.with_image_registry` puts one in front."""

from tuneline import __version__

BASE = f"tuneline/base:{__version__}"
TUNER = f"tuneline/tuner-gpu:{__version__}"
PREDICTOR = f"tuneline/predictor:{__version__}"
