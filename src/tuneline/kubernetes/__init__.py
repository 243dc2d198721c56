"""A Kubernetes cluster from the outside. The package `kubernetes` is loaded only when the cluster is asked."""
