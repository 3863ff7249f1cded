"""Output for a person at the terminal."""
