"""Files of shapes, a format a file: bytes to parts (vertices, faces, colours), checked against the file's header."""
