"""Virt drivers: what runs the guests of a host, behind one Protocol."""
