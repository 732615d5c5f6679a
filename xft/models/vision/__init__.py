"""Vision-language models: processor, parts, and the isolation of packed samples."""
