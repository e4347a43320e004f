"""The HTTP side: takes requests, queues them, relays what comes back."""
