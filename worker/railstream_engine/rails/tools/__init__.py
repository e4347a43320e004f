"""Rails over tool calls and over tool results."""
