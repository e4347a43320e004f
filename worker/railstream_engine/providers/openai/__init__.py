"""OpenAI and everything that speaks its wire."""
