"""Steps that compute elsewhere: what is to be run, where it runs, waiting for it, and handing on what it made."""
