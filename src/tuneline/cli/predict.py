"""`tuneline predict`: ask a deployed model."""

import argparse
import json
import sys
from collections.abc import Sequence

from tuneline.errors import InfrastructureError, NotFoundError, UserError


def parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(prog="tuneline predict", description="Ask a deployed model.", allow_abbrev=False)
    parser.add_argument("endpoint", metavar="ENDPOINT", help="id, resource name or display name; or 'latest'")
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="what to ask, formatted like the training examples; '-' reads standard input")
    parser.add_argument("--context", default="", metavar="TEXT", help="system instruction")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="longest answer, in tokens")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 takes the likeliest token each time (default)")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help="how long to wait for the answer")
    parser.add_argument("--json", action="store_true", help="print the whole response, one JSON object")
    return parser


def main(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    from tuneline.registry import endpoints
    from tuneline.registry.client import request

    endpoint = endpoints.find(given.endpoint)
    if endpoint.state != "RUNNING":
        deployment, reason = endpoint.deployment, f" ({endpoint.reason})" if endpoint.reason else ""
        raise NotFoundError(
            f"endpoint {deployment.display_name!r} is {endpoint.state.lower()}{reason}.",
            next_action=f"Start it with: tuneline endpoints deploy {deployment.model_resource_name}" if not endpoint.is_alive else "Try again in a moment.",
        )
    prompt = sys.stdin.read() if given.prompt == "-" else given.prompt
    parameters = {"temperature": given.temperature, **({} if given.max_tokens is None else {"max_tokens": given.max_tokens})}
    instance: dict[str, object] = {"messages": [{"author": "user", "content": prompt}], **({"context": given.context} if given.context else {})}
    status, answer = request(endpoint.url, "/predict", {"instances": [instance], "parameters": parameters}, timeout_seconds=given.timeout)
    if status != 200:
        raise (UserError if status < 500 else InfrastructureError)(str(answer.get("error", {}).get("message", f"HTTP status {status}")))
    print(json.dumps(answer) if given.json else answer["predictions"][0]["candidates"][0]["content"])
    return 0
