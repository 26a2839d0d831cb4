"""Our renderings and messages, held against programs that others wrote."""
