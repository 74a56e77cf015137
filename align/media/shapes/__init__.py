"""Files of shapes, a format a file: bytes become parts (vertices, faces, colours), judged against the file's header."""
