"""The OpenAPI description of the REST API and the pages that show it."""
