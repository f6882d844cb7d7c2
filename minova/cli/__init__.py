"""The commands of ``minova-manage``, on cliff: one file per noun, and what they share."""
