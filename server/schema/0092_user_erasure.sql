-- Erasure of a user: its name in the rollups, which outlive spans, is replaced by the API (DELETE /api/v1/users/{user_id}).
GRANT INSERT, UPDATE ON actor_names TO observatory_api;
