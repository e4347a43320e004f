"""The local stack: a Redis, a gateway and workers as child processes of one supervisor."""
