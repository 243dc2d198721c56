"""Kubeflow from the outside: its pipelines' API, through kfp's own client."""
