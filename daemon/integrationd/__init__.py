"""A local-first sidecar that keeps every outbound call and delivers it when it can."""

__version__ = "0.1.0"
