"""Images: inspection of files, placeholders and image tokens in texts, decoding of pixels."""
