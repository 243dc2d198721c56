"""The names in an address, `projects/P/locations/L/models/M`: what each part may be."""

import re
from collections.abc import Mapping

from tuneline.api.faults import invalid

PATTERN = r"^(?!\.{1,2}$)[^/\x00-\x1f\x7f]{1,512}$"
"""As the OpenAPI document has it. Names are wide open, because a deployed model may be asked for by its display name."""
WITH_SLASHES = ("model", "resource", "route")
"""Path parameters that are the rest of the address."""
_NAME = re.compile(PATTERN)


def is_name(text: str) -> bool:
    """Whether a part of an address may be this."""
    return _NAME.fullmatch(text) is not None


def check_names(parameters: Mapping[str, str]) -> None:
    """Refuse an address with a part that no resource is called: control characters, `.` and `..`."""
    wrong = [(key, value) for key, value in parameters.items() if key not in WITH_SLASHES and not is_name(value)]
    if wrong:
        raise invalid(
            *(f"{key}: found {value[:200]!r} in the address; expected up to 512 characters, none of them a control character." for key, value in wrong)
        )
