"""The worker: takes jobs from the queue, runs them on the engine, and publishes to their streams."""
