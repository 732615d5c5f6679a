"""An OpenAI-compatible server for what was trained, and the page that is served with it."""
