"""What RELAY_ADMIN_BIND serves."""
