"""`tuneline serve`: the tuning service on this machine, for everything that speaks to Vertex AI."""

import argparse
import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from tuneline.errors import UsageError, UserError
from tuneline.local.extras import is_installed

MISSING = "The service needs the serve extra: pip install 'tuneline[serve]'"


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tuneline serve", allow_abbrev=False, description="Answer Vertex AI's tuning requests on this machine: pipeline jobs, models, endpoints."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: 127.0.0.1. Any but a loopback address asks for the token")
    parser.add_argument("--port", type=int, default=8080, help="default: 8080")
    parser.add_argument("--runs-dir", metavar="DIR", help="folder of the runs; default: runs/ in TUNELINE_HOME")
    parser.add_argument("--catalog", metavar="FILE", default="", help="TOML file with catalogue rows laid over the built-in ones, for jobs that bring none")
    parser.add_argument("--max-running", type=int, default=1, metavar="N", help="jobs at a time; default: 1, others wait in a queue")
    parser.add_argument(
        "--requests-per-second", type=int, default=500, metavar="N", help="that one address may send in the long run, and twice as many at once; default: 500"
    )
    parser.add_argument("--token", action="store_true", help="ask for the bearer token on a loopback address, too")
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="a further name by which clients may call the service")
    parser.add_argument("--inject-faults", metavar="JSON", default="", help=argparse.SUPPRESS)  # for tests: docs/service.md
    return parser


def _check_port(host: str, port: int) -> None:
    """Raise UserError when nobody can listen there."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise UserError(
            f"{host}:{port}: {os.strerror(error.errno) if error.errno else error}.", next_action="Give another --port or --host, or stop what listens there."
        ) from None


def main(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    least = {"--max-running": given.max_running, "--requests-per-second": given.requests_per_second}
    wrong = [f"{flag} is {value}; expected at least 1." for flag, value in least.items() if value < 1]
    wrong += [] if 0 <= given.port <= 65535 else [f"--port is {given.port}; expected a port from 0 to 65535."]
    if wrong:
        raise UsageError(*wrong)
    if missing := [module for module in ("croniter", "fastapi", "google_crc32c", "httpx2", "uvicorn") if not is_installed(module)]:
        raise UsageError(f"{', '.join(missing)} is not installed.", next_action=MISSING)
    from tuneline.api.fault_injection import Faults
    from tuneline.api.server import serve, token_in
    from tuneline.api.settings import LOOPBACK, Settings
    from tuneline.catalog_file import read_catalog
    from tuneline.local.run_folder import default_runs_dir
    from tuneline.registry import home

    read_catalog(given.catalog)  # what is wrong with it is told here, and not to those who send jobs
    _check_port(given.host, given.port)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    folder = home() / "service"
    needs_token = given.token or given.host not in LOOPBACK
    settings = Settings(
        home=folder,
        runs_dir=Path(given.runs_dir).absolute() if given.runs_dir else default_runs_dir(),
        host=given.host,
        port=given.port,
        token=token_in(folder) if needs_token else "",
        catalog=str(Path(given.catalog).absolute()) if given.catalog and "://" not in given.catalog else given.catalog,
        max_running=given.max_running,
        requests_per_second=given.requests_per_second,
        burst=2 * given.requests_per_second,
        extra_hosts=tuple(given.allow_host),
        faults=Faults.parse(given.inject_faults) if given.inject_faults else None,
    )
    print(f"http://{given.host}:{given.port}" + (f" (token in {folder / 'token'})" if needs_token else ""), file=sys.stderr)
    serve(settings)
    return 0
