"""Delivery: from a leased call to a settled one."""
