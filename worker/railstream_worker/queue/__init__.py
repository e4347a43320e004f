"""The job queue: reading, claims and their leases, delivery and its limit."""
