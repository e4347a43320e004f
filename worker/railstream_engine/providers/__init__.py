"""Chat models behind one port: one folder for each provider."""
