"""`tuneline template`: show templates, point their images elsewhere, and share them through a repository."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tuneline.cli.table import table_lines
from tuneline.cli.template_source import load_template
from tuneline.errors import UsageError, UserError
from tuneline.image_references import A_REGISTRY, REGISTRY
from tuneline.templates import KINDS, Template, images, read_bytes, text_of, with_image_digests, with_image_registry

TEMPLATE = "a template's name, file or URI, e.g. tune-large-model"
REPOSITORY = "https://REGION-kfp.pkg.dev/PROJECT/REPOSITORY"
EXAMPLE = """example:
  $ tuneline template retarget tune-large-model --registry europe-docker.pkg.dev/my-project/tuneline -o tune-large-model.yaml
  $ tuneline template publish tune-large-model.yaml --to https://europe-kfp.pkg.dev/my-project/templates
  $ tuneline run https://europe-kfp.pkg.dev/my-project/templates/tune-large-model/latest --help
"""


def parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="tuneline template", description="Show templates, point their images elsewhere, and share them through a repository.",
        epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, summary: str, **argument: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False)
        for given, meaning in argument.items():
            added.add_argument(given, metavar=given.upper(), help=meaning)
        added.add_argument("--json", action="store_true", help="print one JSON object")
        return added

    command("show", "show name, version, digest, images and inputs", template=TEMPLATE)
    retarget = command("retarget", "write a copy whose images come from another registry", template=TEMPLATE)
    retarget.add_argument("--registry", metavar="REGISTRY", required=True, help="what goes before the images' names, e.g. europe-docker.pkg.dev/my-project")
    retarget.add_argument(
        "--digest", metavar="IMAGE=sha256:...", action="append", default=[], help="pin an image, e.g. base=sha256:...; may be given several times"
    )
    retarget.add_argument("--digests", metavar="FILE", help='JSON file {"IMAGE": "sha256:..."} with the same')
    retarget.add_argument("-o", "--output", metavar="FILE", required=True, help="file to write")
    publish = command("publish", "publish a template to a repository", template=TEMPLATE)
    publish.add_argument("--to", metavar="REPOSITORY", required=True, help=REPOSITORY)
    publish.add_argument("--tag", metavar="TAG", action="append", default=[], help="tag to publish under; default: the template's version and latest")
    publish.add_argument("--dry-run", action="store_true", help="tell what would be sent, and ask nobody")
    pull = command("pull", "write a repository's template to a file, checked against its digest", uri=f"{REPOSITORY}/NAME/TAG, or sha256:... for the tag")
    pull.add_argument("-o", "--output", metavar="FILE", help="file to write; default: NAME.yaml, which then must not hold other content")
    listing = command("list", "list a repository's templates, versions and tags")
    listing.add_argument("--from", dest="repository", metavar="REPOSITORY", required=True, help=REPOSITORY)
    return parser


def main(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    lines, answer = {"show": _show, "retarget": _retarget, "publish": _publish, "pull": _pull, "list": _list}[given.command](given)
    if given.json:
        print(json.dumps(answer))
    elif lines:
        print(*lines, sep="\n")
    return 0


Answer = tuple[Sequence[str], Mapping[str, object]]
"""What is printed for people, and as JSON."""


def _show(given: argparse.Namespace) -> Answer:
    template, source = load_template(given.template)
    known_images = images(template.spec)
    record = {"name": template.name, "version": template.version, "digest": template.digest}
    inputs = [
        {"name": known.name, "type": known.parameter_type, "optional": known.optional, "default": known.default, "description": known.description}
        for known in template.inputs.values()
    ]
    lines = [f"{key:<8} {value or 'unknown'}" for key, value in record.items()]
    lines += [f"{'image':<8} {image}" for image in known_images]
    rows = [(known.name, KINDS[known.parameter_type], json.dumps(known.default) if known.optional else "required") for known in template.inputs.values()]
    return [*lines, "", *table_lines([("INPUT", "TYPE", "DEFAULT"), *rows])], {**record, "source": source, "images": known_images, "inputs": inputs}


def _retarget(given: argparse.Namespace) -> Answer:
    if not REGISTRY.fullmatch(given.registry):
        raise UsageError(f"--registry is {given.registry!r}; expected {A_REGISTRY}.")
    digests = _digests(given)
    template, _ = load_template(given.template)
    spec = with_image_digests(with_image_registry(template.spec, given.registry), digests)
    text = text_of(template, spec)
    _write(given.output, text.encode("utf-8"))
    found = images(spec)
    if digests and (left := [image for image in found if "@" not in image]):
        print(f"not pinned: {', '.join(left)}", file=sys.stderr)
    return [f"{given.output}: {template.name} with {', '.join(found)}"], {"file": given.output, "name": template.name, "images": found}


def _digests(given: argparse.Namespace) -> dict[str, str]:
    """Image -> digest, of the file and the flags; a flag goes before the file."""
    digests: dict[str, str] = {}
    if given.digests:
        from tuneline.storage import Storage

        try:
            found = json.loads(Storage().read_text(given.digests))
        except ValueError as error:
            raise UserError(f"{given.digests}: is not JSON ({error}).") from None
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise UserError(f'{given.digests}: expected one JSON object {{"IMAGE": "sha256:..."}}.')
        digests |= found
    for pin in given.digest:
        image, equals, digest = pin.partition("=")
        if not image or not equals:
            raise UsageError(f"--digest is {pin!r}; expected IMAGE=sha256:....")
        digests[image] = digest
    return digests


def _publish(given: argparse.Namespace) -> Answer:
    from tuneline import publishing
    from tuneline.template_repository import connect, read_repository

    url = read_repository(given.to)
    template, _ = load_template(given.template)
    tags = given.tag or ([template.version, publishing.LATEST] if template.version else [])
    publishing.check_names(template.name, tags)
    content = template.text.encode("utf-8")
    uri = f"{url}/{template.name}/{template.digest}"
    answer: dict[str, object] = {"name": template.name, "version": template.version, "digest": template.digest, "uri": uri, "dry_run": given.dry_run}
    if given.dry_run:
        lines = [f"Would publish {uri}", f"{len(content):,} bytes, under {', '.join(tags)}. Nothing was sent, and nobody was asked."]
        return lines, {**answer, "bytes": len(content), "tags": dict.fromkeys(tags, template.digest), "changed": False}
    done = publishing.publish(connect(url), template.name, content, tags)
    lines = [f"{'Published' if done.changed else 'Nothing to do: published already is'} {uri}"]
    lines += [_tag_line(url, template, tag, version) for tag, version in done.tags.items()]
    return lines, {**answer, "tags": done.tags, "changed": done.changed}


def _tag_line(url: str, template: Template, tag: str, version: str) -> str:
    stands = "" if version == template.digest else f" stands for {version or 'nothing'}; --tag {tag} alone moves it"
    return f"{url}/{template.name}/{tag}{stands}"


def _pull(given: argparse.Namespace) -> Answer:
    from tuneline import publishing
    from tuneline.template_repository import read_address

    address, content = publishing.pull(read_address(given.uri))
    template = read_bytes(content, given.uri)  # no file is written that no command could use
    file = given.output or f"{address.name}.yaml"
    if not given.output and Path(file).exists() and Path(file).read_bytes() != content:
        raise UserError(f"{file} is there, with other content.", next_action="Say where to write: -o FILE")
    _write(file, content)
    answer = {"file": file, "name": template.name, "version": template.version, "digest": template.digest, "uri": str(address)}
    return [f"{file}: {address}"], answer


def _list(given: argparse.Namespace) -> Answer:
    from tuneline.template_repository import PAGE_SIZE, connect, read_repository

    listing = connect(read_repository(given.repository)).listing()
    if not listing.complete:
        print(f"Only the first {PAGE_SIZE} templates, and the first {PAGE_SIZE} versions and tags of each, are known.", file=sys.stderr)
    rows = [(entry.address.name, entry.address.reference, ", ".join(entry.tags), entry.create_time[:19].replace("T", " ")) for entry in listing.entries]
    records = [
        {"name": entry.address.name, "digest": entry.address.reference, "tags": entry.tags, "create_time": entry.create_time, "uri": str(entry.address)}
        for entry in listing.entries
    ]
    return table_lines([("NAME", "DIGEST", "TAGS", "CREATED"), *rows]) if rows else [], {"templates": records, "complete": listing.complete}


def _write(file: str, content: bytes) -> None:
    from tuneline.storage import Storage

    Storage().write_bytes(file, content)
