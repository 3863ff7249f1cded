"""What the program reports about itself: observations, metrics, logs and spans."""
