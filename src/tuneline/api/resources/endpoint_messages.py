"""Messages of `endpoints`, and what a deployment is given. Machines are recorded: a model is served by the machine that the service runs on."""

from typing import Annotated

from tuneline.api.resources.model_messages import Name
from tuneline.api.resources.pipeline_jobs import EncryptionSpec
from tuneline.api.wire import Int32, Labels, Message, Struct, proto_enum

AcceleratorType = Annotated[str, proto_enum(
    ACCELERATOR_TYPE_UNSPECIFIED=0, NVIDIA_TESLA_K80=1, NVIDIA_TESLA_P100=2, NVIDIA_TESLA_V100=3, NVIDIA_TESLA_P4=4, NVIDIA_TESLA_T4=5, TPU_V2=6, TPU_V3=7,
    NVIDIA_TESLA_A100=8, NVIDIA_A100_80GB=9, TPU_V4_POD=10, NVIDIA_L4=11, TPU_V5_LITEPOD=12, NVIDIA_H100_80GB=13, NVIDIA_H100_MEGA_80GB=14,
    NVIDIA_H200_141GB=15, NVIDIA_B200=16, NVIDIA_GB200=17, NVIDIA_RTX_PRO_6000=18,
)]  # fmt: skip


class MachineSpec(Message):
    """A machine."""

    machine_type: str = ""
    accelerator_type: AcceleratorType = "ACCELERATOR_TYPE_UNSPECIFIED"
    accelerator_count: Int32 = 0
    gpu_partition_size: str = ""
    tpu_topology: str = ""
    reservation_affinity: Struct = {}


class DedicatedResources(Message):
    """Machines for one model."""

    machine_spec: MachineSpec = MachineSpec()
    min_replica_count: Int32 = 0
    max_replica_count: Int32 = 0
    required_replica_count: Int32 = 0
    autoscaling_metric_specs: list[Struct] = []
    spot: bool = False
    flex_start: Struct = {}
    scale_to_zero_spec: Struct = {}
    initial_replica_count: Int32 = 0


class AutomaticResources(Message):
    """Machines that Vertex chooses."""

    min_replica_count: Int32 = 0
    max_replica_count: Int32 = 0


class DeployedModel(Message):
    """A model behind an endpoint, as a client sends it."""

    id: str = ""
    model: str = ""
    model_version_id: str = ""
    display_name: str = Name
    dedicated_resources: DedicatedResources | None = None
    automatic_resources: AutomaticResources | None = None
    shared_resources: str = ""
    full_fine_tuned_resources: Struct = {}
    create_time: str = ""
    explanation_spec: Struct = {}
    disable_explanations: bool = False
    service_account: str = ""
    disable_container_logging: bool = False
    enable_container_logging: bool = False
    enable_access_logging: bool = False
    private_endpoints: Struct = {}
    faster_deployment_config: Struct = {}
    rollout_options: Struct = {}
    status: Struct = {}
    system_labels: Labels = {}
    checkpoint_id: str = ""
    speculative_decoding_spec: Struct = {}


TrafficSplit = dict[str, Int32]


class Endpoint(Message):
    """The endpoint as a client sends it. Fields that the service fills in are accepted and not read: clients send back what they got."""

    display_name: str = Name
    description: str = ""
    labels: Labels = {}
    traffic_split: TrafficSplit = {}
    encryption_spec: EncryptionSpec = EncryptionSpec()
    network: str = ""
    enable_private_service_connect: bool = False
    private_service_connect_config: Struct = {}
    predict_request_response_logging_config: Struct = {}
    client_connection_config: Struct = {}
    gen_ai_advanced_features_config: Struct = {}
    dedicated_endpoint_enabled: bool = False
    private_model_server_enabled: bool = False
    name: str = ""
    deployed_models: list[Struct] = []
    etag: str = ""
    create_time: str = ""
    update_time: str = ""
    model_deployment_monitoring_job: str = ""
    dedicated_endpoint_dns: str = ""
    satisfies_pzs: bool = False
    satisfies_pzi: bool = False


RECORDED = frozenset({"displayName", "description", "labels", "encryptionSpec", "predictRequestResponseLoggingConfig", "clientConnectionConfig"})
"""What is kept of a new endpoint. An address of its own (network, private service, dedicated) is not: the Google SDK would send its
predictions there, by HTTPS, and every endpoint of this service answers at the service's address."""


class DeployModelRequest(Message):
    """Body of `:deployModel`."""

    endpoint: str = ""
    deployed_model: DeployedModel
    traffic_split: TrafficSplit = {}


class UndeployModelRequest(Message):
    """Body of `:undeployModel`."""

    endpoint: str = ""
    deployed_model_id: str
    traffic_split: TrafficSplit = {}
