"""Requests of Vertex's documentation for curl as they are printed, of which some cannot be read, and what is wrong with these."""

from dataclasses import dataclass

COMMAND = """\
curl -X POST \\
-H "Authorization: Bearer $(gcloud auth print-access-token)" \\
-H "Content-Type: application/json; charset=utf-8" \\
-d @request.json \\
"https://REGION-aiplatform.googleapis.com/v1/projects/PROJECT_ID/locations/REGION/COLLECTION"
"""
CODE_BODY = (
    '{ "displayName": "PIPELINEJOB_DISPLAYNAME", "runtimeConfig": { "gcsOutputDirectory": "gs://OUTPUT_DIR", "parameterValues": { "project": "PROJECT_ID", '
    '"model_display_name": "MODEL_DISPLAYNAME", "dataset_uri": "gs://DATASET_URI", "evaluation_data_uri": "EVAL_DATASET_URI", '
    '"evaluation_interval": "EVAL_INTERVAL", "enable_early_stopping": "ENABLE_EARLY_STOPPING", '
    '"enable_checkpoint_selection": "ENABLE_CHECKPOINT_SELECTION", "tensorboard_resource_id": "TENSORBOARD_RESOURCE_ID", '
    '"location": "MODEL_UPLOAD_REGION", "accelerator_type": "ACCELERATOR_TYPE", "large_model_reference": "code-bison@002", "train_steps": STEPS, '
    '"learning_rate_multiplier": LEARNING_RATE_MULTIPLIER } } '
    '"templateUri": "https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines/tune-large-model/v3.0.0" }'
)
CHAT_BODY = (
    '{ "displayName": "PIPELINEJOB_DISPLAYNAME", "runtimeConfig": { "gcsOutputDirectory": "gs://OUTPUT_DIR", "parameterValues": { "project": "PROJECT_ID", '
    '"model_display_name": "MODEL_DISPLAYNAME", "dataset_uri": "gs://DATASET_URI", "tensorboard_resource_id": "TENSORBOARD_RESOURCE_ID", '
    '"location": "MODEL_UPLOAD_REGION", "accelerator_type": "ACCELERATOR_TYPE", "large_model_reference": "codechat-bison@002", '
    '"default_context": "DEFAULT_CONTEXT", "train_steps": STEPS, "learning_rate_multiplier": LEARNING_RATE_MULTIPLIER } }, '
    '"templateUri": "https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines/tune-large-chat-model/v3.0.0" }'
)
BASIC_BODY = """\
{
  "baseModel": "BASE_MODEL",
  "supervisedTuningSpec" : {
      "training_dataset_uri": "TRAINING_DATASET_URI"
  },
}
"""
ADVANCED_BODY = """\
{
  "baseModel": "BASE_MODEL",
  "supervisedTuningSpec" : {
      "training_dataset_uri": "TRAINING_DATASET_URI",
      "validation_dataset_uri": "VALIDATION_DATASET_URI",
      "hyper_parameters": {
          "epoch_count": EPOCH_COUNT,
          "adapter_size": ADAPTER_SIZE,
          "learning_rate_multiplier": LEARNING_RATE_MULTIPLIER
      },
  },
  "tunedModelDisplayName": "TUNED_MODEL_DISPLAYNAME,
}
"""
CODE_SCRIPT = """\
PROJECT_ID=my-project
DATASET_URI=gs://my-bucket/train.jsonl
EVAL_DATASET_URI=gs://my-bucket/validation.jsonl
OUTPUT_DIR=gs://my-bucket/output
ACCELERATOR_TYPE=GPU
LOCATION=us-central1
curl \\
-X POST \\
-H "Authorization: Bearer $(gcloud auth print-access-token)" \\
-H "Content-Type: application/json; charset=utf-8" \\
"https://${REGION}-aiplatform.googleapis.com/v1/projects/${PROJECT_ID}/locations/${REGION}/pipelineJobs?pipelineJobId=tune-large-model-$(date +%Y%m%d%H%M%S)" -d \\
$'{
"displayName": "'${PIPELINE_NAME}'",
"runtimeConfig": {
"gcsOutputDirectory": "'${OUTPUT_DIR}'",
"parameterValues": {
"project": "'${PROJECT_ID}'",
"model_display_name": "The display name for your model in the UI",
"dataset_uri": "'${DATASET_URI}'",
"evaluation_data_uri:": "'${EVAL_DATASET_URI}'",
"location": "'${LOCATION}'",
"accelerator_type": "'${ACCELERATOR_TYPE}'",
"large_model_reference": "code-bison@002",
"learning_rate_multiplier": 1,
"train_steps": 300
}
},
"templateUri": "https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines/tune-large-model/v3.0.0"
}'
"""  # noqa: E501
CHAT_SCRIPT = """\
PROJECT_ID=my-project
DATASET_URI=gs://my-bucket/chat.jsonl
OUTPUT_DIR=gs://my-bucket/output
ACCELERATOR_TYPE=GPU
LOCATION=us-central1
curl \\
-X POST \\
-H "Authorization: Bearer $(gcloud auth print-access-token)" \\
-H "Content-Type: application/json; charset=utf-8" \\
"https://${REGION}-aiplatform.googleapis.com/v1/projects/${PROJECT_ID}/locations/${REGION}/pipelineJobs?pipelineJobId=tune-large-chat-model-$(date +%Y%m%d%H%M%S)" -d \\
$'{
"displayName": "'${PIPELINE_NAME}'",
"runtimeConfig": {
"gcsOutputDirectory": "'${OUTPUT_DIR}'",
"parameterValues": {
"project": "'${PROJECT_ID}'",
"model_display_name": "your-model-display-name",
"dataset_uri": "'${DATASET_URI}'",
"location": "'${LOCATION}'",
"large_model_reference": "codechat-bison@002",
"train_steps": 300,
"learning_rate_multiplier": 1,
"encryption_spec_key_name": "projects/myproject/locations/us-central1/keyRings/sample-key/cryptoKeys/sample-key"
}
},
"encryptionSpec": {
"kmsKeyName": "projects/myproject/locations/us-central1/keyRings/sample-key/cryptoKeys/sample-key"
"templateUri": "https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines/tune-large-chat-model/v3.0.0"
}'
"""  # noqa: E501
VALUES = {
    "PIPELINEJOB_DISPLAYNAME": "from curl",
    "TUNED_MODEL_DISPLAYNAME": "from curl",
    "MODEL_DISPLAYNAME": "from curl",
    "OUTPUT_DIR": "my-bucket/output",
    "EVAL_DATASET_URI": "gs://my-bucket/validation.jsonl",
    "VALIDATION_DATASET_URI": "gs://my-bucket/validation.jsonl",
    "TRAINING_DATASET_URI": "gs://my-bucket/train.jsonl",
    "gs://DATASET_URI": "gs://my-bucket/train.jsonl",
    "EVAL_INTERVAL": "20",
    "ENABLE_EARLY_STOPPING": "true",
    "ENABLE_CHECKPOINT_SELECTION": "default",
    "MODEL_UPLOAD_REGION": "us-central1",
    "ACCELERATOR_TYPE": "GPU",
    "DEFAULT_CONTEXT": "You know Python.",
    "EPOCH_COUNT": "4",
    "LEARNING_RATE_MULTIPLIER": "1",
    "BASE_MODEL": "gemini-1.0-pro-002",
    "STEPS": "300",
    "ADAPTER_SIZE": '"ADAPTER_SIZE_FOUR"',
}


