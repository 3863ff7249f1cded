"""Requests as bytes: connections, checked heads and bodies, deadlines, and what is noted about each request."""
