"""Parts that all HTTP surfaces share: connections, the steps of a request, access checks, envelopes and parameters."""
