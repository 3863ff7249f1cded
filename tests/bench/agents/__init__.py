"""Agent conversations, sent to builds of this program and to peers: ``make bench-agents``."""
