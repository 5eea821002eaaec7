"""Between messages and the values of the service."""
