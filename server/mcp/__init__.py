"""The Model Context Protocol (MCP): tools for agents, answered through the routes of the REST API."""
