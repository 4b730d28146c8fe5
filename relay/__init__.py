"""The relay: reads announced events from PostgreSQL by cursor and writes them to their user's WebSockets."""
