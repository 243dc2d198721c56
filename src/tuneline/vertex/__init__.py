"""Google Cloud from the outside: Vertex AI's REST API and Cloud Storage's objects. Imports neither torch nor google-cloud-aiplatform."""
