"""What only a real project can tell: the commands that try Tuneline on Vertex AI, in order, run or only printed.

    python -m scripts.cloud_test --project P --bucket gs://BUCKET --registry REGION-docker.pkg.dev/P/tuneline [--region R] [--gpu] [--deploy] [--dry-run]

It tunes the embedded model on forty examples: minutes of a small machine, and with --gpu of one L4. What it makes is listed at the end.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

EXAMPLES = "examples/stdlib-code"
SMALL = ("--large-model-reference", "tuneline/tiny-code@001", "--train-steps", "10", "--evaluation-num-prompts", "4")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Where to try it."""

    project: str
    bucket: str
    """gs://BUCKET in `region`."""
    registry: str
    """Where the images of this version have been pushed."""
    region: str = "us-central1"
    other_region: str = "europe-west4"
    """Where a model is uploaded to, away from the pipeline."""
    has_gpu: bool = False
    deploys: bool = False


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command, and what it would tell."""

    tells: str
    command: tuple[str, ...]


def steps(plan: Plan) -> Iterator[Step]:
    """All commands. Each must end with 0 for the next one to mean anything."""
    where = ("--project", plan.project, "--pipeline-region", plan.region)
    root = f"{plan.bucket}/tuneline-cloud-test"
    data, evaluation = f"{root}/train.jsonl", f"{root}/evaluation.jsonl"
    parameters = (*SMALL, "--dataset-uri", data, "--evaluation-data-uri", evaluation, "--model-display-name", "tuneline cloud test")
    job = (*where, "--pipeline-root", root, "--image-registry", plan.registry, *parameters)
    cpu = ("--machine-type", "e2-standard-16")
    for file, uri in (("train.jsonl", data), ("evaluation.jsonl", evaluation)):
        yield Step(tells="the account can write to the bucket", command=("gcloud", "storage", "cp", f"{EXAMPLES}/{file}", uri))
    yield Step(tells="credentials, APIs, buckets, quota, images", command=("tuneline", "doctor", "tune-large-model", *job, *cpu))
    submit = ("tuneline", "submit", "tune-large-model", *job)
    yield Step(tells="the three regions' steps, a CustomJob in the tuning region, the upload", command=(*submit, *cpu))
    yield Step(tells="the same again: cached tasks, one more version", command=(*submit, *cpu))
    yield Step(tells="upload into another region: the copy and its bucket", command=(*submit, *cpu, "--location", plan.other_region))
    yield Step(tells="Vertex's scheduling by SPOT", command=(*submit, *cpu, "--scheduling-strategy", "SPOT", "--no-cache"))
    yield Step(tells="nothing to do: the run is skipped", command=(*submit, *cpu, "--skip-unchanged"))
    if plan.has_gpu:
        yield Step(tells="a GPU: the CUDA image, NCCL's start", command=(*submit, "--machine-type", "g2-standard-12", "--no-cache"))
    if plan.deploys:
        served = ("--deploy-model", "--serving-machine-type", "g2-standard-12", "--undeploy-after-hours", "1")
        yield Step(tells="an endpoint on one L4, which the model leaves after an hour", command=(*submit, *cpu, *served))
    cron = ("--cron", "TZ=UTC 0 3 1 1 *")
    yield Step(tells="Vertex's schedules", command=("tuneline", "schedule", "create", "tune-large-model", *cron, *job, *cpu))
    yield Step(tells="what stands, and what it costs", command=("tuneline", "costs", "--project", plan.project, "--region", plan.region))
    yield Step(tells="the jobs, with their states", command=("tuneline", "jobs", "list", *where))


def main(argv: Sequence[str]) -> int:
    """Run the commands, or print them; the exit code of the first that fails."""
    parser = argparse.ArgumentParser(prog="python -m scripts.cloud_test", description="Try Tuneline on a real project of Google Cloud.")
    parser.add_argument("--project", required=True)
    parser.add_argument("--bucket", required=True, metavar="gs://BUCKET", help="in the region")
    parser.add_argument("--registry", required=True, help="registry and repository with the images of this version")
    parser.add_argument("--region", default=Plan.region)
    parser.add_argument("--other-region", default=Plan.other_region)
    parser.add_argument("--gpu", action="store_true", help="also tune on one L4")
    parser.add_argument("--deploy", action="store_true", help="also deploy, on one L4, for an hour")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and run none")
    given = parser.parse_args(argv)
    plan = Plan(
        project=given.project, bucket=given.bucket.rstrip("/"), registry=given.registry, region=given.region, other_region=given.other_region,
        has_gpu=given.gpu, deploys=given.deploy,
    )  # fmt: skip
    for step in steps(plan):
        print(f"# {step.tells}", shlex.join(step.command), sep="\n", flush=True)
        if not given.dry_run:
            code = subprocess.run(step.command, check=False).returncode
            if code:
                return code
    print("# Left behind: models, the schedule, the bucket's folder tuneline-cloud-test and, with --deploy, an endpoint whose model costs for an hour.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
