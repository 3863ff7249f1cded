-- name: session_state
-- Two open connections with the same backend are lent one by a pooler.
SELECT pg_backend_pid(), current_user::text, current_setting('statement_timeout');
