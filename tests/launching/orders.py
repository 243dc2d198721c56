"""Launches for tests."""

from dataclasses import replace

from tuneline.launching.order import Order
from tuneline.resolution import JobSettings, Machine

PLACES = (
    Machine(region="us-central1", machine_type="a2-ultragpu-8g", accelerator_type="NVIDIA_A100_80GB", accelerator_count=8),
    Machine(region="us-east4", machine_type="a3-highgpu-4g", accelerator_type="NVIDIA_H100_80GB", accelerator_count=4),
    Machine(region="europe-west4", machine_type="g2-standard-8", accelerator_type="NVIDIA_L4", accelerator_count=1),
)
ORDER = Order(
    step="tune-model", arguments=("tune_model", "--seed", "1", "--output-checkpoints", "gs://b/run/checkpoints"), outputs="gs://b/run", image="image:1",
    places=PLACES, settings=JobSettings(replica_count=2), several=True, labels={"team": "a"},
)  # fmt: skip
ONE_PLACE = replace(ORDER, places=PLACES[:1])
