"""Whole tuning pipelines against a Vertex AI and a Cloud Storage that fail all the time: is anything lost, doubled or damaged?

    python -m benchmarks.fault_campaign [--runs 100] [--workers 2] [--seed 0] [--keep DIR]

`tuneline serve` is the peer, with faults of its own (--inject-faults): 5% of the requests get a 429, a 503 or a reset, 2% are carried out and their
answer is lost, 1% are answered up to 30 s late, 5% of the lists lack what is younger than 5 s. Each run is the compiled template with its region
set to us-central1: two custom jobs tune and measure the embedded model on eight short examples, the model is copied to another region's bucket,
registered there with its evaluation and deployed to an endpoint, by the steps' own code. A run that ends with an error that passes (exit code 13) is
resumed, as an orchestrator would try again. Google's client then asks each endpoint and takes it down; after every fifth run it also submits the
template as a pipeline job, which the peer runs. Afterwards the peer is started without faults and asked what there is.

What jobs hand on lies in the bucket's folder and is read there; claims, copies and all that is Vertex's go through the faulty APIs.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from benchmarks.google_customer import ENDED, Customer
from benchmarks.service_process import ROOT, ServiceProcess
from tuneline.errors import ModelError
from tuneline.registry.files import committed_files, verify
from tuneline.registry.models import RUN_LABEL
from tuneline.templates import path
from tuneline.vertex.custom_jobs import LAUNCH_LABEL
from tuneline.vertex.rest import ENDPOINT, Vertex

PROJECT, PIPELINE_REGION, UPLOAD_REGION = "proj", "us-central1", "europe-west4"
BUCKET = "campaign"
MOST_TRIES = 5
LONGEST_SECONDS = 1800
FAULTS = {
    "too_many_requests": 0.017, "unavailable": 0.017, "reset": 0.016, "lost_response": 0.02, "slow": 0.01, "delay_seconds": 30.0, "stale_list": 0.05,
    "stale_seconds": 5.0,
}  # fmt: skip
PARAMETERS = {
    "project": PROJECT, "large_model_reference": "tuneline/tiny-code@001", "dataset_uri": f"gs://{BUCKET}/train.jsonl", "train_steps": 2,
    "evaluation_data_uri": f"gs://{BUCKET}/evaluation.jsonl", "evaluation_num_prompts": 2, "evaluation_max_tokens": 4, "location": UPLOAD_REGION,
}  # fmt: skip
LAUNCHED = {
    "machine_type": "e2-standard-16", "serving_container_image_uri": f"{UPLOAD_REGION}-docker.pkg.dev/{PROJECT}/tuneline/predictor:1",
    "deploy_model": True, "dedicated_endpoint_enabled": False, "serving_machine_type": "e2-standard-16",
}  # fmt: skip
"""Further ones of the runs that launch custom jobs."""
GOOGLES_SHARE = 5
"""Runs for each pipeline job that Google's client submits."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one run ended."""

    name: str
    tries: int = 1
    code: int
    error: str = ""
    wrong: Sequence[str] = ()
    """What Google's client found of its endpoint."""


def template(folder: Path) -> Path:
    """The compiled template with the region that Vertex would have put in."""
    text = path("tune-large-model").read_text(encoding="utf-8")
    file = folder / "tune-large-model.yaml"
    changed = text.replace("{{$.pipeline_google_cloud_location}}", PIPELINE_REGION)
    assert changed != text
    assert yaml.safe_load(changed)["pipelineInfo"]["name"] == "tune-large-model"
    file.write_text(changed, encoding="utf-8")
    return file


