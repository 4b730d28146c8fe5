"""The demonstration: a page, a token maker, a story. Loopback only, in no image, refuses a real secret."""
