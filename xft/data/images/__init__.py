"""Images: their headers, and their pixels."""
