"""Tuneline: an open, self-hosted `tune-large-model` on Kubeflow Pipelines, PyTorch and transformers."""

__version__ = "0.1.0"

__all__ = ["__version__"]
