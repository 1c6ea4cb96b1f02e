"""Programs and servers that IterSeg starts, and that end when it ends."""
