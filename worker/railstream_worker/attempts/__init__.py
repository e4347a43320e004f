"""One attempt of a job, from its reservation to its terminal event."""
