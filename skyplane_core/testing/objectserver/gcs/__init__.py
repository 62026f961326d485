"""The two dialects of Google Cloud Storage, JSON and XML, over the same objects."""
