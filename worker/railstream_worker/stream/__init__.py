"""Writing to a request's Redis Stream, fenced by entry ids."""
