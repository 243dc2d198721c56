"""The container engine of this machine, through its command line: which one there is, what it can do, and the images that it has."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuneline.errors import InfrastructureError, UserError
from tuneline.local.containers import ENGINES, RUN_LABEL, ContainerEngine, EngineName, User
from tuneline.local.limits import Limits
from tuneline.local.spec import Container, Dag
from tuneline.templates import PLACEHOLDER

_ANSWER_SECONDS = 60.0
_PODMAN_INITS = ("/usr/libexec/podman/catatonit", "/usr/lib/podman/catatonit", "/usr/bin/catatonit", "/usr/local/libexec/podman/catatonit")
_INSTALL = "Start Docker, or install Podman (apt install podman, dnf install podman). Without --containers tasks run as processes of this machine."
_BUILD = "Build them with: make images. Or run a template whose images are in your own registry: docs/images.md tells how to point it there."


def find_engine(asked: EngineName | None = None) -> ContainerEngine:
    """The engine that was asked for; else Docker when its daemon answers (at DOCKER_HOST, too), else Podman."""
    reasons = []
    for name in [asked] if asked else ENGINES:
        try:
            return _engine(name)
        except InfrastructureError as error:
            reasons.append(f"{name}: {error}")
    raise UserError("--containers needs a container engine that answers.", *reasons, next_action=_INSTALL)


def docker_facts(info: Mapping[str, Any]) -> ContainerEngine:
    """What `docker info` says that matters here."""
    options = [str(option) for option in info.get("SecurityOptions") or []]
    limits = {"memory": "MemoryLimit", "cpus": "CpuCfsQuota", "pids": "PidsLimit"}
    return ContainerEngine(
        name="docker",
        rootless=any(option.startswith("name=rootless") for option in options),
        remapped=any(option.startswith("name=userns") for option in options),
        labels_files=any(option.startswith("name=selinux") for option in options),
        has_init=bool(info.get("InitBinary")),
        enforces=frozenset(limit for limit, key in limits.items() if info.get(key)),
    )


def podman_facts(info: Mapping[str, Any], *, has_init: bool) -> ContainerEngine:
    """What `podman info` says that matters here. It does not say whether there is an init."""
    host = info["host"]
    security = host.get("security", {})
    limits = {"memory": "memory", "cpus": "cpu", "pids": "pids"}
    return ContainerEngine(
        name="podman",
        rootless=bool(security.get("rootless")),
        labels_files=bool(security.get("selinuxEnabled")),
        has_init=has_init,
        enforces=frozenset(limit for limit, controller in limits.items() if controller in host.get("cgroupControllers", [])),
    )


def check_limits(engine: ContainerEngine, limits: Limits) -> None:
    """Refuse limits that the engine would drop, or fail on in the middle of a run."""
    asked = {"memory": limits.memory_bytes, "cpus": limits.cpus}
    refused = [f"{engine.name} cannot limit {limit} on this machine." for limit, value in asked.items() if value and limit not in engine.enforces]
    if refused:
        action = f"Give {engine.name} the control groups for it (for a rootless engine: cgroups v2 with delegation), or leave the limit out."
        raise UserError(*refused, next_action=action)


def caller() -> User:
    """Who runs this process."""
    return User(uid=os.getuid(), gid=os.getgid(), groups=tuple(sorted(os.getgroups())))


def images_of(dag: Dag) -> tuple[str, ...]:
    """The image references of all tasks, each once."""
    return tuple(dict.fromkeys(_references(dag)))


def identify_images(engine: ContainerEngine, references: Sequence[str], say: Callable[[str], None]) -> dict[str, str]:
    """Reference -> id of the image that it means now. One `UserError` names all that are missing.

    An image that names its registry is pulled when it is not here. One that does not is never pulled: engines would look for it on a
    public registry, where anybody may own that name.
    """
    unknown = [f"image {reference!r} is a placeholder; --containers needs images that the template names." for reference in references if _is_open(reference)]
    if unknown:
        raise UserError(*unknown, next_action="Put the image into the template, or leave out --containers.")
    found, missing = {}, []
    for reference in references:
        identifier, problem = _identify(engine, reference), ""
        if not identifier and names_registry(reference):
            say(f"{engine.name} pulls {reference}")
            problem = _problem(engine.name, "pull", "--quiet", reference, seconds=None)
            identifier = _identify(engine, reference)
        if identifier:
            found[reference] = identifier
        else:
            missing.append(f"{engine.name} has no image {reference}{f': {problem}' if problem else '.'}")
    if missing:
        raise UserError(*missing, next_action=_BUILD)
    return found


def check_images(engine: ContainerEngine, images: Mapping[str, str]) -> None:
    """Refuse to go on with a run whose images are gone."""
    gone = [(reference, identifier) for reference, identifier in images.items() if not _identify(engine, identifier)]
    if gone:
        problems = [f"{engine.name} no longer has {identifier}, the {reference} that this run began with." for reference, identifier in gone]
        raise UserError(*problems, next_action="Start a new run: it takes the images that are there now, and tasks that they change run again.")


def remove_containers(engine: ContainerEngine, label: str) -> None:
    """Remove what is left of a run whose engine and supervisors were all killed."""
    left = _call(engine.name, "ps", "--all", "--quiet", "--filter", f"label={RUN_LABEL}={label}").split()
    if left:
        _problem(engine.name, "kill", *left)
        _call(engine.name, "rm", "--force", *left)


def names_registry(reference: str) -> bool:
    """Whether an image reference begins with the host of a registry."""
    host, slash, _ = reference.partition("/")
    return bool(slash) and (host == "localhost" or "." in host or ":" in host)


def _is_open(reference: str) -> bool:
    return PLACEHOLDER in reference


def _engine(name: EngineName) -> ContainerEngine:
    if name == "docker":
        _call("docker", "version", "--format", "{{.Server.Version}}")
    info = _information(name)
    if name == "docker" and "host" not in info:
        return docker_facts(info)
    if name == "docker" and shutil.which("podman") is None:  # `docker` may be another name of podman
        raise InfrastructureError("is another program.")
    return podman_facts(info, has_init=shutil.which("catatonit") is not None or any(Path(path).exists() for path in _PODMAN_INITS))


def _information(name: EngineName) -> dict[str, Any]:
    answer = _call(name, "info", "--format", "{{json .}}")
    try:
        information = json.loads(answer)
    except ValueError:
        information = None
    if not isinstance(information, dict):
        raise InfrastructureError(f"does not answer `{name} info` as JSON.")
    return information


def _identify(engine: ContainerEngine, reference: str) -> str:
    """The id of an image, spelled alike by all engines; nothing when there is no such image."""
    try:
        identifier = _call(engine.name, "image", "inspect", "--format", "{{.Id}}", reference).strip()
    except InfrastructureError:
        return ""
    return f"sha256:{identifier.removeprefix('sha256:')}" if identifier else ""


def _references(dag: Dag) -> Iterator[str]:
    for task in dag.tasks.values():
        body = task.component.body
        if isinstance(body, Dag):
            yield from _references(body)
        elif isinstance(body, Container) and body.command:
            yield body.image


def _problem(*command: str, seconds: float | None = _ANSWER_SECONDS) -> str:
    """Why a command failed, or nothing."""
    try:
        _call(*command, seconds=seconds)
    except InfrastructureError as error:
        return str(error)
    return ""


def _call(*command: str, seconds: float | None = _ANSWER_SECONDS) -> str:
    """What a command of the engine prints. Its own words are the error."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False)
    except OSError as error:
        raise InfrastructureError(f"cannot be started ({error.strerror}).") from None
    except subprocess.TimeoutExpired:
        raise InfrastructureError(f"`{' '.join(command[:2])}` did not answer within {seconds:g} s.") from None
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise InfrastructureError(words[-1] if words else f"`{' '.join(command[:2])}` ended with exit code {done.returncode}.")
    return done.stdout
