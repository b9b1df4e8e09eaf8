"""The HTTP API: requests in, records out."""
