"""Real daemons on one machine, with a private broker and database: what ``make cluster`` runs."""
