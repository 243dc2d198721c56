"""The tuning service: Vertex-shaped REST on top of the embedded engine."""
