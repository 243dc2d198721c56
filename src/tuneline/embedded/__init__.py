"""Package data: the compiled templates and the embedded base model, so that an installed wheel alone can run the main job."""
