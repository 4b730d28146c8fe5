"""Sending pushes: the lease and the outcome are the database's, here is the HTTP request."""
