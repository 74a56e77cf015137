"""The kit that every HTML page is made of: template, style, scripts, and the faces of samples."""
