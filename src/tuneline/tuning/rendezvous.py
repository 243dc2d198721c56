"""How ranks find one another: rank 0 opens a store at the master's address, and each rank says there that it has come."""

import ipaddress
import logging
import re
import socket
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta

from torch.distributed import DistNetworkError, DistStoreError, Store, TCPStore  # type: ignore[attr-defined]

from tuneline.errors import InfrastructureError, ParameterError
from tuneline.tuning.cluster import Cluster

log = logging.getLogger(__name__)

JOIN_SECONDS = 600.0
"""How long the first rank waits for the last one. Machines of one job start minutes apart, as each pulls the image by itself."""
SECONDS_BETWEEN_LOOKS = 0.1
SAME_EVERYWHERE = "Check that all processes of the job have started and may reach this address, then run again."


def meet(cluster: Cluster) -> Store:
    """The store that all ranks share, once all of them are there.

    Waits in Python, so that SIGTERM and Ctrl-C are heard; torch would not return before its own timeout.
    """
    log.info("rank=%d world_size=%d meeting_at=%s:%d", cluster.rank, cluster.world_size, cluster.master_address, cluster.master_port)
    deadline = time.monotonic() + JOIN_SECONDS
    while True:
        try:
            store = _open_store(cluster, deadline)
            _wait_for_all(store, cluster, deadline)
        except (DistNetworkError, DistStoreError) as error:
            if cluster.rank == 0 or time.monotonic() > deadline:
                raise InfrastructureError(f"{_who(cluster)}: {cause(error)}.", next_action=SAME_EVERYWHERE) from error
            time.sleep(SECONDS_BETWEEN_LOOKS)  # rank 0 is being started again
        else:
            store.set_timeout(timedelta(seconds=JOIN_SECONDS))
            return store


def _open_store(cluster: Cluster, deadline: float) -> Store:
    address, port = cluster.master_address, cluster.master_port
    listens = cluster.rank == 0 and not cluster.agent_listens
    listener = None
    if listens and _is_loopback(address):
        # torch would listen on every interface, and nobody has to log in to a store.
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            listener = socket.create_server((address, port), family=family).detach()
        except OSError as error:
            raise InfrastructureError(f"{_who(cluster)} cannot listen at {address}:{port}: {error}.", next_action="Give a free MASTER_PORT.") from error
    if not listens:
        _wait_for_listener(cluster, deadline)
    remaining = timedelta(seconds=max(1.0, deadline - time.monotonic()))
    return TCPStore(address, port, cluster.world_size, listens, remaining, wait_for_workers=False, master_listen_fd=listener)


def _is_loopback(address: str) -> bool:
    """Whether it is a number that means this machine. The name localhost is no such thing: some launchers tell it to rank 0 alone."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _wait_for_listener(cluster: Cluster, deadline: float) -> None:
    reason = ""
    for _ in _looks(deadline):
        try:
            socket.create_connection((cluster.master_address, cluster.master_port), timeout=2).close()
        except OSError as error:
            reason = str(error)
        else:
            return
    raise InfrastructureError(
        f"{_who(cluster)} found nobody at {cluster.master_address}:{cluster.master_port}, where rank 0 should listen, in {JOIN_SECONDS:.0f} s: {reason}.",
        next_action=SAME_EVERYWHERE,
    )


def _wait_for_all(store: Store, cluster: Cluster, deadline: float) -> None:
    store.set(_key(cluster.rank), str(cluster.world_size))
    missing = list(range(cluster.world_size))
    for _ in _looks(deadline):
        come = [rank for rank in missing if store.check([_key(rank)])]
        _check_sizes({rank: int(store.get(_key(rank))) for rank in come}, cluster)
        missing = [rank for rank in missing if rank not in come]
        if not missing:
            return
    raise InfrastructureError(
        f"{_who(cluster)} waited {JOIN_SECONDS:.0f} s at {cluster.master_address}:{cluster.master_port} for rank {', '.join(map(str, missing))}.",
        next_action=SAME_EVERYWHERE,
    )


def _key(rank: int) -> str:
    return f"tuneline/rank-{rank}"


def _check_sizes(sizes: Mapping[int, int], cluster: Cluster) -> None:
    problems = [
        f"rank {rank} was told of {size} ranks; {_who(cluster)} expected the same number." for rank, size in sizes.items() if size != cluster.world_size
    ]
    if problems:
        raise ParameterError(*problems, next_action="Start all processes with the same WORLD_SIZE or CLUSTER_SPEC.")


def _looks(deadline: float) -> Iterator[None]:
    """Times to look, one at least."""
    yield
    while time.monotonic() < deadline:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        yield


def _who(cluster: Cluster) -> str:
    return f"rank {cluster.rank} of {cluster.world_size}"


def cause(error: Exception) -> str:
    """What torch has to say, without the places in its source before it and the advice and stack behind it."""
    return re.sub(r"^(\[\S+:\d+\] )+", "", str(error)).partition("\n")[0].partition(". ")[0].rstrip(".")
