"""A launched job's files: what it takes from Cloud Storage, what it leaves there while it runs, and how it tells its launcher."""
