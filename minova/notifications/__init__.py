"""What others are told of: the catalogue of events, what each carries, and how it is sent and watched."""
