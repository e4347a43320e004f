"""How the events of a stream look to a client: one folder or module for each dialect."""
