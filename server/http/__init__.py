"""Parts that all HTTP surfaces share: the steps of a request, access checks, envelopes and parameters."""
