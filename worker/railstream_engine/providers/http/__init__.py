"""HTTP towards providers: connections, exchanges and event streams."""
