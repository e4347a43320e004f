"""From an HTTP request to a queued job."""
