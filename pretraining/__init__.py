"""How the embedded base model was made; see README.md beside this."""
