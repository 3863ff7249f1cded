"""Connections to PostgreSQL and Redis, named SQL statements, and the scope of rows a question may see."""
