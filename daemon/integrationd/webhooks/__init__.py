"""Webhooks in: what providers send is proved, kept, answered, and only then joined to its call."""
