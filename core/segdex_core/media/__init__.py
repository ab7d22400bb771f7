"""Image decoding, EXIF metadata, and file URIs."""
