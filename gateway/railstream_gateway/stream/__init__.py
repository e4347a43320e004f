"""From a request's Redis Stream to an HTTP response."""