@dataclass(frozen=True, kw_only=True)
class Printed:
    """A request as the documentation prints it."""

    command: str
    body: str = ""
    """What `request.json` holds."""
    told: str
    """What the answer says about it, or nothing."""
    mended: tuple[tuple[str, str], ...] = ()
    """What has to be replaced to make it one that is accepted."""


PRINTED = {
    "code model": Printed(
        command=COMMAND.replace("COLLECTION", "pipelineJobs"),
        body=CODE_BODY,
        told=r"body: not JSON \(line 1, column \d+: unexpected character, expected ',' or '\}', "
        r"between '.*\"learning_rate_multiplier\": 1 \} \}' and '\"templateUri\": .*'\)\.",
        mended=(('} } "templateUri"', '} }, "templateUri"'),),
    ),
    "chat model": Printed(command=COMMAND.replace("COLLECTION", "pipelineJobs"), body=CHAT_BODY, told=""),
    "script for a code model": Printed(
        command=CODE_SCRIPT,
        told=r"unknown parameter 'evaluation_data_uri:'\. Did you mean 'evaluation_data_uri'\?",
        mended=(('uri:"', 'uri"'),),
    ),
    "script for a chat model": Printed(
        command=CHAT_SCRIPT,
        told=r"body: not JSON \(line 18, column 1: unexpected character, expected ',' or '\}', between '.*sample-key\"' and '\"templateUri\": .*'\)\.",
        mended=(('sample-key"\n"templateUri', 'sample-key"},\n"templateUri'),),
    ),
    "tuning job": Printed(
        command=COMMAND.replace("COLLECTION", "tuningJobs"),
        body=BASIC_BODY,
        told=r"body: not JSON \(line 1, column \d+: trailing comma is not allowed, between '.*/train.jsonl\"  \}' and ',\}'\)\.",
        mended=(("  },\n}", "  }\n}"),),
    ),
    "tuning job with everything": Printed(
        command=COMMAND.replace("COLLECTION", "tuningJobs"),
        body=ADVANCED_BODY,
        told=r"body: not JSON \(line 1, column \d+: trailing comma is not allowed, between '.*\"learning_rate_multiplier\": 1      \}' and ',  \},.*'\)\.",
        mended=(("      },\n  }", "      }\n  }"), ("DISPLAYNAME,\n}", 'DISPLAYNAME"\n}'), ('          "adapter_size": ADAPTER_SIZE,\n', "")),
    ),
    "tuning job without a quotation mark": Printed(
        command=COMMAND.replace("COLLECTION", "tuningJobs").replace("-d @", "--data-binary @"),
        body=ADVANCED_BODY.replace("      },\n  }", "      }\n  }"),
        told=r"body: not JSON \(line 12, column \d+: unexpected control character in string, between '.*\"tunedModelDisplayName\": \"from curl,' and '\}'\)\.",
    ),
    "tuning job with an adapter": Printed(
        command=COMMAND.replace("COLLECTION", "tuningJobs"),
        body=ADVANCED_BODY.replace("      },\n  }", "      }\n  }").replace("DISPLAYNAME,\n}", 'DISPLAYNAME"\n}'),
        told=r"supervisedTuningSpec\.hyperParameters\.adapterSize: found ADAPTER_SIZE_FOUR; tuning with adapters is not built yet\. .*",
    ),
}  # fmt: skip
