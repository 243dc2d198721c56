"""Every error that Tuneline raises on purpose, with the exit code that the command line gives it.

    TunelineError
    ├── UserError               1   the user's data or values
    │   ├── ParameterError          a pipeline parameter
    │   ├── DatasetError            a data file
    │   ├── CatalogError            a row of a catalogue file
    │   ├── TemplateError           a compiled template that cannot be found, read or run here
    │   ├── ModelError              a base model or checkpoint that cannot be used
    │   └── NotFoundError           a run, model or endpoint that does not exist
    ├── UsageError              2   an unknown flag, parameter or command
    ├── InfrastructureError    13   a disk, network or service failed; safe to try again
    │   └── CapacityError           a quota is used up or a machine is not to be had; another place or time may do
    └── Interrupted            75   stopped by SIGTERM (75) or Ctrl-C (130); the run can be resumed

An exception of another class is a bug of ours and ends with 70.
"""

import difflib
from collections.abc import Iterable


class TunelineError(Exception):
    """The root. `problems` holds every finding, one line each."""

    exit_code = 70
    attribution = "internal"
    is_told = False
    """Whether standard output has it already, for a program that reads that."""

    def __init__(self, *problems: str, next_action: str = "") -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.next_action = next_action


class UserError(TunelineError):
    """Something the user can mend."""

    exit_code = 1
    attribution = "user"


class ParameterError(UserError):
    """A pipeline parameter has a value that cannot be used."""


class DatasetError(UserError):
    """A data file cannot be used."""


class CatalogError(UserError):
    """A catalogue row is unknown, doubled or dangling."""


class TemplateError(UserError):
    """A compiled template cannot be found, read or run here."""


class ModelError(UserError):
    """A base model or checkpoint cannot be used."""


class NotFoundError(UserError):
    """A run, model or endpoint does not exist."""


class UsageError(UserError):
    """An unknown flag, parameter or command."""

    exit_code = 2


class InfrastructureError(TunelineError):
    """A disk, network or service failed; the same call may succeed later."""

    exit_code = 13
    attribution = "infrastructure"


class CapacityError(InfrastructureError):
    """A quota is used up, or there is no machine of the kind; another region, machine or time may do."""

    attribution = "capacity"


class Interrupted(TunelineError):
    """The work was stopped from outside and can be resumed."""

    exit_code = 75
    attribution = "user"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
