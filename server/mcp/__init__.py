"""The Model Context Protocol: questions of agents, answered through the routes of the REST API."""
