"""Demonstration: web page, tokens, a scripted scenario. Loopback and development secrets only; in no image."""
