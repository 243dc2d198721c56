"""The container images: one Dockerfile a role, and what builds, locks, lists and audits them."""
