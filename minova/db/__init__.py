"""The database: models, queries and migrations. Only conductors open it."""
