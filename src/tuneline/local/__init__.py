"""The embedded engine: runs a compiled template on this machine."""
