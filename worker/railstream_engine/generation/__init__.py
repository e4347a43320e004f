"""One answer: the model's parts go through the rails to a sink."""
