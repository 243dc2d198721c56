"""The template that a command names: built in, a file, or one of a repository, of which the version is told."""

import sys

from tuneline.templates import Template, load


def load_template(reference: str) -> tuple[Template, str]:
    """The template, and where it came from: what was asked for, but with the version in place of a repository's tag."""
    source = reference

    def pull(uri: str) -> bytes:
        from tuneline import publishing
        from tuneline.template_repository import read_address

        nonlocal source
        address, content = publishing.pull(read_address(uri))
        source = str(address)
        if source != uri:
            print(f"{uri} is {address.reference}", file=sys.stderr)
        return content

    return load(reference, pull=pull), source
