-- Subjects get namespaces: client:<id> for OAuth clients, key:<id> for keys of the command line. Before, a client
-- called like a key's owner or like the command line (cli) was taken for it, and disabling it ended both.

-- Whose budget of requests the key draws on. NULL: its owner's, for keys made by a server of an older version.
ALTER TABLE api_keys ADD COLUMN account text;

-- Until when tokens of this client may have been issued whose subject is the bare client id: by servers of an
-- older version, which go on for a while when servers are replaced one by one.
ALTER TABLE oauth_clients ADD COLUMN bare_subject_until timestamptz;
UPDATE oauth_clients SET bare_subject_until = now() + interval '1 day';

-- A key belongs to the client of its owner's name only if that client can have made it: it had a token by then,
-- was not disabled yet (a process may have been two seconds behind), and holds the key's projects itself.
UPDATE api_keys AS k SET owner = CASE
    WHEN k.owner = 'key-' || k.key_id THEN 'key:' || k.key_id
    WHEN EXISTS (
        SELECT FROM oauth_clients AS c
        WHERE c.client_id = k.owner AND c.last_used_at IS NOT NULL AND 'keys:manage' = ANY (c.scopes)
          AND k.created_at BETWEEN c.created_at AND coalesce(c.disabled_at + interval '1 minute', 'infinity')
          AND (k.projects <@ c.projects OR c.projects = '{*}')
    ) THEN 'client:' || k.owner
    WHEN k.owner LIKE 'key-%' AND EXISTS (SELECT FROM api_keys AS p WHERE p.key_id = substr(k.owner, 5))
        THEN 'key:' || substr(k.owner, 5)
    ELSE k.owner
END;

-- As server/access/subjects.py names accounts. The projects of a key are stored sorted.
UPDATE api_keys SET account = CASE
    WHEN rate_limit_per_minute IS NOT NULL THEN 'key:' || key_id
    WHEN owner LIKE '%:%' THEN owner
    ELSE owner || ' ' || encode(sha256(convert_to(array_to_string(projects, ','), 'UTF8')), 'hex')
END;

-- What servers have verified so far was judged by the old names.
UPDATE access_version SET version = version + 1;
