"""Input rails over all that the model is about to see."""
