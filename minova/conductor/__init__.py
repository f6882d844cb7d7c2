"""minova-conductor: the database, the scheduler, and every operation from submission to its end."""
