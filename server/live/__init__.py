"""The live tail: spans handed to whoever watches, soon after they are stored."""
