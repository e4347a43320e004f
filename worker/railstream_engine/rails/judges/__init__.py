"""Rails that judge a whole text: models, the user's actions, local detectors."""
