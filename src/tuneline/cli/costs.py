"""`tuneline costs`: what stands on Vertex AI and costs by the hour, and an end to what has stood long enough."""

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tuneline.cli.table import print_table
from tuneline.errors import InfrastructureError, UserError

if TYPE_CHECKING:
    from tuneline.catalog import Catalog
    from tuneline.vertex.standing import Standing

UNKNOWN = "price not known"


def parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="tuneline costs",
        description="List the models on endpoints and the running custom jobs of a project and region, with what they cost an hour at least.",
        allow_abbrev=False,
    )
    parser.add_argument("--project", metavar="P", required=True, help="project that pays")
    parser.add_argument("--region", metavar="R", required=True, help="region, e.g. us-central1")
    parser.add_argument("--undeploy-expired", action="store_true", help="take models whose undeploy_after_hours are over off their endpoints")
    parser.add_argument("--catalog", metavar="FILE", help="TOML file (path or gs:// URI) with catalogue rows laid over the built-in ones")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    from tuneline.catalog_file import read_catalog
    from tuneline.vertex.rest import Vertex
    from tuneline.vertex.standing import find_standing, undeploy_expired

    catalog = read_catalog(given.catalog or "")
    vertex, now = Vertex(region=given.region), datetime.now(UTC)
    found = find_standing(vertex, given.project, catalog)
    gone, failures = undeploy_expired(vertex, found, now) if given.undeploy_expired else ([], [])
    standing = [each for each in found if each not in gone]
    _tell(standing, gone, catalog, now, as_json=given.json)
    if failures:
        kind = UserError if any(isinstance(failure, UserError) for failure in failures) else InfrastructureError
        error = kind(*(problem for failure in failures for problem in failure.problems), next_action="These models are still there. Try again.")
        error.is_told = given.json
        raise error
    return 0


def _tell(standing: "Sequence[Standing]", gone: "Sequence[Standing]", catalog: "Catalog", now: datetime, *, as_json: bool) -> None:
    known = [each.usd_per_hour for each in standing if each.usd_per_hour is not None]
    dates = sorted({str(row.date) for row in catalog.prices.values() if row.date})
    if as_json:
        rows = [each.to_json() for each in standing]
        print(json.dumps({"standing": rows, "undeployed": [each.to_json() for each in gone], "usdPerHourAtLeast": sum(known), "priceDates": dates}))
        return
    for each in gone:
        print(f"undeployed {each.model} from {each.name}")
    if not standing:
        print("Nothing stands there.")
        return
    print_table([("KIND", "NAME", "ID", "MACHINES", "TRAFFIC", "USD/HOUR", "UNDEPLOY"), *(_row(each, now) for each in standing)])
    unknown = len(standing) - len(known)
    print(f"At least {sum(known):.2f} USD an hour{f'; {UNKNOWN} of {unknown}' if unknown else ''}.")
    print(f"Prices: Compute Engine's on demand, of {' and '.join(dates)}. Vertex AI charges more.")


def _row(standing: "Standing", now: datetime) -> tuple[str, ...]:
    machine = f"{standing.num_machines} x {standing.machine_type or 'chosen by Vertex AI'}{' (spot)' if standing.is_spot else ''}"
    price = UNKNOWN if standing.usd_per_hour is None else f"{standing.usd_per_hour:.2f}"
    traffic = f"{standing.traffic}%" if standing.kind == "endpoint" else ""
    until = f"{standing.expires:%Y-%m-%d %H:%M} UTC{' (over)' if standing.has_expired(now) else ''}" if standing.expires else ""
    return standing.kind, standing.display_name, standing.name.rpartition("/")[2], machine, traffic, price, until
