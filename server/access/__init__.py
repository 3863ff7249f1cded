"""Permissions: credentials, principals, roles, audit."""
