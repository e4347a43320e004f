"""The view of OpenAI's chat completions."""
