"""Files of moving pictures: opened, described, and read at stated times (extra `video`)."""
