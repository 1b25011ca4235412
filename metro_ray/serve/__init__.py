"""Serving: one HTTP API over batched networks on Ray Serve; see docs/serving.md."""
