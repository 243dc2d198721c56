"""Brings the checkpoints of a run to the folder that the request asked for, laid out as Vertex does:

    <output URI>/postprocess/node-0/checkpoints/{checkpoint-N,final}

Whoever is stopped in the middle can do it again: what is whole is left alone, and `final` comes last.
"""

import logging
from pathlib import Path

from tuneline.errors import DatasetError
from tuneline.local.artifacts import artifact_path
from tuneline.local.run_record import RunRecord
from tuneline.modeling.checkpoints import LAYOUT, final_checkpoint, list_checkpoints
from tuneline.registry.files import COMMIT, committed_files
from tuneline.storage import Storage, join

LOG = logging.getLogger(__name__)
TASK, OUTPUT = "tune-model", "checkpoints"


def export_checkpoints(record: RunRecord, output_uri: str, *, only_last: bool = False, storage: Storage | None = None) -> None:
    """Copy the checkpoints of a run that has succeeded, without what only training reads. `only_last`: `final` alone."""
    storage = storage or Storage()
    artifact = Path(artifact_path(record.tasks[TASK].outputs.artifacts[OUTPUT].uri))
    final = final_checkpoint(artifact)
    found = [*([] if only_last else list_checkpoints(artifact)), *([final] if final else [])]
    folders = {checkpoint.path: join(output_uri, f"{LAYOUT.as_posix()}/{checkpoint.path.name}") for checkpoint in found}
    missing = {source: target for source, target in folders.items() if not _is_there(storage, source, target)}
    for source, target in missing.items():
        for name in (*sorted(committed_files(source)), COMMIT):  # the marker last
            storage.copy(str(source / name), join(target, name))
        LOG.info("copied checkpoint=%s to=%s", source.name, target)


def _is_there(storage: Storage, source: Path, target: str) -> bool:
    """Whether the copy is whole. Another job's model is never overwritten."""
    marker = join(target, COMMIT)
    if not storage.exists(marker):
        return False
    if storage.read_text(marker) != (source / COMMIT).read_text(encoding="utf-8"):
        raise DatasetError(f"outputUri: {target} holds another job's model.", next_action="Give each job a folder of its own.")
    return True
