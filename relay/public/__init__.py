"""What RELAY_BIND serves."""
