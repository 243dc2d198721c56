"""Metrics, checkpoint selection and the report."""
