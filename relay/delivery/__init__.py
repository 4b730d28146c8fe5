"""From events read to frames written: the hub and what it keeps per client."""
