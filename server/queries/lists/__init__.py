"""Lists and details: spans, traces, sessions, services and scores."""
