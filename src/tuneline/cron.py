"""Cron expressions with a time zone, as Vertex schedules have them: `TZ=Europe/Berlin 0 3 * * 1`. Pure."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from tuneline.errors import UserError

_ZONE = re.compile(r"(?:CRON_)?TZ=(\S+)\s+(.*)", re.DOTALL)
_ANY_TIME = re.compile(r"(?<![a-z])[hr](?![a-z])", re.IGNORECASE)
"""croniter's own fields for "some time or other": R is another one each time, H needs a name."""
EXPECTED = "expected five fields such as '0 3 * * 1', with 'TZ=Europe/Berlin ' before them for another zone than UTC"


@dataclass(frozen=True)
class Cron:
    """When something is to happen."""

    fields: str
    zone: ZoneInfo
    has_zone: bool
    """Whether the expression names its zone."""

    @classmethod
    def parse(cls, text: str) -> "Cron":
        """The expression; a UserError tells what is wrong with it."""
        try:
            from croniter import CroniterBadCronError, CroniterBadDateError
        except ModuleNotFoundError:
            raise UserError("cron: to read it takes the package croniter, which is not installed: pip install 'tuneline[vertex]'.") from None
        match = _ZONE.fullmatch(text.strip())
        name, fields = match.groups() if match else ("UTC", text.strip())
        try:
            zone = ZoneInfo(name)
        except (KeyError, OSError, ValueError):  # no such zone, or a path out of the database
            raise UserError(f"cron: found the time zone {name!r}; expected one of the IANA database, such as Europe/Berlin.") from None
        if len(fields.split()) != 5 or _ANY_TIME.search(fields):
            raise UserError(f"cron: found {text!r}; {EXPECTED}.")
        cron = cls(fields, zone, has_zone=match is not None)
        try:
            cron.after(datetime.now(UTC))
        except (CroniterBadCronError, CroniterBadDateError, ValueError) as error:
            raise UserError(f"cron: found {text!r} ({error}); {EXPECTED}.") from None
        return cron

    def after(self, moment: datetime) -> datetime:
        """The first time after `moment`, in UTC. A fixed hour that a clock change repeats counts once, one that it skips comes at its end."""
        from croniter import croniter

        times = croniter(self.fields, moment.astimezone(self.zone))
        local: datetime = times.get_next(datetime)
        while local.fold and "*" not in self.fields.split()[1]:
            local = times.get_next(datetime)
        return local.astimezone(UTC)
