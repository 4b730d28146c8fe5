"""WebSocket protocols on uvicorn: handshake, limits, the push and stock kinds."""
