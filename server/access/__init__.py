"""Who may do what: credentials, principals, roles, audit."""
