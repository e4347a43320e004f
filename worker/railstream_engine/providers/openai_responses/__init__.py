"""OpenAI's Responses in background mode: runs that a provider keeps, and that are read again after a break."""
