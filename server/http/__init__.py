"""Parts that all HTTP surfaces share: connections, the way of a request, access checks, envelopes and parameters."""
