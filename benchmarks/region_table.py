"""Every combination of pipeline region, upload region, accelerator and context length, against the table of the documentation.

python -m benchmarks.region_table
"""

import itertools
import sys

from tests.test_overrides import OPEN_REGIONS
from tests.test_placement import BATCH_SIZES, CATALOG, MACHINES, REGIONS
from tuneline.errors import ParameterError
from tuneline.placement import Request, resolve_placement


def hosted() -> tuple[int, int]:
    """Combinations of a hosted reference that come out as documented, and all."""
    right, total = 0, 0
    for pipeline, upload, accelerator, length in itertools.product(REGIONS, REGIONS, MACHINES, (8192, 32768)):
        request = Request(pipeline_location=pipeline, location=upload, accelerator_type=accelerator)
        placed = resolve_placement(CATALOG, request, sequence_length=length, local_batch_size=1, has_gpu=False)
        machine = (placed.tuning_region, placed.machine_type, placed.accelerator_type, placed.accelerator_count)
        right += (placed.pipeline_region, placed.upload_region, machine, placed.batch_size) == (
            pipeline, upload, MACHINES[accelerator], BATCH_SIZES[accelerator, length],
        )  # fmt: skip
        total += 1
    return right, total


def open_models() -> tuple[int, int]:
    """Pipeline regions of an open model whose tuning region comes out as documented: the same, where open models are tuned, else us-central1."""
    right = 0
    regions = sorted({*REGIONS, *OPEN_REGIONS})
    for pipeline in regions:
        request = Request(pipeline_location=pipeline, is_open_model=True)
        placed = resolve_placement(CATALOG, request, sequence_length=8192, local_batch_size=8, has_gpu=False)
        right += placed.tuning_region == (pipeline if pipeline in OPEN_REGIONS else "us-central1")
    return right, len(regions)


def refusals() -> tuple[int, int]:
    """Regions that are refused, of those that must be."""
    wrong = [("us-east1", {}), ("mars", {}), ("us-east5", {}), ("us-central1", {"location": "us-east5"}), ("us-east1", {"is_open_model": True})]
    refused = 0
    for pipeline, values in wrong:
        try:
            resolve_placement(CATALOG, Request(pipeline_location=pipeline, **values), sequence_length=1, local_batch_size=1, has_gpu=False)  # type: ignore[arg-type]
        except ParameterError:
            refused += 1
    return refused, len(wrong)


def main() -> int:
    rows = {"hosted references, 13 x 13 regions, 2 accelerators, 2 lengths": hosted(), "open models, pipeline regions": open_models(), "refused": refusals()}
    for name, (right, total) in rows.items():
        print(f"{name:<62} {right} of {total}")
    return 0 if all(right == total for right, total in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
