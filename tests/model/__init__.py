"""A model of everything that instances do together, and a driver that holds the real ones against it."""
