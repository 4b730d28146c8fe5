"""The connection to PostgreSQL: session, listener, probe, heartbeat."""
