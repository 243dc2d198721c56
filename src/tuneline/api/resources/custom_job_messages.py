"""Messages of `customJobs`."""

from typing import Annotated

from tuneline.api.resources.endpoint_messages import MachineSpec
from tuneline.api.resources.model_messages import Name
from tuneline.api.resources.pipeline_jobs import EncryptionSpec
from tuneline.api.resources.tuning_job_messages import GcsDestination
from tuneline.api.wire import Int64, Labels, Message, Struct, proto_enum

Strategy = Annotated[str, proto_enum(STRATEGY_UNSPECIFIED=0, ON_DEMAND=1, LOW_COST=2, STANDARD=3, SPOT=4, FLEX_START=6)]


class EnvironmentVariable(Message):
    """One variable."""

    name: str
    value: str = ""


class ContainerSpec(Message):
    """What a replica runs."""

    image_uri: str = ""
    command: list[str] = []
    args: list[str] = []
    env: list[EnvironmentVariable] = []


class DiskSpec(Message):
    """The boot disk; recorded."""

    boot_disk_type: str = ""
    boot_disk_size_gb: int = 0


class WorkerPoolSpec(Message):
    """Replicas that are alike."""

    container_spec: ContainerSpec = ContainerSpec()
    python_package_spec: Struct = {}
    machine_spec: MachineSpec = MachineSpec()
    replica_count: Int64 = 0
    nfs_mounts: list[Struct] = []
    lustre_mounts: list[Struct] = []
    disk_spec: DiskSpec = DiskSpec()


class Scheduling(Message):
    """When, and on which machines; recorded."""

    timeout: str = ""
    restart_job_on_worker_restart: bool = False
    strategy: Strategy = "STRATEGY_UNSPECIFIED"
    disable_retries: bool = False
    max_wait_duration: str = ""


class CustomJobSpec(Message):
    """The work."""

    worker_pool_specs: list[WorkerPoolSpec] = []
    scheduling: Scheduling = Scheduling()
    base_output_directory: GcsDestination = GcsDestination()
    service_account: str = ""
    network: str = ""
    reserved_ip_ranges: list[str] = []
    psc_interface_config: Struct = {}
    persistent_resource_id: str = ""
    protected_artifact_location_id: str = ""
    tensorboard: str = ""
    enable_web_access: bool = False
    enable_dashboard_access: bool = False
    experiment: str = ""
    experiment_run: str = ""
    models: list[str] = []


class CustomJob(Message):
    """The job as a client sends it. Fields that the service fills in are accepted and not read: clients send back what they got."""

    display_name: str = Name
    job_spec: CustomJobSpec
    labels: Labels = {}
    encryption_spec: EncryptionSpec = EncryptionSpec()
    name: str = ""
    state: str | int = ""
    create_time: str = ""
    start_time: str = ""
    end_time: str = ""
    update_time: str = ""
    error: Struct = {}
    web_access_uris: Labels = {}
    satisfies_pzs: bool = False
    satisfies_pzi: bool = False


RECORDED = frozenset({"displayName", "jobSpec", "labels", "encryptionSpec"})
"""What is kept of a new job."""
