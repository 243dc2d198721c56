"""Models in memory: loading, exact packed attention, loss, scoring and generation."""
