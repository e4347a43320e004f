"""Output rails over a stream: what they hold back, release, rewrite and block."""
