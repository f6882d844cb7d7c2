"""Which host: filters narrow in SQL, weighers rank, a claim takes the room."""
