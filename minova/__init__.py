"""minova: Nova's conductor and compute service, rebuilt small, with operations that no crash can lose."""
