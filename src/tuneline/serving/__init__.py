"""The local endpoint: Vertex predict contract and OpenAI chat completions."""
