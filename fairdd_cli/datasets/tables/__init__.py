"""Tables that describe images: read as other programs write them, with the files and the categories that they name."""
