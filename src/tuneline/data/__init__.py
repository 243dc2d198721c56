"""From JSONL rows to token ids and loss masks. Needs no torch."""
