"""The tasks of a tuning pipeline, and one that ends what they began, as KFP container components: one file each, named like the step in the container."""

from components.deploy_model import deploy_model
from components.evaluate_model import evaluate_model
from components.select_checkpoint import select_checkpoint
from components.transform_dataset import transform_dataset
from components.tune_model import tune_model
from components.undeploy_model import undeploy_model
from components.upload_model import upload_model
from components.validate_parameters import validate_parameters

COMPONENTS = (validate_parameters, transform_dataset, tune_model, evaluate_model, select_checkpoint, upload_model, deploy_model, undeploy_model)

__all__ = [
    "COMPONENTS",
    "deploy_model",
    "evaluate_model",
    "select_checkpoint",
    "transform_dataset",
    "tune_model",
    "undeploy_model",
    "upload_model",
    "validate_parameters",
]
