"""Rails: what reads the messages, the answer and the tool calls, and decides."""