def prepare(service: ServiceProcess) -> Path:
    """The bucket with the data; its folder."""
    folder = service.home / "service" / "buckets" / BUCKET
    status, answer = service.call("POST", f"/storage/v1/b?project={PROJECT}", {"name": BUCKET, "location": PIPELINE_REGION})
    assert status == 200, answer
    for name in ("train", "evaluation"):
        rows = [{"prompt": f"{name} {number}", "completion": f"answer {number}"} for number in range(8)]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def environment_of(service: ServiceProcess) -> dict[str, str]:
    """What makes the peer Google's cloud for a run."""
    address = f"http://127.0.0.1:{service.port}"
    return {
        **os.environ, ENDPOINT: address, "STORAGE_EMULATOR_HOST": address, "TUNELINE_GCS_FOLDER": str(service.home / "service" / "buckets"),
        "GOOGLE_CLOUD_PROJECT": PROJECT, "TUNELINE_HOME": str(service.home / "laptop"), "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def one_run(number: int, file: Path, runs: Path, environment: Mapping[str, str]) -> Outcome:
    """One pipeline from beginning to end, resumed after errors that pass."""
    name = f"run-{number:03d}"
    given = {**PARAMETERS, **LAUNCHED, "model_display_name": display_name(name)}
    flags = [f"--{key.replace('_', '-')}={json.dumps(value) if isinstance(value, bool) else value}" for key, value in given.items()]
    start = [sys.executable, "-m", "tuneline.cli", "run", str(file), "--runs-dir", str(runs), "--name", name, "--no-cache", "--quiet", *flags]
    again = [sys.executable, "-m", "tuneline.cli", "run", "--resume", name, "--runs-dir", str(runs), "--quiet"]
    for tries in range(1, MOST_TRIES + 1):
        try:
            done = subprocess.run(start if tries == 1 else again, env=environment, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return Outcome(name=name, tries=tries, code=1, error=f"not ended after {LONGEST_SECONDS} s")
        if done.returncode not in (13, 75):
            break
    return Outcome(name=name, tries=tries, code=done.returncode, error=done.stderr[-600:] if done.returncode else "")


def display_name(name: str) -> str:
    """Of the model that a run tunes."""
    return f"model of {name}"


def whatever_happens(act: Callable[[], list[str]]) -> list[str]:
    """What is wrong; also when Google's client ends with an error, which must not end the campaign."""
    try:
        return act()
    except Exception as error:  # of whatever class the client has for it
        return [f"{type(error).__name__}: {error}"]


def google_run(number: int, customer: Customer) -> Outcome:
    """The built-in template as a pipeline job that Google's client submits and waits for."""
    name = f"google-{number:03d}"
    parameters = {**PARAMETERS, "model_display_name": display_name(name)}
    [told] = whatever_happens(lambda: [customer.run(name, path("tune-large-model"), parameters)])
    return Outcome(name=name, code=0 if told == ENDED[0] else 1, error=told)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the peer has in the end."""

    lost: Sequence[str]
    doubled: Sequence[str]
    damaged: Sequence[str]
    custom_jobs: int


def examine(service: ServiceProcess, outcomes: Sequence[Outcome]) -> Findings:
    """Ask the peer, which fails no more."""
    os.environ[ENDPOINT] = f"http://127.0.0.1:{service.port}"
    vertex = Vertex(region=UPLOAD_REGION)
    models = [
        version
        for model in vertex.list(f"projects/{PROJECT}/locations/{UPLOAD_REGION}/models")
        for version in vertex.list(f"{str(model['name']).partition('@')[0]}:listVersions", key="models")
    ]
    by_run = Counter(str(model["labels"].get(RUN_LABEL)) for model in models)
    lost = [outcome.name for outcome in outcomes if outcome.code or not by_run[outcome.name]]
    lost += [wrong for outcome in outcomes for wrong in outcome.wrong]
    doubled = [f"model of {run}" for run, count in by_run.items() if count > 1]
    taken_down = {display_name(outcome.name) for outcome in outcomes if outcome.code == 0 and not outcome.wrong}
    standing = vertex.list(f"projects/{PROJECT}/locations/{UPLOAD_REGION}/endpoints")
    doubled += [f"{endpoint['name']}, which was taken down" for endpoint in standing if endpoint["displayName"] in taken_down]
    launched = [model for model in models if str(model["labels"].get(RUN_LABEL)).startswith("run-")]
    for model in launched:
        evaluations = list(vertex.list(f"{str(model['name']).partition('@')[0]}@{model['versionId']}/evaluations", key="modelEvaluations"))
        (lost if not evaluations else doubled).extend([f"evaluation of {model['displayName']}"] * (len(evaluations) != 1))
    jobs = list(vertex.list(f"projects/{PROJECT}/locations/{PIPELINE_REGION}/customJobs"))
    launches = Counter(str(job["labels"][LAUNCH_LABEL]) for job in jobs)
    doubled += [f"custom job {launch}" for launch, count in launches.items() if count > 1]
    buckets = service.home / "service" / "buckets"
    return Findings(lost=lost, doubled=doubled, damaged=[text for model in launched for text in damages(buckets, model)], custom_jobs=len(jobs))


def damages(buckets: Path, model: Mapping[str, object]) -> list[str]:
    """What is wrong with the files of a registered model."""
    uri = str(model.get("artifactUri", ""))
    folder = buckets / uri.removeprefix("gs://")
    try:
        verify(folder, committed_files(folder))
    except ModelError as error:
        return [f"{uri}: {error}"]
    return [] if uri.startswith(f"gs://{PROJECT}-") else [f"{uri}: not in a bucket of {UPLOAD_REGION}"]


def injected(service: ServiceProcess) -> str:
    """What the peer says that it has done."""
    told = re.findall(r"injected (requests=.*|.*requests=.*)", service.log.read_text(encoding="utf-8", errors="replace"))
    return told[-1] if told else "not told"


def campaign(home: Path, *, runs: int, workers: int, seed: int) -> int:
    """All runs; 0 when nothing was lost, doubled or damaged."""
    faults = json.dumps({"seed": seed, **FAULTS})
    # One job at a time is a new project's quota; here it would only make everything slower.
    quiet, faulty = (ServiceProcess(home, "--max-running", str(workers), *flags) for flags in ((), ("--inject-faults", faults)))
    quiet.start()
    quiet.wait()
    folder = prepare(quiet)
    quiet.end()
    file, environment, began = template(home), environment_of(faulty), time.monotonic()
    faulty.start()
    try:
        faulty.wait()
        address = f"http://127.0.0.1:{faulty.port}"
        customer = Customer(address, project=PROJECT, pipeline_region=PIPELINE_REGION, upload_region=UPLOAD_REGION, bucket=BUCKET)

        def work(number: int) -> list[Outcome]:
            outcome = one_run(number, file, folder / "runs", environment)
            if outcome.code == 0:
                outcome = replace(outcome, wrong=whatever_happens(lambda: customer.use_endpoint(display_name(outcome.name))))
            print(outcome.name, outcome.code, *outcome.wrong, file=sys.stderr, flush=True)
            return [outcome, *([google_run(number, customer)] if number % GOOGLES_SHARE == 0 else [])]

        with ThreadPoolExecutor(workers) as pool:
            outcomes = [outcome for some in pool.map(work, range(runs)) for outcome in some]
    finally:
        faulty.end()
    seconds = time.monotonic() - began
    quiet.start()
    try:
        quiet.wait()
        found = examine(quiet, outcomes)
    finally:
        quiet.end()
        quiet.end_jobs()
    print(f"runs                 {runs} in {seconds / 60:.0f} min, {sum(outcome.tries > 1 for outcome in outcomes)} resumed, seed {seed}")
    print(f"pipeline jobs        {len(outcomes) - runs} by Google's client")
    print(f"custom jobs          {found.custom_jobs}")
    print(f"injected             {injected(faulty)}")
    for what, names in (("lost", found.lost), ("doubled", found.doubled), ("damaged", found.damaged)):
        print(f"{what:<20} {len(names)}", *names, sep="\n  ")
    for outcome in outcomes:
        if outcome.code:
            print(f"{outcome.name} ended with {outcome.code} after {outcome.tries} tries: {outcome.error}", file=sys.stderr)
    return 1 if found.lost or found.doubled or found.damaged else 0


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fault_campaign", description="Whole pipelines against a failing cloud.")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", metavar="DIR", help="folder to work in and to leave as it is; default: a temporary one")
    given = parser.parse_args(argv)
    home = Path(given.keep or tempfile.mkdtemp(prefix="campaign-"))
    try:
        return campaign(home, runs=given.runs, workers=given.workers, seed=given.seed)
    finally:
        if not given.keep:
            shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
