"""Model files: `spec.json`, bundles, runtimes and inspection."""
