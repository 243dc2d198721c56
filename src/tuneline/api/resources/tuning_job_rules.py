"""What can be said about a tuning job from the request and the catalogue alone: every rule that the Google SDKs leave to the service. Pure."""

import math
from collections.abc import Iterator, Mapping

from pydantic.alias_generators import to_camel

from tuneline.api.resources.tuning_job_messages import FULL, NO_MODE, NO_SIZE, OTHER_SPECS, PEFT_ADAPTER, HyperParameters, SupervisedTuningSpec, TuningJob
from tuneline.catalog.base_model import BaseModel
from tuneline.catalog.rows import Kind
from tuneline.data.base_model import ARCHITECTURES
from tuneline.local.run_record import LOCATION
from tuneline.placement import KEY_NAME
from tuneline.validation import KINDS
from tuneline.vertex.labels import label_problems

MAX_NAME = 128
SPEC = "supervisedTuningSpec"
HYPER = f"{SPEC}.hyperParameters"
VALIDATION_SHARE = 0.25
"""Of the training examples: how many validation examples an open model may have."""
CHAT_FORMATS = ("author-chat", "messages", "generate-content")
FIELDS: Mapping[str, str] = {
    "large_model_reference": "baseModel",
    "base_model_uri": "customBaseModel",
    "dataset_uri": f"{SPEC}.trainingDatasetUri",
    "evaluation_data_uri": f"{SPEC}.validationDatasetUri",
    "model_display_name": "tunedModelDisplayName",
    "learning_rate": f"{HYPER}.learningRate",
    "learning_rate_multiplier": f"{HYPER}.learningRateMultiplier",
    "batch_size": f"{HYPER}.batchSize",
    "train_steps": f"{HYPER}.epochCount",
    "location": "location",
}
"""Parameter of the run -> field of the request."""


def request_problems(job: TuningJob, location: str) -> Iterator[str]:
    """Everything but the base model and the files."""
    yield from _one_source_and_spec(job)
    if len(job.tuned_model_display_name) > MAX_NAME:
        yield f"tunedModelDisplayName: has {len(job.tuned_model_display_name)} characters; expected at most {MAX_NAME}. Leave it out for a random name."
    if "\0" in job.tuned_model_display_name:
        yield "tunedModelDisplayName: holds a NUL, which no name can have."
    yield from label_problems(job.labels)
    if key := job.encryption_spec.kms_key_name:
        match = KEY_NAME.fullmatch(key)
        if not match:
            yield f"encryptionSpec.kmsKeyName: found {key!r}; expected projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY. Give the whole name."
        elif location not in (LOCATION, match[1]):
            yield f"encryptionSpec.kmsKeyName: found a key in {match[1]!r}; expected one in {location!r}, where the job is. Give one of that region."
    if job.supervised_tuning_spec:
        yield from _hyper_parameter_problems(job.supervised_tuning_spec.hyper_parameters)


def _one_source_and_spec(job: TuningJob) -> Iterator[str]:
    if job.base_model and job.pre_tuned_model:
        yield "baseModel: found together with preTunedModel; a job begins with one model. Leave one of the two out."
    if not job.base_model and not job.pre_tuned_model:
        yield "baseModel: is missing; expected the reference of a base model, or preTunedModel."
    if job.custom_base_model and job.pre_tuned_model:
        yield "customBaseModel: found together with preTunedModel, which has weights of its own. Leave one of the two out."
    others = [to_camel(name) for name in OTHER_SPECS if getattr(job, name)]
    for name in others:
        yield f"{name}: this way of tuning is not available; only {SPEC} is. Leave it out."
    spec = job.supervised_tuning_spec
    if spec is None and not others:
        yield f"{SPEC}: is missing; expected an object with trainingDatasetUri."
    if spec and not spec.training_dataset_uri:
        yield f"{SPEC}.trainingDatasetUri: is missing; expected the training examples, a JSONL file at a gs:// URI or an absolute path."
    for place, config in (("", job.evaluation_config), (f"{SPEC}.", spec.evaluation_config if spec else {})):
        if config:
            yield f"{place}evaluationConfig: answers are not judged by another model here. Leave it out; loss, accuracy and text metrics are in the report."


def _hyper_parameter_problems(given: HyperParameters) -> Iterator[str]:
    for name, count in (("epochCount", given.epoch_count), ("batchSize", given.batch_size)):
        if count is not None and count < 1:
            yield f"{HYPER}.{name}: found {count}; expected 1 or more. Leave it out for the recommended value."
    for name, rate in (("learningRate", given.learning_rate), ("learningRateMultiplier", given.learning_rate_multiplier)):
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            yield f"{HYPER}.{name}: found {rate}; expected a number above 0. Leave it out for the recommended value."
    if given.learning_rate is not None and given.learning_rate_multiplier is not None:
        yield f"{HYPER}.learningRate: found together with learningRateMultiplier; only one of the two can be set."


def model_problems(spec: SupervisedTuningSpec, base: BaseModel) -> Iterator[str]:
    """Whether the base model can be tuned in the way that is asked for, on this machine."""
    row, mode, size = base.row, spec.tuning_mode, spec.hyper_parameters.adapter_size
    name = f"{row.reference}, the stand-in for {base.resolved.reference}," if base.resolved.stands_in else row.reference
    if row.architecture not in ARCHITECTURES:
        yield f"baseModel: {name} is a {row.architecture}, which cannot be loaded here yet; expected one of {', '.join(sorted(ARCHITECTURES))}."
    only_full = "Leave it out, and all weights are tuned." if "FULL" in row.modes else "Take another baseModel."
    if mode != NO_MODE and mode.removeprefix("TUNING_MODE_") not in row.modes:
        expected = " or ".join(f"TUNING_MODE_{known}" for known in row.modes)
        yield f"{SPEC}.tuningMode: found {mode}; {name} is tuned with {expected} only. {only_full if mode == PEFT_ADAPTER else 'Take another baseModel.'}"
    elif mode == PEFT_ADAPTER:
        yield f"{SPEC}.tuningMode: found {mode}; tuning with adapters is not built yet. {only_full}"
    elif "FULL" not in row.modes:
        yield f"baseModel: {name} is tuned with adapters only, and tuning with adapters is not built yet. Take another baseModel."
    if size != NO_SIZE and mode == FULL:
        yield f"{HYPER}.adapterSize: found {size} with {FULL}; only adapters have a size. Leave it out."
    elif size != NO_SIZE and mode == NO_MODE:
        yield f"{HYPER}.adapterSize: found {size}; tuning with adapters is not built yet. {only_full}"


def template_of(kind: Kind, data_format: str) -> str:
    """The template that tunes a model of this kind on data of this form."""
    fitting = [name for name, kinds in KINDS.items() if kind in kinds]
    wanted = "tune-large-chat-model" if data_format in CHAT_FORMATS else "tune-large-model"
    return wanted if wanted in fitting else fitting[0]


def is_open(reference: str) -> bool:
    """Whether a reference is an open model's, `publisher/model@version`. The others are those of hosted models."""
    return "/" in reference


def share_problem(training: int, validation: int) -> str:
    """What is wrong with the number of validation examples of an open model, or nothing."""
    most = math.floor(training * VALIDATION_SHARE)
    if validation <= most:
        return ""
    found = f"{validation:,} examples; expected at most {most:,}, a quarter of the {training:,} training examples"
    return f"{SPEC}.validationDatasetUri: {found}. Leave some out, or train on more."
