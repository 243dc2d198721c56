"""`tuneline endpoints`: the models that answer on this machine."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from tuneline.cli.table import print_table
from tuneline.errors import UsageError

if TYPE_CHECKING:
    from tuneline.registry.endpoints import Endpoint


def parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(prog="tuneline endpoints", description="List, deploy and undeploy endpoints.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="list the endpoints, running or not", allow_abbrev=False)
    listing.add_argument("--json", action="store_true", help="print one JSON object")
    deploy = commands.add_parser("deploy", help="start the endpoint of a registered model", allow_abbrev=False)
    deploy.add_argument("model", metavar="MODEL", help="a name that `tuneline models show` knows")
    deploy.add_argument("--idle-timeout", type=int, metavar="SECONDS", help="end after so long without a request; 0 for never (default: 1800)")
    deploy.add_argument("--json", action="store_true", help="print one JSON object")
    undeploy = commands.add_parser("undeploy", help="stop an endpoint's server", allow_abbrev=False)
    undeploy.add_argument("endpoint", metavar="ENDPOINT", nargs="?", help="id, resource name or display name; or 'latest'")
    undeploy.add_argument("--all", action="store_true", help="stop all of them")
    undeploy.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    return {"list": _list, "deploy": _deploy, "undeploy": _undeploy}[given.command](given)


def _list(given: argparse.Namespace) -> int:
    from tuneline.registry import endpoints

    known = endpoints.list_endpoints()
    if given.json:
        print(json.dumps({"endpoints": [endpoint.to_json() for endpoint in known]}))
    elif known:
        print_table([("ENDPOINT", "ID", "STATE", "URL"), *(_row(endpoint) for endpoint in known)])
    return 0


def _deploy(given: argparse.Namespace) -> int:
    from tuneline.registry import endpoints, models

    version = models.get(given.model)
    version.verify()
    idle_timeout = endpoints.IDLE_TIMEOUT_SECONDS if given.idle_timeout is None else given.idle_timeout
    print(f"starting {version.registration.display_name} ...", file=sys.stderr)
    endpoint = endpoints.start(asdict(endpoints.deployment_of(version, idle_timeout_seconds=idle_timeout)))
    if endpoint.deployment.idle_timeout_seconds != idle_timeout:
        print(f"it runs already, with an idle timeout of {endpoint.deployment.idle_timeout_seconds} s; undeploy it first to change that.", file=sys.stderr)
    print(json.dumps(endpoint.to_json()) if given.json else f"{endpoint.deployment.endpoint_id} {endpoint.url}")
    return 0


def _undeploy(given: argparse.Namespace) -> int:
    from tuneline.registry import endpoints

    if bool(given.endpoint) == given.all:
        raise UsageError("give an ENDPOINT or --all.", next_action="tuneline endpoints list shows the endpoints.")
    chosen = endpoints.list_endpoints() if given.all else [endpoints.find(given.endpoint)]
    stopped = [endpoint for endpoint in chosen if endpoints.undeploy(endpoint)]
    if given.json:
        print(json.dumps({"undeployed": [endpoint.deployment.endpoint_resource_name for endpoint in stopped]}))
    else:
        for endpoint in stopped:
            print(f"undeployed {endpoint.deployment.display_name} ({endpoint.deployment.endpoint_id})")
        if not stopped:
            print("nothing was running.", file=sys.stderr)
    return 0


def _row(endpoint: "Endpoint") -> tuple[str, str, str, str]:
    return endpoint.deployment.display_name, endpoint.deployment.endpoint_id, endpoint.state, endpoint.url or endpoint.reason
